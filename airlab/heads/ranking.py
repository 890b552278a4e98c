"""HeadRanking: every head with its retrieval score, best first, and whether the order can be trusted."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError
from scipy.stats import spearmanr

from airlab.errors import UserError, first_line
from airlab.heads.results import ProbeResult, counted_results, head_scores
from airlab.models.geometry import Geometry

FORMAT = "airlab-heads/1"


@dataclass(frozen=True)
class RankedHead:
    """One query head.

    Attributes:
        retrieval_score: mean recall of the answer's tokens over probes, 0 to 1.
        stderr: standard error of that mean over probes.
        first_half, second_half: the mean over every other probe.
    """

    layer: int
    head: int
    retrieval_score: float
    stderr: float
    first_half: float
    second_half: float


@dataclass(frozen=True)
class HeadRanking:
    """All heads of a model, best first; ties go to the lower layer, then the lower head.

    Attributes:
        model_digest: sha-256 of the weights the ranking was found in.
        probes: probes that counted.
        answer_accuracy: share of answer tokens that the model predicts, over all probes.
        chance: retrieval score of a head that looks at random visible positions, in the layer where
            it is highest (with sliding windows, layers differ).
        split_half_spearman: rank correlation of heads between the two halves of the probes.
    """

    model_digest: str
    layers: int
    heads_per_layer: int
    probes: int
    answer_accuracy: float
    chance: float
    split_half_spearman: float
    heads: tuple[RankedHead, ...]

    def top(self, share: float) -> tuple[RankedHead, ...]:
        """The best share of heads, at least one, rounded up.

        Raises:
            UserError: the cut falls inside a run of equal scores, so that which heads are masked
                would be an accident of their numbering.
        """
        count = max(1, math.ceil(share * len(self.heads) - 1e-9))
        if (
            count < len(self.heads)
            and self.heads[count - 1].retrieval_score == self.heads[count].retrieval_score
        ):
            raise UserError(
                f"the top {share:.1%} of heads ends inside a run of equal retrieval scores "
                f"({self.heads[count].retrieval_score:.4f}); use more probes or another "
                "masking.share_of_heads."
            )
        return self.heads[:count]

    def split_half_overlap(self, share: float) -> float:
        """Share of the top heads that both halves of the probes agree on."""
        count = max(1, math.ceil(share * len(self.heads) - 1e-9))
        halves = [
            {
                (h.layer, h.head)
                for h in sorted(self.heads, key=lambda h: (-getattr(h, half), h.layer, h.head))[:count]
            }
            for half in ("first_half", "second_half")
        ]
        return len(halves[0] & halves[1]) / count


def rank_heads(
    results: Sequence[ProbeResult], geometry: Geometry, model_digest: str, failed_retrievals: str = "count"
) -> HeadRanking:
    """Average probe results into a ranking.

    Raises:
        UserError: no head stands above chance, or (with `failed_retrievals="skip"`) the model
            answers fewer than two probes: such a ranking would be noise.
    """
    accuracy = float(np.mean([r.accuracy for r in results]))
    counted = counted_results(results, failed_retrievals)
    recall = np.stack([r.recall for r in counted])
    found = head_scores(counted)
    mean, stderr, chance = found.mean, found.stderr, found.chance
    first, second = recall[0::2].mean(axis=0), recall[1::2].mean(axis=0)
    if not found.above_chance.any():
        raise UserError(
            f"no head of this model copies above chance (best score {mean.max():.4f}, "
            f"chance {chance.max():.4f}, answer accuracy {accuracy:.2f}): "
            "it has no retrieval heads to mask; use a stronger model."
        )
    rows = [
        RankedHead(layer, head, *(float(a[layer, head]) for a in (mean, stderr, first, second)))
        for layer in range(geometry.layers)
        for head in range(geometry.heads)
    ]
    rows.sort(key=lambda h: (-h.retrieval_score, h.layer, h.head))
    spearman = float(spearmanr(first.ravel(), second.ravel()).statistic)
    shape = geometry.layers, geometry.heads
    highest = float(chance.max())
    return HeadRanking(model_digest, *shape, len(counted), accuracy, highest, spearman, tuple(rows))


def write_ranking(path: Path, ranking: HeadRanking) -> None:
    """Write a ranking as JSON."""
    path.write_text(json.dumps({"format": FORMAT, **asdict(ranking)}, indent=1) + "\n")


def read_ranking(path: Path) -> HeadRanking:
    """Read a ranking back. It may say more, such as what it was made from.

    Raises:
        UserError: not a ranking of all heads of a model, best first.
    """
    made_by = "make one with `airlab heads`."
    try:
        text = path.read_text()
        if json.loads(text)["format"] != FORMAT:
            raise KeyError("format")
        ranking = _RANKING.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is not a head ranking ({where}: {first['msg']}); {made_by}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a head ranking ({first_line(error)}); {made_by}") from None
    if not _complete(ranking):
        raise UserError(
            f"{path} does not rank each head of its layers once, best first, by scores from 1 to 0; {made_by}"
        )
    return ranking


_RANKING = TypeAdapter(HeadRanking)


def _complete(ranking: HeadRanking) -> bool:
    """Whether every head is there once, best first."""
    shape = ranking.layers, ranking.heads_per_layer
    if min(shape) < 1 or len(ranking.heads) != shape[0] * shape[1]:
        return False
    heads = {(h.layer, h.head) for h in ranking.heads if 0 <= h.layer < shape[0] and 0 <= h.head < shape[1]}
    scores = [1.0, *(h.retrieval_score for h in ranking.heads), 0.0]
    return len(heads) == len(ranking.heads) and all(a >= b for a, b in itertools.pairwise(scores))
