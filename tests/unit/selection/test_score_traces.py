"""The selectors that score documents score traces and steps, each with its own formula of influence."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest

from airlab.errors import UserError
from airlab.heads.ranking import HeadRanking, RankedHead, write_ranking
from airlab.models.load import weights_digest
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.schema.selection import Selecting
from airlab.schema.step_weights import LinearWeights
from airlab.schema.text import HubDataset
from airlab.schema.traces import (
    Aggregation,
    GeneratedTraces,
    HubTraces,
    LocalTraces,
    Rendering,
    Segmentation,
    TraceColumns,
)
from airlab.schema.worked_problems import WorkedProblems
from airlab.selection.aggregation import StepLosses, step_influence, trace_scores
from airlab.selection.selectors import make_selector
from airlab.stages.build_traces import BuildTraces
from airlab.stages.control_heads import LastHead
from airlab.stages.import_traces import ImportTraces
from airlab.stages.inputs import traces_stage
from airlab.stages.isolate_responses import IsolateResponses
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import MeasureSteps
from airlab.stages.score_measured_units import score_stage
from airlab.stages.score_traces import score_steps, score_traces
from airlab.stages.select_units import SelectUnits
from airlab.stages.weigh_steps import WeighSteps
from airlab.store.files import Files
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.traces import Message, Trace, write_traces
from tests.unit.cli.model_folders import random_folder
from tests.unit.selection.made_units import configured, make_units

SELECTORS = configured()
OF_A_HUB = {"fineweb_edu", "two_model_gap"}
NOT_OF_STEPS = {
    "compression_high", "compression_low", "repetition_high", "repetition_low", "fineweb_edu", "ifd",
    "curated", "attention_influence_residual", "influence_excess",
}  # fmt: skip
TO_RUN = sorted(SELECTORS.keys() - OF_A_HUB)
WORDS = ["river", "stone", "music", "winter", "garden", "letter"]


@dataclass(frozen=True)
class TracesForTests(Stage):
    """Answers of one to four paragraphs; ranks run against the order of the table."""

    VERSION: ClassVar[int] = 1
    count: int = 14
    prompts: bool = True
    ranked: bool = True

    def run(self, work: Workdir, machine: Machine) -> None:
        draw = np.random.default_rng(0)
        traces = []
        for n in range(self.count):
            steps = [" ".join(draw.choice(WORDS, draw.integers(3, 9))) for _ in range(1 + n % 4)]
            asked = (Message("user", " ".join(draw.choice(WORDS, 4))),) if self.prompts else ()
            rank = None if not self.ranked and n == 5 else self.count - n
            traces.append(Trace(f"t{n:02d}", ("code", "prose")[n % 2], asked, "\n\n".join(steps), order=rank))
        with work.writing("traces.parquet") as path:
            write_traces(path, traces)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> MeasureSteps:
    """A small model with a ranking of its heads: the best two of twelve are [0, 1] and [2, 3]."""
    folder = tmp_path_factory.mktemp("given")
    model = random_folder(folder / "model")
    score = np.linspace(0.1, 0.3, 12).reshape(3, 4)
    score[0, 1], score[2, 3] = 0.9, 0.8
    ordered = sorted(np.ndindex(3, 4), key=lambda place: -score[place])
    heads = tuple(RankedHead(layer, head, *[float(score[layer, head])] * 4) for layer, head in ordered)
    ranking = HeadRanking(weights_digest(model), 3, 4, 6, 0.9, 0.001, 1.0, heads)
    write_ranking(folder / "heads.json", ranking)
    return MeasureSteps(
        Files.of(model),
        Files.of(folder / "heads.json"),
        Masking(share_of_heads=0.15),
        TracesForTests(),
        Rendering(template="plain"),
        Segmentation(),
        Scoring(window_tokens=512),
        too_long="skip",
    )


Run = Callable[[Stage], Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Into one store, so that what tests share is measured once."""
    store = Store(tmp_path_factory.mktemp("store"))

    def call(stage: Stage) -> Path:
        Plan(store, [stage]).run(Machine())
        return store.folder(stage)

    return call


