"""The pages about heads say what was measured, what was not, and when a difference is none."""

from collections.abc import Iterable

import numpy as np
import pytest

from airlab.heads.maps import HeadMap
from airlab.heads.ranking import HeadRanking, RankedHead
from airlab.heads.stability import DrawnAgreement
from airlab.reporting.heads import (
    MappedMoment,
    Maps,
    Measured,
    Stability,
    maps_page,
    stability_page,
)
from airlab.reporting.pages import Page, render_csv, render_page
from airlab.schema.heads import Probes
from airlab.schema.training import TargetModel

LAYERS, HEADS = 2, 10


def ranking(order: Iterable[int], probes: int = 48) -> HeadRanking:
    """Heads by flat number, best first, from 0.95 in steps of 0.05 down to 0."""
    rows = tuple(
        RankedHead(number // HEADS, number % HEADS, round(0.95 - 0.05 * place, 2), 0.01, 0.0, 0.0)
        for place, number in enumerate(order)
    )
    return HeadRanking("d", LAYERS, HEADS, probes, 0.9, 0.005, 1.0, rows)


def measured(name: str, changes: str, order: Iterable[int], probes: int = 48) -> Measured:
    sentences = None if name == "seed-1" else 1234
    return Measured(name, changes, Probes(count=probes, max_tokens=1024), sentences, ranking(order, probes))


def drawn(first: int, second: int, low: float = 0.75) -> DrawnAgreement:
    return DrawnAgreement(first, second, 0.9, low, 1.0, 0.8, 0.7, 0.9)


SAME = list(range(20))
HALF = [0, 1, 10, 11, *range(2, 10), *range(12, 20)]
"""Shares two of its best four with SAME."""


def stability(yardstick: DrawnAgreement | None) -> Stability:
    return Stability(
        scale="laptop",
        share_of_heads=0.2,
        measured=(
            measured("default", "", SAME),
            measured("seed-1", "seed", SAME),
            measured("sentences-code", "sentences", HALF),
            measured("tokens-512", "length", HALF, probes=20),
        ),
        yardstick=yardstick,
        subsets=(drawn(2, 94),),
        draws=2000,
    )


def section(page: Page, start: str) -> dict[str, tuple[str, ...]]:
    found = next(part for part in page.sections if part.title.startswith(start))
    return {row[0]: row[1:] for row in found.rows}


def test_variants_are_counted_against_the_default() -> None:
    page = stability_page(stability(drawn(48, 48)))
    told = section(page, "What was measured")
    assert told["default"] == ("48", "1024", "1,234", "0.90", "18", "0.0", "0.95 ± 0.01")
    assert told["seed 0"][2] == "unknown", "a text that is not there any more has no known sentences"
    same = section(page, "Agreement")
    assert same["seed 0"] == ("4 of 4", "1.00")
    assert same["code alone"][0] == "2 of 4" and float(same["code alone"][1]) < 1
    assert same["two disjoint draws of 48, as the default"] == ("3.6 of 4 [3, 4]", "0.80 [0.70, 0.90]")
    assert section(page, "How few") == {"2": ("94", "3.6 of 4 [3, 4]", "0.80 [0.70, 0.90]")}


def test_the_top_says_how_many_variants_have_each_head() -> None:
    top = section(stability_page(stability(None)), "The default's top")
    assert list(top) == ["0.0", "0.1", "0.2", "0.3"]
    assert [row[-1] for row in top.values()] == ["3 of 3", "3 of 3", "1 of 3", "1 of 3"]


def test_only_variants_beyond_the_draw_of_probes_are_called_different() -> None:
    different = [stability_page(stability(drawn(48, 48, low))).foot[-1] for low in (0.75, 0.5)]
    assert "fewer than the 3 heads" in different[0] and "at least: code alone." in different[0]
    assert "512" not in different[0], "it has fewer probes, so the yardstick is not its own"
    assert "at least: none." in different[1]
    assert "unknown" in stability_page(stability(None)).foot[-1]


def test_a_set_of_probes_that_says_nothing_has_an_unknown_correlation() -> None:
    silent = DrawnAgreement(2, 94, 0.2, 0.0, 0.5, None, None, None)
    page = stability_page(Stability("smoke", 0.2, stability(None).measured, None, (silent,), 10))
    assert section(page, "How few")["2"][-1] == "unknown"
    assert "subset,2,spearman,\r\n" in render_csv(page)


def test_the_long_form_holds_every_number_unrounded() -> None:
    csv = render_csv(stability_page(stability(drawn(48, 48))))
    assert "variant,sentences-code,shared,2\r\n" in csv and "variant,seed-1,sentences,\r\n" in csv
    assert "two draws,48,share,0.9\r\n" in csv and "top,0.1,score,0.9\r\n" in csv


TARGET = TargetModel(
    vocabulary=300, hidden_size=16, layers=2, heads=2, kv_heads=1, intermediate_size=8, context=64,
    tie_embeddings=True,
)  # fmt: skip


def moment(seed: int, updates: int, found: bool, detectable: float | None = 0.2) -> MappedMoment:
    score = ((0.0, 0.01), (0.3 if found else 0.0, 0.02))
    above = ((False, False), (found, False))
    return MappedMoment(
        seed,
        updates,
        updates * 1000,
        5.0,
        HeadMap("d", 8, 0.25, score, ((0.0, 0.01),) * 2, (0.004, 0.006), above, detectable),
    )


def maps(*moments: MappedMoment) -> Page:
    return maps_page(Maps("laptop", TARGET, Probes(count=8, max_tokens=512), moments))


def test_a_checkpoint_says_what_would_have_been_found() -> None:
    page = maps(moment(0, 0, False, None), moment(0, 7, False))
    rows = section(page, "Checkpoints")
    assert rows["0: 0"] == ("5.000", "1.1", "0.020 ± 0.010", "0.006", "unknown", "0", "0.250")
    assert rows["0: 7,000"][4] == "0.200"
    assert "No head of any checkpoint stands above chance" in page.foot[-1]


def test_heads_that_formed_are_named_with_when_they_did_first() -> None:
    page = maps(moment(0, 0, False), moment(0, 7, True), moment(0, 14, True), moment(1, 0, False))
    assert page.foot[-1] == "Seed 0 has heads above chance first after 7,000 tokens."
    assert not any("No head of any" in line for line in page.foot)
    assert section(page, "Checkpoints")["0: 7,000"][-2] == "1"


def test_the_map_shows_the_last_checkpoint_of_every_seed_and_marks_heads() -> None:
    page = maps(moment(0, 0, True), moment(0, 7, True), moment(1, 0, True), moment(1, 7, False))
    grids = [part for part in page.sections if part.title.startswith("Retrieval scores")]
    assert [part.title.split(" (")[0] for part in grids] == [
        "Retrieval scores, seed 0 after 7,000 tokens",
        "Retrieval scores, seed 1 after 7,000 tokens",
    ]
    assert [part.rows[1] for part in grids] == [("layer 1", "0.300*", "0.020"), ("layer 1", "0.000", "0.020")]
    assert "0.300\\*" in render_page(page)
    assert "0,7,7000,1,0,above_chance,1\r\n" in render_csv(page)


@pytest.mark.parametrize("order", [SAME, HALF, np.random.default_rng(0).permutation(20).tolist()])
def test_flat_scores_stand_where_their_heads_are(order: list[int]) -> None:
    scores = measured("default", "", order).scores
    assert np.argsort(-scores, kind="stable").tolist() == order
