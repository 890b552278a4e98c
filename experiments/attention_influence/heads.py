"""Heads: are retrieval heads a property of the model or of the probes, and when do our own targets get some?

Two pages. Hypotheses, plan and expectations were written before any run of this experiment.

`stability`. Hypothesis (AttentionInfluence, Section 3, after Wu et al., arXiv 2404.15574): the heads that
copy are the model's, so its top 5 % is the same whatever the probes look like. Each variant changes one
thing and measures all heads anew: the probes' seed; their length; their form (the paper's, three
demonstrations and values of up to 30 tokens, does not fit into 256 tokens, so one demonstration and values
of up to 15 are measured at 256 tokens and, to tell form from length, at 1,024); and where the sentences come
from (the whole pool, or one domain of it: prose, reference, mathematics, code). Code has hardly any natural
sentences, 3 in the pool's 130 kB, so thirty times as much of it is read.

Against the hypothesis: a variant shares less than half of its top with the default's. A variant differs at
all if it shares fewer heads than 95 % of pairs of disjoint draws of as many probes do. The pairs are drawn
from the probes of the default and of the other seeds; what they share is printed as a row of its own, since
it is what the draw of probes alone does. With so few variants and so coarse a measure (one head is 7 % of
the top) this is a description, not a test.

How few probes suffice is read off the same probes without another pass: many random subsets of n, each
compared with the top of the probes *not* drawn, so never with itself.

Known when this was written: the halves of 800 probes of 4,096 tokens agree on all 14 heads, 64 probes of
1,024 tokens find 13 of them (docs/LOG.md), the halves of the 48 laptop probes correlate at 0.91 over all
heads. Expected: other seeds, 2,048 tokens and other sentences share 12 to 14 of 14 with the default, 512
tokens and the plain form at least 11; answer accuracy falls with length; 8 probes share four fifths of the
top with the others, 24 probes nine tenths.

`maps`. Hypothesis (Olsson et al., arXiv 2209.11895): heads that copy form during training, all at once; a
map of all heads shows when. The full-pool targets of `attention_influence/main` are trained again, each kept
before its first update and after doubling numbers of tokens: losses and heads move on a logarithmic scale,
and even steps would spend nearly all maps on its end. Criterion: the one without which `airlab heads`
refuses a model, one-sided p < 0.01 over all heads of a checkpoint; checkpoints are not corrected for their
number. Every row names the score from which a head would have been found with 80 % probability.

Expected at laptop scale: no head above chance at any checkpoint. A target of 2.4 million parameters sees 0.3
million tokens, orders of magnitude fewer than copying heads were seen to need. Then the page shows that the
measurement reads nothing where there is nothing, and no more than that; that it finds a head where one was
built in is a test's business (`tests/unit/heads/test_planted_head.py`, `test_head_maps.py`).

At `scale=h100` the targets are those of `improved_scratch`, 31 million parameters on 60 million tokens of the
large pool. Known before that run: five of 72 heads copied more than a tenth in a model of this size that had
read a smaller pool twice (docs/LOG.md, selector size). Expected in every seed: no head above chance up to 7.5
million tokens, some at 60, and most of the best score gained within one doubling, which is what "all at once"
means where tokens double from map to map. Against it: heads above chance from the start, or scores that grow
by the same factor with every doubling.

Time at laptop scale on two CPU cores, estimated: 48 probes of 1,024 tokens take 48 to 65 s. The default, two
seeds, one plain form and four domains are eight such runs; 512, 2,048 and 256 tokens together take two and a
half. That is 8.5 to 11.5 minutes, and half a minute for the domains' pools. Three trainings of 40 s, 2
minutes; 18 maps of 64 probes of 512 tokens in a model a fiftieth of SmolLM2's size, mostly loading, 1 to 2.
In all 12 to 16 minutes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from airlab.errors import UserError
from airlab.heads.maps import read_map
from airlab.heads.ranking import HeadRanking, read_ranking
from airlab.heads.results import counted_results
from airlab.heads.stability import DrawnAgreement, drawn_agreement
from airlab.randomness import generator
from airlab.reporting.findings import Findings
from airlab.reporting.heads import MappedMoment, Maps, Measured, Stability, maps_page, stability_page
from airlab.reporting.pages import Page
from airlab.reporting.tables import IncompleteTable
from airlab.schema.base import Frozen
from airlab.schema.corpus import PoolCorpus
from airlab.schema.evaluation import EvaluationSpec
from airlab.schema.heads import Probes
from airlab.schema.text import Domain, PoolSpec
from airlab.stages.build_mixture import BuildMixture
from airlab.stages.build_pool import BuildPool
from airlab.stages.detect_heads import DetectHeads, probe_results
from airlab.stages.inputs import corpus_stage, model_input, tokenized_stage
from airlab.stages.map_heads import MapHeads
from airlab.stages.pretrain_trajectory import ListMoments, PretrainTrajectory, TakeMoment, read_moments
from airlab.store.stage import Stage
from airlab.store.store import Store
from airlab.text.sentences import sentences
from experiments.attention_influence.comparison import target_tokenizer
from experiments.base import Experiment

__all__ = ["Config", "find", "selections", "targets"]

DEFAULT = "default"


class PlainProbes(Frozen):
    """Probes in a form that takes fewer tokens."""

    demonstrations: PositiveInt
    max_value_tokens: PositiveInt
    max_tokens: tuple[Annotated[int, Field(ge=256)], ...]


class SentenceSource(Frozen):
    """One domain of the pool, read for sentences alone."""

    domain: Domain
    bytes: PositiveInt


class Config(Experiment):
    """What `configs/experiment/attention_influence/heads.yaml` binds to; nothing is scored or selected.

    The masking's share of heads is the top that is compared.
    """

    name: Literal["attention_influence/heads"]
    evaluation: EvaluationSpec
    probe_seeds: tuple[int, ...]
    probe_tokens: tuple[PositiveInt, ...]
    plain_probes: PlainProbes
    sentence_sources: tuple[SentenceSource, ...]
    subset_sizes: tuple[PositiveInt, ...]
    """Larger ones than half of all probes of the default's form are left out."""
    subset_draws: PositiveInt
    halvings: NonNegativeInt
    map_probes: Probes

    @model_validator(mode="after")
    def _targets_hold_the_probes(self) -> Self:
        if self.map_probes.max_tokens > self.target.context:
            raise ValueError(
                f"map_probes.max_tokens={self.map_probes.max_tokens} exceeds the target's context of "
                f"{self.target.context} tokens"
            )
        return self