def scores_of(folder: Path) -> dict[str, float]:
    table = pq.read_table(folder / "scores.parquet")
    return dict(zip(table["unit_id"].to_pylist(), table["score"].to_pylist(), strict=True))


def steps_of(folder: Path) -> StepLosses:
    return StepLosses.of_table(pq.read_table(folder / "losses.parquet"))


@pytest.mark.parametrize("kind", ["trace", "token_mean", "step_mean", "maximum", "top_k_mean"])
def test_influence_of_traces_is_the_named_aggregation_of_their_steps(
    losses: MeasureSteps, run: Run, kind: str
) -> None:
    way = Aggregation(kind=kind, k=2, least_loss=3.0)  # large, so that it is seen
    ids, expected = trace_scores(steps_of(run(losses)), way)
    for name, sign in (("attention_influence", 1), ("influence_low", -1)):
        folder = run(score_traces(losses, SELECTORS[name], 0, way, {}))
        assert scores_of(folder) == dict(zip(ids.tolist(), (sign * expected).tolist(), strict=True))
        table = pq.read_table(folder / "scores.parquet")
        assert table["parent_id"].equals(table["unit_id"]) and table.num_rows == 14
    steps = pq.read_table(run(losses) / "losses.parquet")
    for trace, tokens in zip(ids.tolist(), table["n_tokens"].to_pylist(), strict=True):
        own = [r["n_tokens"] for r in steps.to_pylist() if r["parent_id"] == trace]
        assert tokens == sum(own)


def test_influence_of_steps_counts_the_least_loss_that_is_asked_for(losses: MeasureSteps, run: Run) -> None:
    table = pq.read_table(run(losses) / "losses.parquet")
    for least in (0.0, 3.0):
        folder = run(score_steps(losses, SELECTORS["attention_influence"], 0, least))
        found = pq.read_table(folder / "scores.parquet")
        assert found.select(["unit_id", "parent_id"]).equals(table.select(["unit_id", "parent_id"]))
        np.testing.assert_array_equal(
            found["score"].to_numpy(), step_influence(StepLosses.of_table(table), least)
        )


def test_controls_are_measured_under_their_own_mask(losses: MeasureSteps, run: Run) -> None:
    main = score_traces(losses, SELECTORS["attention_influence"], 0, Aggregation(), {})
    found = [scores_of(run(main))]
    for name in ("random_heads", "zero_mask"):
        stage = score_traces(losses, SELECTORS[name], 0, Aggregation(), {})
        ids, expected = trace_scores(steps_of(run(stage.losses)), Aggregation())
        found.append(scores_of(run(stage)))
        assert found[-1] == dict(zip(ids.tolist(), expected.tolist(), strict=True))
        of_steps = score_steps(losses, SELECTORS[name], 0, 0.0)
        assert of_steps.losses == stage.losses != losses
        np.testing.assert_array_equal(
            list(scores_of(run(of_steps)).values()), step_influence(steps_of(run(stage.losses)), 0.0)
        )
    assert len({tuple(scores.values()) for scores in found}) == 3


@pytest.mark.parametrize("name", sorted({*TO_RUN} - {"curated", "ifd"}))
def test_a_trace_of_one_step_without_a_prompt_scores_as_the_document_does(
    losses: MeasureSteps, run: Run, name: str
) -> None:
    """And its only step too, where a step has all that the selector asks for."""
    traces = TracesForTests(prompts=False)
    documents = MeasureLosses(
        losses.model, losses.heads, losses.masking, IsolateResponses(traces), losses.scoring
    )
    steps = replace(losses, traces=traces, segmentation=Segmentation(rule="whole"))
    expected = scores_of(run(score_stage(documents, SELECTORS[name], 3, {})))
    plain = Aggregation(least_loss=0.0)
    assert scores_of(run(score_traces(steps, SELECTORS[name], 3, plain, {}))) == expected
    if name in NOT_OF_STEPS:
        return
    found = scores_of(run(score_steps(steps, SELECTORS[name], 3, 0.0)))
    assert list(found) == [f"{trace}#0" for trace in expected]
    drawn = {"random", "dsir", "length_matched_random"}
    assert (list(found.values()) == list(expected.values())) == (name not in drawn), (
        "ids differ, texts do not"
    )


