"""Steps are scored by the path that documents take: same losses, whatever the packing, order and shards."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from airlab.errors import UserError
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.schema.text import Columns
from airlab.schema.traces import Rendering, Segmentation, TraceColumns
from airlab.scoring import steps as scoring_steps
from airlab.scoring.losses import LossSums
from airlab.selection.aggregation import group_by_trace
from airlab.stages.import_corpus import ImportCorpus
from airlab.stages.import_traces import ImportTraces
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import KINDS, MeasureSteps
from airlab.store.files import Files
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.documents import cut_into_shards
from airlab.text.traces import Message, Trace, read_traces, write_traces
from tests.unit.cli.conftest import text as longer_text
from tests.unit.cli.conftest import write_jsonl
from tests.unit.cli.model_folders import random_folder

COUNT = 300
LONG = (5, 260)
SUMS = ["loss_sum_base", "loss_sum_ref", "entropy_sum_base"]
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"


def text(number: int) -> str:
    """At most 24 characters: every character is a token."""
    return longer_text(number)[-24:].strip()


@dataclass(frozen=True)
class MadeTraces(Stage):
    """Traces with prompts of some lengths, answers of some paragraphs, and some that cannot be scored."""

    VERSION: ClassVar[int] = 1
    backwards: bool = False
    prompts: bool = True

    def run(self, work: Workdir, machine: Machine) -> None:
        traces = []
        for n in range(COUNT):
            prompt = " ".join(text(n + k) for k in range(n % 3)) if self.prompts else ""
            lines = [text(3 * n + k) for k in range(1 + n % 3)] * (9 if n in LONG else 1)
            asked = (Message("user", prompt),) if prompt else ()
            traces.append(Trace(f"t{n}", "ab"[n % 2], asked, "x" if n == 9 else "\n\n".join(lines)))
        with work.writing("traces.parquet") as path:
            write_traces(path, traces[::-1] if self.backwards else traces)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> MeasureSteps:
    folder = tmp_path_factory.mktemp("given")
    (folder / "heads.json").write_text("[[1, 2]]")
    model = random_folder(folder / "model")
    (model / "chat_template.jinja").write_text(TEMPLATE)
    return MeasureSteps(
        Files.of(model),
        Files.of(folder / "heads.json"),
        Masking(),
        MadeTraces(),
        Rendering(template="plain"),
        Segmentation(),
        Scoring(window_tokens=160),
        too_long="skip",
    )


def run(stage: Stage, root: Path, **machine: int) -> Path:
    Plan(Store(root), [stage]).run(Machine(**machine))  # type: ignore[arg-type]
    return Store(root).folder(stage)


def read(folder: Path, name: str = "losses") -> pa.Table:
    return pq.read_table(folder / f"{name}.parquet")


@pytest.fixture(scope="module")
def reference(stage: MeasureSteps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(stage, tmp_path_factory.mktemp("reference"))


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    same = ["unit_id", "parent_id", "domain", "n_tokens"]
    assert found.select(same).equals(expected.select(same))
    for name in SUMS:
        np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("window_tokens", [160, 24])
def test_a_trace_of_one_step_without_a_prompt_is_a_document_to_the_last_bit(
    stage: MeasureSteps, tmp_path: Path, window_tokens: int
) -> None:
    """Also where it is cut into windows."""
    rows = [{"id": f"d{n}", "text": text(n) + " " + text(7 * n), "domain": "ab"[n % 2]} for n in range(270)]
    rows[7] |= {"text": "x"}
    documents = write_jsonl(tmp_path / "docs.jsonl", rows)
    as_traces = write_jsonl(
        tmp_path / "traces.jsonl",
        [{"id": r["id"], "prompt": "", "response": r["text"], "domain": r["domain"]} for r in rows],
    )
    scoring = Scoring(window_tokens=window_tokens)
    losses = MeasureLosses(
        stage.model, stage.heads, stage.masking, ImportCorpus.of_path(documents, Columns()), scoring
    )
    steps = replace(
        stage,
        traces=ImportTraces.of_path(as_traces, TraceColumns()),
        segmentation=Segmentation(rule="whole"),
        scoring=scoring,
        too_long="window",
    )
    documents_folder, steps_folder = (run(s, tmp_path / "store") for s in (losses, steps))
    expected, found = read(documents_folder), read(steps_folder)
    assert found["parent_id"].equals(expected["unit_id"]) and expected.num_rows == 269
    assert found["unit_id"].to_pylist() == [f"{u}#0" for u in expected["unit_id"].to_pylist()]
    assert found.select(["domain", "n_tokens", *SUMS]).equals(expected.select(["domain", "n_tokens", *SUMS]))
    assert read(steps_folder, "skipped").equals(read(documents_folder, "skipped"))


def test_steps_add_up_to_the_trace(stage: MeasureSteps, reference: Path, tmp_path: Path) -> None:
    whole = read(run(replace(stage, segmentation=Segmentation(rule="whole")), tmp_path))
    steps = read(reference)
    ids, members = group_by_trace(steps["parent_id"].to_numpy())
    assert ids.tolist() == whole["parent_id"].to_pylist() and steps.num_rows > 1.5 * whole.num_rows
    for name in ("n_tokens", *SUMS):
        sums = np.bincount(members, weights=steps[name].to_numpy())
        np.testing.assert_allclose(sums, whole[name].to_numpy(), rtol=1e-12)


def test_steps_lie_where_the_table_says(stage: MeasureSteps, reference: Path) -> None:
    """In this tokenizer every character is a token; the white space below a step is its own."""
    traces = {
        t.unit_id: t for t in read_traces(Store(reference.parents[1]).folder(stage.traces) / "traces.parquet")
    }
    steps, losses = read(reference, "steps").to_pylist(), read(reference)
    assert [s["unit_id"] for s in steps] == losses["unit_id"].to_pylist()
    assert [s["n_tokens"] for s in steps] == losses["n_tokens"].to_pylist()
    by_trace: dict[str, list[str]] = {}
    for s in steps:
        trace = traces[s["parent_id"]]
        before = len(trace.prompt) + 2 if trace.prompt else 0
        unpredicted = not before and not s["step"]
        assert s["unit_id"] == f"{s['parent_id']}#{s['step']}" and s["step"] == len(
            by_trace.get(trace.unit_id, [])
        )
        assert s["n_tokens"] == s["end"] - s["start"] - unpredicted
        assert s["first_token"] == before + s["start"] + unpredicted
        by_trace.setdefault(trace.unit_id, []).append(trace.response[s["start"] : s["end"]])
    assert {k: "".join(v) for k, v in by_trace.items()} == {
        k: t.response for k, t in traces.items() if k in by_trace
    }


def test_every_trace_is_scored_or_skipped_with_its_reason(reference: Path, stage: MeasureSteps) -> None:
    skipped = {r["unit_id"]: r["reason"] for r in read(reference, "skipped").to_pylist()}
    assert skipped == {"t9": "fewer than two tokens: nothing to predict"} | {
        f"t{n}": "longer than 160 tokens" for n in LONG
    }
    assert len(set(read(reference)["parent_id"].to_pylist())) + len(skipped) == COUNT
    record = Store(reference.parents[1]).record(stage)
    assert record is not None
    assert (record.notes["scored"], record.notes["skipped"]) == (COUNT - 3, 3)
    assert record.notes["skipped_by_reason"]["longer than 160 tokens"] == 2
    assert sorted(p.name for p in reference.iterdir()) == sorted(
        [*(f"{k}.parquet" for k in KINDS), "record.json"]
    )


@pytest.mark.parametrize(
    "machine", [{"documents_per_shard": 512}, {"tokens_per_batch": 300}, {"tokens_per_batch": 20_000}]
)
def test_packing_and_shards_do_not_matter(
    stage: MeasureSteps, reference: Path, tmp_path: Path, machine: dict[str, int]
) -> None:
    folder = run(stage, tmp_path, **machine)
    assert_same(read(folder), read(reference))
    for name in ("steps", "skipped"):
        assert read(folder, name).equals(read(reference, name))


def test_the_order_of_traces_does_not_matter(stage: MeasureSteps, reference: Path, tmp_path: Path) -> None:
    folder = run(replace(stage, traces=MadeTraces(backwards=True)), tmp_path)
    by_id = lambda table: table.sort_by("unit_id")  # noqa: E731
    assert read(folder)["unit_id"][0].as_py() == "t299#0"
    assert_same(by_id(read(folder)), by_id(read(reference)))
    assert by_id(read(folder, "steps")).equals(by_id(read(reference, "steps")))


def test_the_number_of_workers_does_not_matter(
    stage: MeasureSteps, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither torch's nor the tokenizer's."""
    before = torch.get_num_threads()
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    try:
        torch.set_num_threads(3 - min(before, 2))
        folder = run(stage, tmp_path)
    finally:
        torch.set_num_threads(before)
    assert_same(read(folder), read(reference))
    assert read(folder, "steps").equals(read(reference, "steps"))