@dataclass(frozen=True)
class Variant:
    """One way to look for the same model's heads."""

    name: str
    changes: str
    """Which of the probes' properties it changes; nothing in the default."""
    stage: DetectHeads


def variants(config: Config) -> tuple[Variant, ...]:
    """The default first, then everything that is compared with it.

    Raises:
        UserError: sentences of one domain are asked for where documents have no known domains.
    """
    default = DetectHeads(
        model_input(config.model), corpus_stage(config.corpus), config.probes, config.detection
    )
    return (Variant(DEFAULT, "", default), *_others(config, default))


def _others(config: Config, default: DetectHeads) -> Iterator[Variant]:
    def changed(name: str, what: str, **changes: int) -> Variant:
        # Validated: a model's copy is not.
        probes = Probes.model_validate({**config.probes.model_dump(), **changes})
        return Variant(name, what, DetectHeads(default.model, default.corpus, probes, config.detection))

    for seed in config.probe_seeds:
        yield changed(f"seed-{seed}", "seed", seed=seed)
    for tokens in config.probe_tokens:
        yield changed(f"tokens-{tokens}", "length", max_tokens=tokens)
    plain = config.plain_probes
    for tokens in plain.max_tokens:
        yield changed(
            f"plain-{tokens}",
            "form",
            max_tokens=tokens,
            demonstrations=plain.demonstrations,
            max_value_tokens=plain.max_value_tokens,
        )
    for source in config.sentence_sources:
        if not isinstance(config.corpus, PoolCorpus):
            raise UserError(
                "sentences of one domain are taken from the pool; use corpus=pool or sentence_sources=[]."
            )
        corpus = BuildPool(_only(config.corpus.pool, source))
        stage = DetectHeads(default.model, corpus, config.probes, config.detection)
        yield Variant(f"sentences-{source.domain}", "sentences", stage)


def _only(pool: PoolSpec, wanted: SentenceSource) -> PoolSpec:
    """The pool's recipe for one domain."""
    domain = wanted.domain
    sources = tuple(source for source in pool.sources if source.domain == domain)
    wheels = {source.wheel for source in sources}
    return PoolSpec(
        wheels=tuple(pin for pin in pool.wheels if pin.name in wheels),
        sources=sources,
        bytes_per_domain={domain: wanted.bytes},
        heldout_bytes_per_domain={},
        reasoning=pool.reasoning if domain == "reasoning" else None,
        min_characters=pool.min_characters,
        max_characters=pool.max_characters,
        near_duplicate_threshold=pool.near_duplicate_threshold,
        seed=pool.seed,
    )