def test_texts_of_steps_are_their_own(losses: MeasureSteps, run: Run) -> None:
    towards = make_selector({"kind": "dsir", "towards_text": "river stone " * 9, "noise": False})
    scores = scores_of(run(score_steps(losses, towards, 0, 0.0)))
    texts = {
        f"{row['unit_id']}#{n}": step
        for row in pq.read_table(run(losses.traces) / "traces.parquet").to_pylist()
        for n, step in enumerate(row["response"].split("\n\n"))
    }
    by_hand = replace(make_units(len(texts)), texts=lambda: list(texts.values()))
    assert scores == dict(zip(texts, towards.score(by_hand, 0).tolist(), strict=True))


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_every_selector_plans_for_traces_and_for_steps_or_is_refused_in_a_sentence(
    losses: MeasureSteps, tmp_path: Path, name: str
) -> None:
    stage = score_traces(losses, SELECTORS[name], 0, Aggregation(), SELECTORS)
    assert len(fingerprint(stage)) == 64 and stage.slug() == SELECTORS[name].kind
    Plan(Store(tmp_path), [stage]).explain()
    if name in NOT_OF_STEPS:
        with pytest.raises(UserError, match=r"which single steps do not have: score whole traces with it"):
            score_steps(losses, SELECTORS[name], 0, 0.0)
    else:
        assert score_steps(losses, SELECTORS[name], 0, 0.0).slug() == SELECTORS[name].kind


def test_a_second_model_is_compared_on_its_own_losses(losses: MeasureSteps, run: Run, tmp_path: Path) -> None:
    other = Files.of(random_folder(tmp_path / "other", seed=5))
    second = replace(losses, model=other, heads=LastHead(other), masking=Masking())
    gaps = {}
    for table in (run(losses), run(second)):
        for row in pq.read_table(table / "losses.parquet").to_pylist():
            gaps.setdefault(row["unit_id"], []).append((row["n_tokens"], row["loss_sum_base"]))
    for stage, unit in (
        (score_traces(losses, SELECTORS["two_model_gap"], 0, Aggregation(), {}), "trace"),
        (score_steps(losses, SELECTORS["two_model_gap"], 0, 0.0), "step"),
    ):
        (planned,) = stage.measurements
        assert replace(planned, model=other, heads=LastHead(other)) == second
        found = scores_of(run(replace(stage, measurements=(second,))))
        for name, score in found.items():
            own = [pair for step, pair in gaps.items() if name in (step, step.rpartition("#")[0])]
            base, better = (sum(pair[k][1] for pair in own) for k in (0, 1))
            assert score == pytest.approx((base - better) / sum(pair[0][0] for pair in own)), (unit, name)


def test_parts_are_the_arms_of_that_name(losses: MeasureSteps) -> None:
    mine = SELECTORS["loss_band"].model_copy(update={"centre": 0.25})
    both = SELECTORS["rank_sum"].model_copy(update={"of": ("mine", "entropy")})
    stage = score_traces(losses, both, 5, Aggregation(), {"mine": mine})
    assert [part.selector for part in stage.measurements] == [mine, SELECTORS["entropy"]]
    assert {(part.seed, part.aggregation) for part in stage.measurements} == {(5, Aggregation())}
    with pytest.raises(UserError, match="no selector 'mine' to build on"):
        score_steps(losses, both, 0, 0.0)


def test_the_best_rank_of_the_curators_scores_highest(losses: MeasureSteps, run: Run) -> None:
    scores = scores_of(run(score_traces(losses, SELECTORS["curated"], 0, Aggregation(), {})))
    assert scores == {f"t{n:02d}": float(n - 14) for n in range(14)}


def test_a_trace_without_a_rank_is_named_and_not_guessed(losses: MeasureSteps, run: Run) -> None:
    stage = score_traces(
        replace(losses, traces=TracesForTests(ranked=False)), SELECTORS["curated"], 0, Aggregation(), {}
    )
    with pytest.raises(UserError, match=r"1 trace\(s\) have no rank .*the first is t05"):
        run(stage)


