"""Random heads to compare retrieval heads with."""

from collections.abc import Sequence

from airlab.errors import UserError
from airlab.randomness import generator


def same_layer_heads(
    masked: Sequence[tuple[int, int]], heads_per_layer: int, draw: int
) -> tuple[tuple[int, int], ...]:
    """Random heads, as many in each layer as `masked` has, and none of `masked` as far as possible.

    Args:
        masked: (layer, head) pairs, counted from 0.
        heads_per_layer: query heads of a layer.
        draw: number of the draw; each layer's heads depend on it and the layer alone.

    Returns:
        (layer, head) pairs, sorted. Where more than half of a layer is masked, its other heads are all
        taken and the rest is drawn from the masked ones.
    """
    drawn: list[tuple[int, int]] = []
    for layer in sorted({layer for layer, _ in masked}):
        taken = sorted(head for where, head in masked if where == layer)
        others = [head for head in range(heads_per_layer) if head not in taken]
        random = generator(draw, "control heads", layer)
        order = [*random.permutation(others).tolist(), *random.permutation(taken).tolist()]
        drawn += [(layer, int(head)) for head in order[: len(taken)]]
    return tuple(sorted(drawn))


def other_heads(
    masked: Sequence[tuple[int, int]], layers: int, heads_per_layer: int, draw: int
) -> tuple[tuple[int, int], ...]:
    """Random heads of any layer, as many as `masked` has and none of `masked`.

    Args:
        masked: (layer, head) pairs, counted from 0.
        heads_per_layer: query heads of a layer.
        draw: number of the draw.

    Returns:
        (layer, head) pairs, sorted.

    Raises:
        UserError: more than half of the model's heads are masked.
    """
    others = [(i, j) for i in range(layers) for j in range(heads_per_layer) if (i, j) not in set(masked)]
    if len(others) < len(masked):
        raise UserError(
            f"{len(masked)} of {layers * heads_per_layer} heads are masked, too many to draw as many others; "
            "use a masking.share_of_heads of one half or less."
        )
    drawn = generator(draw, "other heads").choice(len(others), len(masked), replace=False)
    return tuple(sorted(others[int(i)] for i in drawn))