def trajectories(config: Config) -> tuple[PretrainTrajectory, ...]:
    """The full-pool target of every seed, kept at several moments."""
    corpus = corpus_stage(config.corpus)
    tokenizer = target_tokenizer(config.target, corpus, lambda: model_input(config.model))
    tokenized = tokenized_stage(config.corpus, corpus, tokenizer)
    found = []
    for seed in config.seeds:
        mixture = BuildMixture(
            tokenized,
            None,
            config.mixture,
            budget_tokens=config.training.budget_tokens,
            context=config.target.context,
            seed=seed,
        )
        found.append(
            PretrainTrajectory(mixture, tokenizer, config.target, config.training, seed, config.halvings)
        )
    return tuple(found)


def maps(config: Config, trajectory: PretrainTrajectory) -> tuple[MapHeads, ...]:
    """A map for each moment of a trajectory, in the order of training."""
    corpus = corpus_stage(config.corpus)
    return tuple(
        MapHeads(TakeMoment(trajectory, number), corpus, config.map_probes, config.detection)
        for number in range(trajectory.n_moments)
    )


def targets(config: Config) -> dict[str, Stage]:
    """Every variant's ranking, every trajectory's list of moments, and the map of each of them."""
    found: dict[str, Stage] = {f"probes/{variant.name}": variant.stage for variant in variants(config)}
    for trajectory in trajectories(config):
        name = f"seed-{trajectory.seed}"
        found[f"moments/{name}"] = ListMoments(trajectory)
        for number, stage in enumerate(maps(config, trajectory)):
            found[f"map/{name}/{number}"] = stage
    return found


def find(config: Config, store: Store, *, partial: bool = False) -> Findings:
    """Both pages, from finished artifacts; with `partial`, those that are complete.

    Raises:
        IncompleteTable: something has no result and `partial` is off.
    """
    pages: list[Page] = []
    for make in (_stability, _maps):
        try:
            pages.append(make(config, store))
        except IncompleteTable:
            if not partial:
                raise
    return Findings(pages=tuple(pages))


def selections(config: Config, store: Store) -> Mapping[str, Any]:
    """Nothing is selected."""
    return {}


def _stability(config: Config, store: Store) -> Page:
    known = variants(config)
    folders = {variant.name: _folder(store, variant.name, variant.stage) for variant in known}
    measured = tuple(
        Measured(
            name=variant.name,
            changes=variant.changes,
            probes=variant.stage.probes,
            sentences=_n_sentences(store, variant.stage.corpus),
            ranking=read_ranking(folders[variant.name] / "heads.json"),
        )
        for variant in known
    )
    # Probes of the default's form, of all seeds: none is the same as another.
    alike = [
        result
        for variant in known
        if variant.changes in ("", "seed")
        for result in counted_results(
            probe_results(folders[variant.name]), config.detection.failed_retrievals
        )
    ]
    recall = np.stack([result.recall.ravel() for result in alike])
    top = len(measured[0].ranking.top(config.masking.share_of_heads))
    return stability_page(
        Stability(
            scale=config.scale,
            share_of_heads=config.masking.share_of_heads,
            measured=measured,
            yardstick=_draw(config, recall, measured[0].ranking, top),
            subsets=tuple(
                drawn_agreement(
                    recall,
                    size,
                    len(recall) - size,
                    top,
                    config.subset_draws,
                    generator(0, "subsets of probes", size),
                )
                for size in config.subset_sizes
                if 2 * size <= len(recall)
            ),
            draws=config.subset_draws,
        )
    )


def _n_sentences(store: Store, corpus: Stage) -> int | None:
    """Different sentences that probes can be made of; unknown where the text is not there any more."""
    folder = store.find(corpus)
    if folder is None:
        return None
    texts = pq.read_table(folder / "documents.parquet", columns=["text"])["text"]
    return len(sentences(texts.to_pylist()))


def _draw(config: Config, recall: np.ndarray, default: HeadRanking, top: int) -> DrawnAgreement | None:
    """What the draw of probes alone does; None where there are no second probes of the default's form."""
    if 2 * default.probes > len(recall):
        return None
    random = generator(0, "two draws of probes")
    return drawn_agreement(recall, default.probes, default.probes, top, config.subset_draws, random)


def _maps(config: Config, store: Store) -> Page:
    moments = []
    for trajectory in trajectories(config):
        name = f"seed-{trajectory.seed}"
        kept = read_moments(_folder(store, name, ListMoments(trajectory)))
        for number, (moment, stage) in enumerate(zip(kept, maps(config, trajectory), strict=True)):
            found = read_map(_folder(store, f"{name}, map {number}", stage) / "map.json")
            moments.append(MappedMoment(trajectory.seed, moment.updates, moment.tokens, moment.loss, found))
    return maps_page(Maps(config.scale, config.target, config.map_probes, tuple(moments)))


def _folder(store: Store, name: str, stage: Stage) -> Path:
    folder = store.find(stage)
    if folder is None:
        raise IncompleteTable(f"{name} has no result")
    return folder
