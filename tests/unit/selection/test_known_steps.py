"""What is known of a step is joined to what was measured of it by where it lies, not by its number."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airlab.errors import UserError
from airlab.selection.known_steps import INFLUENCE, read_known
from airlab.stages.measure_losses import SCHEMA
from airlab.stages.measure_steps import STEPS_SCHEMA
from airlab.text.traces import Message, Trace, write_traces
from airlab.text.worked.corpus import PROBLEMS_SCHEMA, Origin

LINES = {"a": ("1 + 1 = 2\n", "well, well\n", "2 * 3 = 6\n", "Answer: 6"), "b": ("x = 77\n", "Answer: 77")}
KINDS = {"a": ("clean", "padded", "clean", "answer"), "b": ("clean", "answer")}
FEEDS = {"a": (False, False, True, True), "b": (True, True)}
Cut = dict[str, list[tuple[int, int]]]


def ends(trace: str) -> list[int]:
    return np.cumsum([len(line) for line in LINES[trace]]).tolist()


def whole() -> Cut:
    return {name: list(zip([0, *ends(name)[:-1]], ends(name), strict=True)) for name in LINES}


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "traces"
    folder.mkdir()
    write_traces(
        folder / "traces.parquet",
        [
            Trace(
                name,
                "school",
                (Message("user", "?"),),
                "".join(LINES[name]),
                step_kinds=KINDS[name],
                step_ends=tuple(ends(name)),
            )
            for name in LINES
        ],
    )
    variants = {"a": "padded", "b": "clean"}
    rows = [Origin(n, "traces", f"task-{n}", 0, 1, variants[n], FEEDS[n]).row() for n in LINES]  # type: ignore[arg-type]
    rows.append(Origin("held", "heldout", "task-a", 0, 1, "clean", (True,)).row())
    write(folder / "problems.parquet", rows, PROBLEMS_SCHEMA)
    return folder


def write(path: Path, rows: list[tuple[object, ...]], schema: pa.Schema) -> None:
    columns = zip(*rows, strict=True)
    pq.write_table(
        pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema), path
    )


def measured(folder: Path, cut: Cut, rise: float) -> Path:
    """Two tokens a step, one nat each; the reference's loss rises by `rise` a nat, more in later steps."""
    folder.mkdir()
    steps, losses = [], []
    for name, spans in cut.items():
        for number, (start, end) in enumerate(spans):
            unit = f"{name}#{number}"
            steps.append((unit, name, number, start, end, 2 * number, 2))
            losses.append((unit, name, "school", 2, 2.0, 2.0 * (1 + rise * (1 + number)), 3.0))
    write(folder / "steps.parquet", steps, STEPS_SCHEMA)
    write(folder / "losses.parquet", losses, SCHEMA)
    return folder


def test_kinds_and_scores_meet(traces: Path, tmp_path: Path) -> None:
    folders = {
        INFLUENCE: measured(tmp_path / "main", whole(), 0.5),
        "random_heads_1": measured(tmp_path / "random", whole(), 0.0),
    }
    steps, known = read_known(traces, folders)
    assert steps.kind.tolist() == ["clean", "padded", "clean", "answer", "clean", "answer"]
    assert steps.feeds.tolist() == [False, False, True, True, True, True]
    assert steps.task.tolist() == ["task-a"] * 4 + ["task-b"] * 2 and steps.joined == 0
    assert steps.variant.tolist() == ["padded"] * 4 + ["clean"] * 2 and set(steps.level) == {"school"}
    np.testing.assert_allclose(steps.scores[INFLUENCE], [0.5, 1.0, 1.5, 2.0, 0.5, 1.0])
    np.testing.assert_allclose(steps.scores["loss_gap"], steps.scores[INFLUENCE])  # one nat a token
    np.testing.assert_allclose(steps.scores["random_heads_1"], 0)
    np.testing.assert_allclose(steps.scores["entropy"], 1.5)
    np.testing.assert_allclose(steps.scores["base_loss"], 1.0)
    np.testing.assert_allclose(steps.scores["tokens"], 2)
    np.testing.assert_allclose(steps.scores["digits"], [3 / 5, 0, 3 / 5, 1 / 8, 2 / 4, 2 / 9])
    assert steps.scores["equals"].tolist() == [1, 0, 1, 0, 1, 0]
    length = len("".join(LINES["a"]))
    np.testing.assert_allclose(steps.scores["position"][:4], np.array([0, *ends("a")[:-1]]) / length)
    assert known.trace.tolist() == ["a", "b"] and known.variant.tolist() == ["padded", "clean"]
    np.testing.assert_allclose(known.scores[f"{INFLUENCE}_trace"], [1.25, 0.75])
    np.testing.assert_allclose(known.scores[f"{INFLUENCE}_maximum"], [2.0, 1.0])
    np.testing.assert_allclose(known.scores["random_heads_1_trace"], 0)
    np.testing.assert_allclose(known.scores["tokens"], [8, 4])


def test_a_step_that_was_joined_to_another_has_no_kind_and_is_counted(traces: Path, tmp_path: Path) -> None:
    """The numbers of the steps after it do not fit any more; where they lie does."""
    cut = whole()
    cut["a"] = [(0, ends("a")[1]), *cut["a"][2:]]
    steps, known = read_known(traces, {INFLUENCE: measured(tmp_path / "main", cut, 0.5)})
    assert steps.kind.tolist() == ["clean", "answer", "clean", "answer"] and steps.joined == 1
    np.testing.assert_allclose(steps.scores[INFLUENCE], [1.0, 1.5, 0.5, 1.0])
    assert known.scores["tokens"].tolist() == [6, 4], "a trace's own score counts all that was measured"


def test_traces_that_were_not_measured_are_not_there(traces: Path, tmp_path: Path) -> None:
    steps, known = read_known(traces, {INFLUENCE: measured(tmp_path / "main", {"b": whole()["b"]}, 0.5)})
    assert set(steps.trace) == set(known.trace) == {"b"}


def test_controls_of_other_steps_are_refused(traces: Path, tmp_path: Path) -> None:
    other = {"a": whole()["a"][:3], "b": whole()["b"]}
    folders = {
        INFLUENCE: measured(tmp_path / "main", whole(), 0.5),
        "random_heads_1": measured(tmp_path / "random", other, 0.1),
    }
    with pytest.raises(UserError, match="random_heads_1"):
        read_known(traces, folders)
