"""HeadMap: every head's retrieval score in its place, for any model, one without retrieval heads included."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from airlab.heads.results import ProbeResult, counted_results, head_scores

_POWER = 0.8

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class HeadMap:
    """Retrieval scores of a model's heads; rows are layers, lowest first.

    Attributes:
        model_digest: sha-256 of the weights.
        probes: probes that counted.
        answer_accuracy: share of answer tokens that the model predicts, over all probes.
        score, stderr: mean over probes, and its standard error.
        chance: for each layer, the score of a head that looks at random visible positions.
        above_chance: by the criterion that decides whether a ranking is made of a model at all.
    """

    model_digest: str
    probes: int
    answer_accuracy: float
    score: Rows
    stderr: Rows
    chance: tuple[float, ...]
    above_chance: tuple[tuple[bool, ...], ...]
    detectable: float | None
    """A head of this score, and of the largest standard error here, would have been found above chance with
    80 % probability. None where all probes say the same of every head: then the error is unknown."""

    @property
    def best(self) -> tuple[int, int]:
        """Layer and head of the highest score; ties go to the lower layer, then the lower head."""
        layer, head = np.unravel_index(int(np.argmax(self.score)), np.shape(self.score))
        return int(layer), int(head)

    @property
    def heads_above_chance(self) -> int:
        """How many."""
        return int(np.sum(self.above_chance))


def map_heads(results: Sequence[ProbeResult], model_digest: str, failed_retrievals: str = "count") -> HeadMap:
    """Average probe results head by head.

    Raises:
        UserError: with `failed_retrievals="skip"`, the model answers fewer than two probes.
    """
    counted = counted_results(results, failed_retrievals)
    found = head_scores(counted)
    return HeadMap(
        model_digest,
        len(counted),
        float(np.mean([r.accuracy for r in results])),
        tuple(map(tuple, found.mean.tolist())),
        tuple(map(tuple, found.stderr.tolist())),
        tuple(found.chance.tolist()),
        tuple(map(tuple, found.above_chance.tolist())),
        found.detectable(_POWER),
    )


def write_map(path: Path, found: HeadMap) -> None:
    """Write a map as JSON."""
    path.write_text(json.dumps(asdict(found), allow_nan=False) + "\n")


def read_map(path: Path) -> HeadMap:
    """Read a map back."""
    data = json.loads(path.read_text())
    rows = {name: tuple(map(tuple, data[name])) for name in ("score", "stderr", "above_chance")}
    return HeadMap(**data | rows | {"chance": tuple(data["chance"])})