def test_a_prompt_changes_losses_and_is_not_counted(
    stage: MeasureSteps, reference: Path, tmp_path: Path
) -> None:
    folder = run(replace(stage, traces=MadeTraces(prompts=False)), tmp_path)
    with_, without = (
        {r["unit_id"]: r for r in read(f).to_pylist() if r["parent_id"] in ("t2", "t3")}
        for f in (reference, folder)
    )
    assert with_["t2#0"]["n_tokens"] == without["t2#0"]["n_tokens"] + 1, (
        "its first token has something before it"
    )
    assert with_["t2#1"]["n_tokens"] == without["t2#1"]["n_tokens"]
    assert abs(with_["t2#1"]["loss_sum_base"] - without["t2#1"]["loss_sum_base"]) > 1e-3
    assert with_["t3#0"]["loss_sum_base"] == pytest.approx(without["t3#0"]["loss_sum_base"], rel=1e-6)


def test_traces_that_are_too_long_are_cut_into_windows_or_refused_on_demand(
    stage: MeasureSteps, reference: Path, tmp_path: Path
) -> None:
    cut = read(run(replace(stage, too_long="window"), tmp_path / "cut"))
    assert set(cut["parent_id"].to_pylist()) - set(read(reference)["parent_id"].to_pylist()) == {"t5", "t260"}
    with pytest.raises(
        UserError, match=r"trace 't5' has \d+ tokens and scoring.window_tokens is 160: raise"
    ) as e:
        run(replace(stage, too_long="refuse"), tmp_path / "refused")
    assert "\n" not in str(e.value)
    assert not list((tmp_path / "refused").rglob("losses*.parquet"))


