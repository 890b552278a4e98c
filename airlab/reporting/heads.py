"""The pages about heads: does the top depend on the probes, and when do heads form."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from airlab.heads.maps import HeadMap
from airlab.heads.ranking import HeadRanking
from airlab.heads.stability import Agreement, DrawnAgreement, agreement
from airlab.reporting.formats import UNKNOWN, number
from airlab.reporting.pages import Page, Section, numbers
from airlab.schema.heads import Probes
from airlab.schema.training import TargetModel

STRONG = 0.1
"""Score from which Wu et al. (arXiv 2404.15574) call a head a retrieval head."""


@dataclass(frozen=True)
class Measured:
    """A ranking and how it was found.

    Attributes:
        changes: which property of the probes differs from the default's; nothing for the default.
        sentences: different ones that probes could be made of; None if unknown.
    """

    name: str
    changes: str
    probes: Probes
    sentences: int | None
    ranking: HeadRanking

    @property
    def scores(self) -> np.ndarray:
        """Float64 [heads], layer by layer."""
        flat = np.empty(len(self.ranking.heads))
        for head in self.ranking.heads:
            flat[head.layer * self.ranking.heads_per_layer + head.head] = head.retrieval_score
        return flat

    @property
    def strong(self) -> int:
        """Heads that score at least `STRONG`."""
        return sum(head.retrieval_score >= STRONG for head in self.ranking.heads)


@dataclass(frozen=True)
class Stability:
    """What is known about how far a ranking depends on its probes.

    Attributes:
        measured: the default first.
        yardstick: agreement of disjoint draws of as many probes as the default has; None if unknown.
        subsets: agreement of few probes with all the others.
        draws: random draws behind each of them.
    """

    scale: str
    share_of_heads: float
    measured: tuple[Measured, ...]
    yardstick: DrawnAgreement | None
    subsets: tuple[DrawnAgreement, ...]
    draws: int

    @property
    def top(self) -> int:
        """Heads in the top."""
        return len(self.measured[0].ranking.top(self.share_of_heads))

    def with_default(self, variant: Measured) -> Agreement:
        """A variant's agreement with the default."""
        return agreement(self.measured[0].scores, variant.scores, self.top)


def stability_page(found: Stability) -> Page:
    """Variants against the default, how few probes suffice, and the default's top."""
    return Page(
        name="stability",
        title=f"Do retrieval heads depend on the probes, scale {found.scale}",
        sections=(_measured(found), _agreements(found), _subsets(found), _top(found)),
        foot=tuple(_stability_foot(found)),
        csv_header=("what", "name", "quantity", "value"),
        csv_rows=tuple((*names, *numbers(value)) for *names, value in _stability_numbers(found)),
    )


def _measured(found: Stability) -> Section:
    rows = []
    for variant in found.measured:
        best = variant.ranking.heads[0]
        rows.append(
            (
                _label(variant),
                str(variant.ranking.probes),
                str(variant.probes.max_tokens),
                UNKNOWN if variant.sentences is None else f"{variant.sentences:,}",
                f"{variant.ranking.answer_accuracy:.2f}",
                str(variant.strong),
                f"{best.layer}.{best.head}",
                f"{best.retrieval_score:.2f} ± {best.stderr:.2f}",
            )
        )
    strong = f"heads ≥ {STRONG}"
    headers = ("probes", "number", "tokens", "sentences", "accuracy", strong, "best", "its score")
    return Section("What was measured", headers, tuple(rows))


def _agreements(found: Stability) -> Section:
    rows = []
    if found.yardstick is not None:
        what = f"two disjoint draws of {found.yardstick.first}, as the default"
        rows.append((what, _drawn_share(found.yardstick, found.top), _drawn_spearman(found.yardstick)))
    for variant in found.measured[1:]:
        same = found.with_default(variant)
        rows.append((_label(variant), f"{same.shared} of {same.count}", number(same.spearman, 2)))
    headers = ("probes", f"top {found.share_of_heads:.0%} shared", "Spearman, all heads")
    return Section("Agreement with the default", headers, tuple(rows))


def _subsets(found: Stability) -> Section:
    rows = tuple(
        (str(part.first), str(part.second), _drawn_share(part, found.top), _drawn_spearman(part))
        for part in found.subsets
    )
    headers = ("probes", "others", f"top {found.share_of_heads:.0%} shared", "Spearman, all heads")
    return Section("How few probes suffice", headers, rows)


