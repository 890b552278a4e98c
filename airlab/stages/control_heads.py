"""Heads to mask that are not the retrieval heads: controls."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from airlab.schema.machine import Machine
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir

if TYPE_CHECKING:
    from airlab.heads.ranking import HeadRanking


Head = tuple[int, int]
"""Layer and query head."""


def _draw(
    work: Workdir,
    heads: Stage | Files,
    share_of_heads: float,
    choose: Callable[[list[Head], "HeadRanking"], Sequence[Head]],
) -> None:
    """Write the heads chosen beside the ranking's top share."""
    from airlab.heads.ranking import read_ranking

    ranking = read_ranking(heads.path if isinstance(heads, Files) else work.input(heads) / "heads.json")
    top = [(h.layer, h.head) for h in ranking.top(share_of_heads)]
    drawn = choose(top, ranking)
    with work.writing("heads.json") as out:
        out.write_text(json.dumps([list(pair) for pair in drawn]) + "\n")
    work.note(heads=len(drawn), of_the_top=len(set(drawn) & set(top)))


@dataclass(frozen=True)
class ControlHeads(Stage):
    """`heads.json`: random heads, as many in each layer as the ranking's top share has there.

    The mask of the selector `random_heads`, and a control in the masking check that the paper does not have.
    Drawn among the layer's other heads; where they do not suffice, the rest comes from the ranking's top
    and the record says how many. A list of `[layer, head]` pairs, so it is masked whole.
    """

    VERSION: ClassVar[int] = 1
    heads: Stage | Files
    """A ranking: the stage that made it, or an exported one."""
    share_of_heads: float
    draw: int

    def slug(self) -> str:
        return f"draw-{self.draw}"

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.heads.control import same_layer_heads

        _draw(
            work,
            self.heads,
            self.share_of_heads,
            lambda top, ranking: same_layer_heads(top, ranking.heads_per_layer, self.draw),
        )


@dataclass(frozen=True)
class RandomHeads(Stage):
    """`heads.json`: random heads of any layer, as many as the ranking's top share and none of it.

    The random mask of AttentionInfluence's masking check (Table 6). A list of `[layer, head]` pairs, so it is
    masked whole.
    """

    VERSION: ClassVar[int] = 1
    heads: Stage | Files
    """A ranking: the stage that made it, or an exported one."""
    share_of_heads: float
    draw: int

    def slug(self) -> str:
        return f"draw-{self.draw}"

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.heads.control import other_heads

        _draw(
            work,
            self.heads,
            self.share_of_heads,
            lambda top, ranking: other_heads(top, ranking.layers, ranking.heads_per_layer, self.draw),
        )


@dataclass(frozen=True)
class LastHead(Stage):
    """`heads.json`: one head of the last layer, where only a model's own losses are wanted.

    The scoring pass always measures a reference model too; this is the cheapest one, and its losses are
    not to be used.
    """

    VERSION: ClassVar[int] = 1
    model: Model

    def run(self, work: Workdir, machine: Machine) -> None:
        settings = json.loads((model_folder(work, self.model) / "config.json").read_text())
        with work.writing("heads.json") as out:
            out.write_text(json.dumps([[settings["num_hidden_layers"] - 1, 0]]) + "\n")
