"""Units for the tests of selectors: with texts, and with whatever a selector says it needs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from airlab.randomness import derive_seed
from airlab.selection.needs import (
    ClassifierScores,
    CuratedOrder,
    HalfLosses,
    LossesOf,
    Need,
    ScoresOf,
    Statistics,
)
from airlab.selection.selectors import make_selector
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units
from airlab.text.statistics import measure_text

CONFIGS = Path(__file__).parents[3] / "configs" / "selector"
COLUMNS = ("unit_id", "domain", "n_tokens", "loss_sum_base", "loss_sum_ref", "entropy_sum_base")
WORDS = np.array(["river", "stone", "music", "winter", "garden", "letter"])


def configured() -> dict[str, SelectorBase]:
    """Every selector as its file in configs/selector sets it, by the file's name."""
    return {p.stem: make_selector(yaml.safe_load(p.read_text())) for p in sorted(CONFIGS.glob("*.yaml"))}


def make_units(count: int = 40, seed: int = 0, domains: tuple[str, ...] = ("prose", "code")) -> Units:
    draw = np.random.default_rng(seed)
    n = draw.integers(1, 400, count)
    base = n * draw.uniform(0.5, 4, count)
    texts = [" ".join(draw.choice(WORDS, k)) for k in n]
    return Units(
        np.array([f"doc-{i}" for i in range(count)], dtype=object),
        draw.choice(domains, count).astype(object),
        n,
        base,
        base * draw.uniform(1, 2, count),
        n * draw.uniform(0.5, 3, count),
        texts=lambda: texts,
    )


def taken(u: Units, rows: np.ndarray) -> Units:
    """These rows of the units, in this order."""
    texts = u.texts()
    return replace(u, **{c: getattr(u, c)[rows] for c in COLUMNS}, texts=lambda: [texts[i] for i in rows])


def scored(selector: SelectorBase, u: Units, seed: int = 0) -> np.ndarray:
    """Scores as a stage gives them: everything that the selector asks for is measured."""
    return selector.score(with_needs(selector, u, seed), seed)


def with_needs(selector: SelectorBase, u: Units, seed: int = 0) -> Units:
    """The units as `selector` sees them in a run."""

    def measured(need: Need) -> Mapping[str, np.ndarray]:
        assert need in selector.needs(), "asked for what it did not say it needs"
        if isinstance(need, ScoresOf):
            part = make_selector({"kind": need.name})
            moved = np.array([derive_seed(2, "made", text) / 2**63 for text in u.texts()])
            own = u if part.control() is None else replace(u, loss_sum_ref=u.loss_sum_ref * (1 + moved))
            return {"score": scored(part, own, seed)}
        if isinstance(need, Statistics):
            found = [measure_text(text) for text in u.texts()]
            return {
                name: np.array([getattr(f, name) for f in found])
                for name in ("compression_ratio", "repetition")
            }
        drawn = np.array([derive_seed(1, "made", text) / 2**63 for text in u.texts()])
        if isinstance(need, LossesOf):
            return {"n_tokens": u.n_tokens, "loss_sum_base": u.loss_sum_base * (0.5 + drawn / 2)}
        if isinstance(need, HalfLosses):
            # Most ratios below 1, some above; units of one token have no second half.
            first = u.n_tokens // 2
            second = u.n_tokens - 1 - first
            return {
                "n_tokens_first": first,
                "loss_sum_first": u.loss_sum_base * first / u.n_tokens,
                "n_tokens_second": second,
                "loss_sum_second": u.loss_sum_base * second / u.n_tokens * (0.8 + drawn),
            }
        if isinstance(need, CuratedOrder):
            return {"order": 1 + np.unique(drawn, return_inverse=True)[1]}
        assert isinstance(need, ClassifierScores)
        return {"score": drawn}

    return replace(u, measured=measured, control=selector.control())