def _top(found: Stability) -> Section:
    default, *others = found.measured
    tops = [{(head.layer, head.head) for head in variant.ranking.heads[: found.top]} for variant in others]
    rows = tuple(
        (
            f"{head.layer}.{head.head}",
            f"{head.retrieval_score:.3f}",
            f"{head.stderr:.3f}",
            f"{sum((head.layer, head.head) in top for top in tops)} of {len(tops)}",
        )
        for head in default.ranking.heads[: found.top]
    )
    return Section(
        "The default's top",
        ("layer.head", "retrieval score", "standard error", "variants that have it"),
        rows,
    )


def _stability_foot(found: Stability) -> Iterator[str]:
    default = found.measured[0]
    heads = len(default.ranking.heads)
    yield (
        f"Top: the best {found.top} of {heads} heads; rankings without anything in common would share "
        f"{found.top**2 / heads:.1f}. Heads are counted from 0. Sentences: different ones that probes can be "
        "made of; accuracy: share of the answers' tokens that the model predicts; ± is the standard error "
        "over probes."
    )
    plain = next((variant.probes for variant in found.measured if variant.changes == "form"), None)
    if plain is not None:
        yield (
            "Plain: demonstrations and longest values of "
            f"{plain.demonstrations} and {plain.max_value_tokens} tokens, where the default has "
            f"{default.probes.demonstrations} and {default.probes.max_value_tokens}."
        )
    yield (
        f"Draws are of the probes of the default's form, of all seeds; mean [5 and 95 % quantiles] over "
        f"{found.draws:,} draws. The sets of a draw share no probe, so nothing is compared with itself; "
        "draws overlap one another and share their text, so the quantiles are rather too narrow."
    )
    if found.yardstick is None:
        yield "How much two draws of as many probes as the default's differ is unknown: there is one seed."
        return
    below = [
        _label(variant)
        for variant in found.measured[1:]
        if variant.ranking.probes == default.ranking.probes
        and found.with_default(variant).share < found.yardstick.share_low - 1e-9
    ]
    bound = round(found.yardstick.share_low * found.top)
    yield (
        f"Variants of as many probes that share fewer than the {bound} heads which 95 % of disjoint draws "
        f"share at least: {', '.join(below) if below else 'none'}. A smaller difference than that cannot be "
        "told from the draw of the probes."
    )


def _stability_numbers(found: Stability) -> Iterator[tuple[str, str, str, float | int | None]]:
    for variant in found.measured:
        best = variant.ranking.heads[0]
        same = found.with_default(variant)
        for quantity, value in (
            ("probes", variant.ranking.probes),
            ("tokens", variant.probes.max_tokens),
            ("sentences", variant.sentences),
            ("answer_accuracy", variant.ranking.answer_accuracy),
            ("chance", variant.ranking.chance),
            ("strong_heads", variant.strong),
            ("best_layer", best.layer),
            ("best_head", best.head),
            ("best_score", best.retrieval_score),
            ("best_stderr", best.stderr),
            ("shared", same.shared),
            ("top", same.count),
            ("spearman", same.spearman),
        ):
            yield "variant", variant.name, quantity, value
    drawn = [("subset", part) for part in found.subsets]
    if found.yardstick is not None:
        drawn.append(("two draws", found.yardstick))
    for what, part in drawn:
        for quantity, value in (
            ("others", part.second),
            ("share", part.share),
            ("share_low", part.share_low),
            ("share_high", part.share_high),
            ("spearman", part.spearman),
            ("spearman_low", part.spearman_low),
            ("spearman_high", part.spearman_high),
        ):
            yield what, str(part.first), quantity, value
    for head in found.measured[0].ranking.heads[: found.top]:
        yield "top", f"{head.layer}.{head.head}", "score", head.retrieval_score
        yield "top", f"{head.layer}.{head.head}", "stderr", head.stderr


def _label(variant: Measured) -> str:
    probes = variant.probes
    return {
        "": "default",
        "seed": f"seed {probes.seed}",
        "length": f"{probes.max_tokens:,} tokens",
        "form": f"{probes.max_tokens:,} tokens, plain",
        "sentences": f"{variant.name.removeprefix('sentences-')} alone",
    }[variant.changes]


def _drawn_share(part: DrawnAgreement, top: int) -> str:
    low, high = part.share_low * top, part.share_high * top
    return f"{part.share * top:.1f} of {top} [{low:.0f}, {high:.0f}]"


def _drawn_spearman(part: DrawnAgreement) -> str:
    if part.spearman is None:
        return UNKNOWN
    return f"{part.spearman:.2f} [{part.spearman_low:.2f}, {part.spearman_high:.2f}]"


