"""The evidence about step influence: what it measures, what it shares with the main comparison, its page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment, target_fingerprints
from airlab.cli.main import configs_folder
from airlab.cli.overrides import prepare
from airlab.randomness import generator
from airlab.reporting.evidence import QUESTIONS
from airlab.reporting.tables import IncompleteTable
from airlab.schema.machine import Machine
from airlab.selection.known_steps import INFLUENCE
from airlab.stages.build_traces import BuildTraces
from airlab.stages.measure_losses import SCHEMA
from airlab.stages.measure_steps import STEPS_SCHEMA, MeasureSteps
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Workdir
from airlab.store.store import Store
from airlab.text.traces import Message, Trace, write_traces
from airlab.text.worked.corpus import PROBLEMS_SCHEMA, Origin
from experiments.air import evidence
from experiments.attention_influence import main

RANDOM = {"random_heads_1"}


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        yield lambda *more, name="air/evidence": open_experiment(
            compose("run", [f"experiment={name}", *more])
        )[1]


def stages(*targets: Any) -> list[Any]:
    return list(Plan(Store(Path("nowhere")), [stage for some in targets for stage in some.values()]).order)


def test_its_last_name_is_enough() -> None:
    assert prepare(["experiment=evidence"], configs_folder()) == ["experiment=air/evidence"]


def test_the_plan_asks_the_questions_of_the_page() -> None:
    written = evidence.__doc__ or ""
    asked = [line.split("`")[1] for line in written.splitlines() if line.startswith("- `")]
    assert asked == [question.name for question in QUESTIONS]


@pytest.mark.parametrize(
    ("scale", "traces", "controls"),
    [
        ("smoke", 10, RANDOM),
        ("laptop", 120, RANDOM),
        ("h100", 1000, {*RANDOM, "random_heads_3"}),
    ],
)
def test_the_same_steps_are_measured_under_every_mask(
    opened: Any, scale: str, traces: int, controls: set[str]
) -> None:
    config = opened(f"scale={scale}")
    found = evidence.targets(config)
    assert next(iter(found)) == INFLUENCE and set(found) == {INFLUENCE, *controls}
    names = [stage.name for stage in stages(found)]
    assert names.count("build_traces") == names.count("detect_heads") == names.count("prepare_model") == 1
    assert names.count("control_heads") == len(controls) and "pretrain" not in names
    assert config.traces.traces_per_level == traces


def test_heads_pool_and_model_are_those_of_the_main_comparison(opened: Any) -> None:
    ours = stages(evidence.targets(opened("scale=laptop")))
    theirs = {fingerprint(s) for s in stages(main.targets(opened(name="attention_influence/main")))}
    shared = [s for s in ours if s.name in ("prepare_model", "build_pool", "detect_heads")]
    assert len(shared) == 3 and {fingerprint(stage) for stage in shared} <= theirs


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ("masking=zero", {INFLUENCE, *RANDOM}),
        ("probes.seed=1", {INFLUENCE, *RANDOM}),
        ("traces.seed=1", {INFLUENCE, *RANDOM}),
        ("rendering.template=plain", {INFLUENCE, *RANDOM}),
        ("training.budget_tokens=1024", set()),
        ("evaluation.minimum_items=19", set()),
        ("machine=gpu1", set()),
    ],
)
def test_what_a_measurement_depends_on_moves_it_and_nothing_else_does(
    opened: Any, change: str, moved: set[str]
) -> None:
    before, after = (target_fingerprints(evidence, opened("scale=laptop", *more)) for more in ((), (change,)))
    assert {name for name in before if before[name] != after[name]} == moved


def lines(number: int) -> tuple[tuple[str, str], ...]:
    """Steps and their kinds: padded, redundant, false or of no use, in turn."""
    extra = (("hm, 3", "padded"), ("1+1=2", "redundant"), ("2+2=5", "wrong"), ("9*9=81", "clean"))[number % 4]
    return (("1+1=2", "clean"), extra, (f"2+{number}=x", "clean"), ("Answer: 4", "answer"))


VARIANTS = ("padded", "redundant", "wrong_carried", "clean")


def fake_traces(stage: BuildTraces, work: Workdir, machine: Machine) -> None:
    traces, origins = [], []
    for number in range(24):
        text, ends = "", []
        for line, _ in lines(number):
            text += line
            ends.append(len(text))
        kinds = tuple(kind for _, kind in lines(number))
        name, variant = f"t{number}", VARIANTS[number % 4]
        traces.append(
            Trace(name, "school", (Message("user", "?"),), text, step_kinds=kinds, step_ends=tuple(ends))
        )
        feeds = (True, False, True, True)
        origins.append(Origin(name, "traces", f"task-{number}", 0, 1, variant, feeds).row())  # type: ignore[arg-type]
    with work.writing("traces.parquet") as path:
        write_traces(path, traces)
    with work.writing("problems.parquet") as path:
        pq.write_table(_table(origins, PROBLEMS_SCHEMA), path)


def fake_losses(stage: MeasureSteps, work: Workdir, machine: Machine) -> None:
    """One nat a token; influence is high in what is clean and feeds, under other heads it is noise."""
    steps, losses = [], []
    rng = generator(0, "noise", stage.slug())
    ours = stage.heads.name == "detect_heads"
    for number in range(24):
        start = 0
        for step, (line, _) in enumerate(lines(number)):
            unit, end = f"t{number}#{step}", start + len(line)
            rise = float(step != 1) if ours else float(rng.normal())
            steps.append((unit, f"t{number}", step, start, end, step, 1))
            losses.append((unit, f"t{number}", "school", 1, 1.0, 1.0 + rise, 0.5))
            start = end
    for name, rows, schema in (("steps", steps, STEPS_SCHEMA), ("losses", losses, SCHEMA)):
        with work.writing(f"{name}.parquet") as path:
            pq.write_table(_table(rows, schema), path)
    work.note(masked_heads=[[1, 2]], skipped=0)


def _table(rows: list[Any], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def test_the_page_and_the_masked_heads_come_from_finished_measurements(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store = opened("scale=smoke"), Store(tmp_path / "store")
    monkeypatch.setattr(BuildTraces, "run", fake_traces)
    monkeypatch.setattr(MeasureSteps, "run", fake_losses)
    monkeypatch.setattr(MeasureSteps, "inputs", lambda self: (self.traces,))
    with pytest.raises(IncompleteTable, match="influence, random_heads_1"):
        evidence.find(config, store)
    assert evidence.find(config, store, partial=True).names == ()
    done = evidence.targets(config)
    missing = done.pop("random_heads_1")
    Plan(store, list(done.values())).run(Machine())
    with pytest.raises(IncompleteTable, match="for random_heads_1"):
        evidence.find(config, store)
    (holed,) = evidence.find(config, store, partial=True).pages
    assert not any("random heads" in row[0] for section in holed.sections for row in section.rows)
    Plan(store, [missing]).run(Machine())
    found = evidence.find(config, store)
    (page,) = found.pages
    assert found.table is None and found.names == (evidence.NAME,)
    verdicts = {row[0]: row for row in page.sections[0].rows}
    assert {row[1][:4] for row in verdicts.values()} == {"1.00"}
    assert verdicts["clean above padded"][4:] == ("6", "6", "12", "6")
    told = evidence.selections(config, store)
    assert told == {name: {"masked_heads": [[1, 2]]} for name in evidence.targets(config)}
