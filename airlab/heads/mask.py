"""HeadMask: which heads are masked, and how."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch

from airlab.errors import UserError
from airlab.heads.ranking import FORMAT, HeadRanking, read_ranking
from airlab.models.attention import MaskMode
from airlab.models.geometry import Geometry
from airlab.models.packed import Reference

_BEYOND = 1 << 31
"""Of layers and heads: what no message should have to spell."""


@dataclass(frozen=True)
class HeadMask:
    """A set of (layer, query head) pairs, sorted, and the mode they are masked in.

    Attributes:
        model_digest: weights the heads were found in, or None if they were listed by hand.
    """

    heads: tuple[tuple[int, int], ...]
    mode: MaskMode = "uniform"
    model_digest: str | None = None

    def check(self, geometry: Geometry, digest: str) -> None:
        """Refuse a model that these heads do not belong to.

        Raises:
            UserError: the ranking was made with other weights, or a head does not exist.
        """
        if self.model_digest is not None and self.model_digest != digest:
            raise UserError(
                "these heads were found in another model (its weights differ); "
                "run `airlab heads` for this one."
            )
        for layer, head in self.heads:
            if not (0 <= layer < geometry.layers and 0 <= head < geometry.heads):
                raise UserError(
                    f"head [{layer}, {head}] does not exist: the model has {geometry.layers} layers of "
                    f"{geometry.heads} heads, counted from 0."
                )

    def reference(self, device: torch.device) -> Reference:
        """The reference model that this mask makes of a base model."""
        by_layer: dict[int, list[int]] = defaultdict(list)
        for layer, head in self.heads:
            by_layer[layer].append(head)
        return Reference({layer: torch.tensor(h, device=device) for layer, h in by_layer.items()}, self.mode)


def top_heads(ranking: HeadRanking, share: float, mode: MaskMode) -> HeadMask:
    """Mask the best share of a ranking (AttentionInfluence, Section 3: the top 5 %)."""
    heads = sorted((h.layer, h.head) for h in ranking.top(share))
    return HeadMask(tuple(heads), mode, ranking.model_digest)


def read_mask(path: Path, share: float, mode: MaskMode) -> HeadMask:
    """A mask from a file: a ranking made by `airlab heads`, or a plain list of `[layer, head]` pairs.

    Args:
        share: share of a ranking's heads to mask; a plain list is masked whole.

    Raises:
        UserError: neither of the two.
    """
    try:
        data = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not JSON ({error}); give a ranking or a list of [layer, head] pairs."
        ) from None
    if isinstance(data, dict) and data.get("format") == FORMAT:
        return top_heads(read_ranking(path), share, mode)
    pairs = data if isinstance(data, list) else None
    if not pairs or not all(
        isinstance(p, list) and len(p) == 2 and all(type(i) is int and abs(i) < _BEYOND for i in p)
        for p in pairs
    ):
        raise UserError(
            f"{path} is neither a ranking made by `airlab heads` nor a JSON list of [layer, head] pairs."
        )
    return HeadMask(tuple(sorted({(layer, head) for layer, head in pairs})), mode)


def strongest_head(path: Path) -> tuple[int, int]:
    """The head that stands first in a file of heads: the best of a ranking, or the first pair of a list.

    Either is masked, whatever the share. The file is one that `read_mask` has read.
    """
    data = json.loads(path.read_text())
    if isinstance(data, dict):
        best = read_ranking(path).heads[0]
        return best.layer, best.head
    layer, head = data[0]
    return layer, head