@dataclass(frozen=True)
class MappedMoment:
    """A checkpoint and its map; loss in nats a token of the training text."""

    seed: int
    updates: int
    tokens: int
    loss: float
    found: HeadMap

    @property
    def name(self) -> str:
        """Of its row."""
        return f"{self.seed}: {self.tokens:,}"


@dataclass(frozen=True)
class Maps:
    """The maps of several targets' checkpoints, target by target, in the order of training."""

    scale: str
    target: TargetModel
    probes: Probes
    moments: tuple[MappedMoment, ...]

    @property
    def last(self) -> tuple[MappedMoment, ...]:
        """The trained targets."""
        return tuple({moment.seed: moment for moment in self.moments}.values())


def maps_page(maps: Maps) -> Page:
    """What every checkpoint's heads can do, and where they are at the end."""
    return Page(
        name="maps",
        title=f"When heads form in targets, scale {maps.scale}",
        sections=(_moments(maps), *map(_map, maps.last)),
        foot=tuple(_maps_foot(maps)),
        csv_header=("seed", "updates", "tokens", "layer", "head", "quantity", "value"),
        csv_rows=tuple((*names, *numbers(value)) for *names, value in _maps_numbers(maps)),
    )


def _moments(maps: Maps) -> Section:
    rows = []
    for moment in maps.moments:
        found = moment.found
        layer, head = found.best
        rows.append(
            (
                moment.name,
                f"{moment.loss:.3f}",
                f"{layer}.{head}",
                f"{found.score[layer][head]:.3f} ± {found.stderr[layer][head]:.3f}",
                f"{found.chance[layer]:.3f}",
                UNKNOWN if found.detectable is None else f"{found.detectable:.3f}",
                str(found.heads_above_chance),
                f"{found.answer_accuracy:.3f}",
            )
        )
    headers = ("seed: tokens", "loss", "best", "its score", "chance", "found from", "heads", "accuracy")
    return Section("Checkpoints", headers, tuple(rows))


def _map(moment: MappedMoment) -> Section:
    scores, above = moment.found.score, moment.found.above_chance
    rows = tuple(
        (
            f"layer {layer}",
            *(f"{score:.3f}{'*' if found else ''}" for score, found in zip(row, marks, strict=True)),
        )
        for layer, (row, marks) in enumerate(zip(scores, above, strict=True))
    )
    headers = ("", *(f"head {head}" for head in range(len(scores[0]))))
    title = f"Retrieval scores, seed {moment.seed} after {moment.tokens:,} tokens (* above chance)"
    return Section(title, headers, rows)


def _maps_foot(maps: Maps) -> Iterator[str]:
    heads = maps.target.layers * maps.target.heads
    yield (
        f"Targets of {maps.target.layers} layers of {maps.target.heads} heads on the full pool, kept "
        f"untrained and after doubling tokens; {maps.probes.count} probes of at most "
        f"{maps.probes.max_tokens:,} tokens. Loss: in training, nats a token, mean of up to eight batches. "
        "± is the standard error over probes; accuracy: share of the answers' tokens that the target "
        "predicts."
    )
    yield (
        f"Heads: those above chance, one-sided p < 0.01 over the {heads} heads of a checkpoint, as in "
        "airlab heads; checkpoints are not corrected for their number. Found from: a head of this score, and "
        "of the checkpoint's largest standard error, would have been found with 80 % probability."
    )
    first = {moment.seed: moment for moment in reversed(maps.moments) if moment.found.heads_above_chance}
    if not first:
        yield (
            f"No head of any checkpoint stands above chance: after {maps.last[0].tokens:,} tokens these "
            "targets have no retrieval heads that would have been found. This page shows that the "
            "measurement reads nothing where nothing is expected, and not when heads form."
        )
        return
    for seed, moment in sorted(first.items()):
        yield f"Seed {seed} has heads above chance first after {moment.tokens:,} tokens."


def _maps_numbers(maps: Maps) -> Iterator[tuple[str, str, str, str, str, str, float | int | None]]:
    for moment in maps.moments:
        names = str(moment.seed), str(moment.updates), str(moment.tokens)
        found = moment.found
        yield *names, "", "", "training_loss", moment.loss
        yield *names, "", "", "answer_accuracy", found.answer_accuracy
        yield *names, "", "", "detectable", found.detectable
        for layer, scores in enumerate(found.score):
            yield *names, str(layer), "", "chance", found.chance[layer]
            for head, score in enumerate(scores):
                at = str(layer), str(head)
                yield *names, *at, "score", score
                yield *names, *at, "stderr", found.stderr[layer][head]
                yield *names, *at, "above_chance", int(found.above_chance[layer][head])