def test_tables_are_whole_where_no_trace_fits(stage: MeasureSteps, tmp_path: Path) -> None:
    small = replace(stage, scoring=Scoring(window_tokens=4))
    folder = run(small, tmp_path)
    reasons = Counter(read(folder, "skipped")["reason"].to_pylist())
    assert reasons == {"longer than 4 tokens": COUNT - 1, "fewer than two tokens: nothing to predict": 1}
    for kind, schema in KINDS.items():
        assert read(folder, kind).schema.equals(schema)
        assert (read(folder, kind).num_rows == 0) == (kind != "skipped")


def test_a_loss_that_is_no_number_is_refused_by_name(
    stage: MeasureSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = scoring_steps.measure_steps

    def spoilt(*arguments: Any, **settings: Any) -> list[list[LossSums]]:
        found = measure(*arguments, **settings)
        found[2][1] = replace(found[2][1], reference=float("nan"))
        return found

    monkeypatch.setattr(scoring_steps, "measure_steps", spoilt)
    with pytest.raises(UserError, match="step 1 of trace t2 has a loss that is not a number"):
        run(stage, tmp_path)


def test_a_chat_is_scored_through_the_models_own_template(stage: MeasureSteps, tmp_path: Path) -> None:
    folder = run(replace(stage, rendering=Rendering()), tmp_path)
    first = read(folder, "steps").to_pylist()[1]
    assert first["parent_id"] == "t1"
    assert first["first_token"] == len(f"[user] {text(1)}\n[assistant] ")
    assert first["n_tokens"] == first["end"] - first["start"], "the template predicts the first token too"


def test_what_cannot_be_rendered_ends_the_run_before_anything_is_scored(
    stage: MeasureSteps, tmp_path: Path
) -> None:
    bare = replace(stage, model=Files.of(random_folder(tmp_path / "bare")), rendering=Rendering())
    with pytest.raises(UserError, match=r"has no chat template: use rendering.template=plain"):
        run(bare, tmp_path / "a")
    with pytest.raises(UserError, match=r"name no steps of their own"):
        run(replace(stage, segmentation=Segmentation(rule="given")), tmp_path / "b")
    with pytest.raises(UserError, match=r"exceeds the model's context"):
        run(replace(stage, scoring=Scoring(window_tokens=4096)), tmp_path / "c")
    assert not [p for name in "abc" for p in (tmp_path / name).rglob("losses*")]


def test_the_machine_is_no_part_of_what_steps_are_and_every_choice_is(stage: MeasureSteps) -> None:
    others = [
        replace(stage, too_long="window"),
        replace(stage, rendering=Rendering(template="plain", separator=" ")),
        replace(stage, segmentation=Segmentation(rule="newline")),
        replace(stage, segmentation=Segmentation(cues=("So",))),
        replace(stage, traces=MadeTraces(backwards=True)),
    ]
    assert len({fingerprint(s) for s in [stage, *others]}) == 6


def test_shards_of_traces_are_whole_row_groups_within_both_bounds(
    stage: MeasureSteps, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = pq.read_metadata(Store(reference.parents[1]).folder(stage.traces) / "traces.parquet")
    sizes = lambda n: [(s.first, s.documents, s.groups) for s in cut_into_shards(metadata, n, column=None)]  # noqa: E731
    alone = [(0, 256, (0,)), (256, 44, (1,))]
    assert sizes(256) == alone
    assert sizes(512) == sizes(8192) == [(0, 300, (0, 1))]
    monkeypatch.setattr("airlab.text.documents.SHARD_BYTES", 1)
    assert sizes(8192) == alone