def test_ifd_is_the_loss_after_the_prompt_over_the_loss_of_the_response_alone(
    losses: MeasureSteps, run: Run
) -> None:
    alone = MeasureLosses(
        losses.model, losses.heads, losses.masking, IsolateResponses(losses.traces), losses.scoring
    )
    whole = replace(losses, segmentation=Segmentation(rule="whole"))
    scores = scores_of(run(score_traces(losses, SELECTORS["ifd"], 0, Aggregation(), {})))
    rows = zip(*(pq.read_table(run(s) / "losses.parquet").to_pylist() for s in (whole, alone)), strict=True)
    ratios = {
        b["unit_id"]: (a["loss_sum_base"] / a["n_tokens"]) / (b["loss_sum_base"] / b["n_tokens"])
        for a, b in rows
    }
    assert scores == pytest.approx({u: -r if r >= 1 else r for u, r in ratios.items()}, rel=1e-5)
    assert len({s > 0 for s in scores.values()}) == 2, "the prompt helps some and misleads others"


@pytest.mark.parametrize("scope", ["domain", "global"])
@pytest.mark.parametrize("unit", ["documents", "tokens"])
def test_a_budget_of_traces_is_exact_in_samples_and_in_tokens(
    losses: MeasureSteps, run: Run, unit: str, scope: str
) -> None:
    scores = score_traces(losses, SELECTORS["attention_influence"], 0, Aggregation(), {})
    table = pq.read_table(run(scores) / "scores.parquet").to_pylist()
    folder = run(SelectUnits(scores, Selecting(share=0.4, unit=unit, scope=scope)))
    chosen = {row["unit_id"] for row in pq.read_table(folder / "selection.parquet").to_pylist()}
    for domain in ("code", "prose") if scope == "domain" else (None,):
        rows = sorted(
            (r for r in table if domain in (None, r["domain"])), key=lambda r: (-r["score"], r["unit_id"])
        )
        taken = [r for r in rows if r["unit_id"] in chosen]
        assert taken == rows[: len(taken)], "from the best down"
        if unit == "documents":
            assert len(taken) == round(0.4 * len(rows))
        else:
            budget = 0.4 * sum(r["n_tokens"] for r in rows)
            tokens = [r["n_tokens"] for r in taken]
            assert sum(tokens[:-1]) < budget <= sum(tokens)


def test_steps_are_weighed_among_the_selected_traces_alone(losses: MeasureSteps, run: Run) -> None:
    selection = SelectUnits(
        score_traces(losses, SELECTORS["curated"], 0, Aggregation(), {}), Selecting(share=0.4)
    )
    steps = score_steps(losses, SELECTORS["attention_influence"], 0, 0.01)
    weights = pq.read_table(
        run(WeighSteps(steps, selection, LinearWeights(kind="linear"))) / "weights.parquet"
    )
    chosen = pq.read_table(run(selection) / "selection.parquet")["unit_id"].to_pylist()
    assert set(weights["parent_id"].to_pylist()) == set(chosen) and len(chosen) == 6
    expected = [u for u in scores_of(run(steps)) if u.rpartition("#")[0] in chosen]
    assert weights["unit_id"].to_pylist() == expected


def test_traces_come_from_where_a_configuration_says(tmp_path: Path) -> None:
    problems, columns = WorkedProblems(), TraceColumns(default_domain="mine")
    (tmp_path / "t.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    hub = HubDataset(name="owner/name", revision="a" * 40)
    assert traces_stage(GeneratedTraces(kind="generated", problems=problems)) == BuildTraces(problems)
    assert traces_stage(HubTraces(kind="hub", hub=hub, columns=columns)) == ImportTraces.of_hub(hub, columns)
    local = LocalTraces(kind="local", path=str(tmp_path / "t.jsonl"), columns=columns)
    assert traces_stage(local) == ImportTraces.of_path(tmp_path / "t.jsonl", columns)
