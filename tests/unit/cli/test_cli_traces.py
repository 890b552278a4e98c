"""Reasoning traces by the command line: score their steps and themselves, select, weigh."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airlab.schema.traces import Aggregation
from airlab.selection.aggregation import StepLosses, trace_scores
from tests.unit.cli.conftest import Airlab, Answer, Refused, text, write_jsonl
from tests.unit.cli.model_folders import random_folder
from tests.unit.text.made_chat import CHATML, DROPS_SYSTEM, DROPS_THINKING

OF_DOCUMENTS = ["id", "domain", "n_tokens", "loss_base", "loss_ref", "entropy", "attention_influence"]
OF_STEPS = ["id", "trace", "step", "start", "end", *OF_DOCUMENTS[1:]]
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"


def with_template(folder: Path, template: str) -> Path:
    (random_folder(folder) / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a chat template."""
    return with_template(tmp_path_factory.mktemp("models") / "chat", TEMPLATE)


def traces(count: int, **columns: object) -> list[dict[str, Any]]:
    """Pairs with answers of one to three paragraphs, ids in no alphabetical order, domains of two kinds."""
    return [
        {
            "id": f"t{(7 * n) % count:03d}",
            "prompt": text(n + 3),
            "response": "\n\n".join(text(3 * n + k) for k in range(1 + n % 3)),
            "domain": "ab"[n % 2],
            **columns,
        }
        for n in range(count)
    ]


Score = Callable[..., Answer]


@pytest.fixture
def score(airlab: Airlab, chat_model: Path, heads: Path) -> Score:
    def call(unit: str, *arguments: object, **settings: object) -> Answer:
        given = {"heads": heads, "input": "traces.jsonl", "output": f"{unit}s.parquet", **settings}
        return airlab(
            "score",
            f"unit={unit}",
            "model=local",
            f"model.path={chat_model}",
            *(f"{k}={v}" for k, v in given.items()),
            *arguments,
        )

    return call


def read(path: str) -> pa.Table:
    return pq.read_table(path)


def sums(table: pa.Table) -> StepLosses:
    """The sums that a table's means were made from."""
    n = table["n_tokens"].to_numpy()
    base, reference = (table[name].to_numpy() * n for name in ("loss_base", "loss_ref"))
    return StepLosses(table["trace"].to_numpy(), n, base, reference)


def test_score_then_select_then_weigh(score: Score, airlab: Airlab) -> None:
    rows = traces(12)
    write_jsonl(Path("traces.jsonl"), rows)
    for unit, columns in (("step", OF_STEPS), ("trace", OF_DOCUMENTS)):
        answer = score(unit)
        assert answer.code == 0, answer.err
        assert "12 traces in, 12 scored in 24 steps, 0 skipped" in answer.out
        assert read(f"{unit}s.parquet").column_names == columns
    answer = airlab("select", "scores=traces.parquet", "share=0.5", "scope=global", "output=selected.parquet")
    assert answer.code == 0 and "selected.parquet: 6 of 12 traces" in answer.out, answer
    answer = airlab(
        "weigh",
        "scores=steps.parquet",
        "weights=softmax",
        "selected=selected.parquet",
        "output=weights.parquet",
    )
    assert answer.code == 0, answer.err
    by_influence = sorted(read("traces.parquet").to_pylist(), key=lambda r: -r["attention_influence"])
    best = {r["id"] for r in by_influence[:6]}
    assert set(read("selected.parquet")["id"].to_pylist()) == best
    weights = read("weights.parquet")
    assert weights.column_names == ["id", "trace", "start", "end", "n_tokens", "weight"]
    steps = {r["id"]: r for r in read("steps.parquet").to_pylist()}
    assert weights["id"].to_pylist() == [i for i in steps if i.rpartition("#")[0] in best]
    for trace in best:
        own = [r for r in weights.to_pylist() if r["trace"] == trace]
        assert all(r[name] == steps[r["id"]][name] for r in own for name in ("start", "end", "n_tokens"))
        tokens = sum(r["n_tokens"] for r in own)
        assert sum(r["n_tokens"] * r["weight"] for r in own) == pytest.approx(tokens)
        influence = [steps[r["id"]]["attention_influence"] for r in own]
        np.testing.assert_array_equal(np.argsort([r["weight"] for r in own]), np.argsort(influence))
    assert sorted(p.name for p in Path().iterdir()) == [
        "selected.parquet", "steps.parquet", "traces.jsonl", "traces.parquet", "weights.parquet",
    ]  # fmt: skip


def test_steps_lie_where_the_table_says_and_are_scored_as_it_says(score: Score) -> None:
    rows = traces(9)
    write_jsonl(Path("traces.jsonl"), rows)
    assert score("step").code == 0
    table = read("steps.parquet").to_pylist()
    assert list(dict.fromkeys(r["trace"] for r in table)) == [r["id"] for r in rows], "the input's order"
    for row in rows:
        own = [r for r in table if r["trace"] == row["id"]]
        assert [r["id"] for r in own] == [f"{row['id']}#{n}" for n in range(len(own))]
        cut = [row["response"][r["start"] : r["end"]] for r in own]
        assert "".join(cut) == row["response"] and [c.strip() for c in cut] == row["response"].split("\n\n")
        assert {r["domain"] for r in own} == {row["domain"]}
        assert [r["n_tokens"] for r in own] == [len(c) for c in cut], "a character is a token"
    for r in table:
        least = max(r["loss_base"], 0.01)
        assert r["attention_influence"] == pytest.approx((r["loss_ref"] - r["loss_base"]) / least)


@pytest.mark.parametrize("way", ["trace", "token_mean", "step_mean", "maximum", "top_k_mean"])
def test_traces_are_scored_and_selected_by_the_aggregation_that_is_named(
    score: Score, airlab: Airlab, way: str
) -> None:
    write_jsonl(Path("traces.jsonl"), traces(9))
    assert score("trace", f"aggregation={way}").code == 0
    assert score("step").code == 0
    _, expected = trace_scores(sums(read("steps.parquet")), Aggregation(kind=way))
    found = read("traces.parquet")
    np.testing.assert_allclose(found["attention_influence"].to_numpy(), expected, rtol=1e-9)
    answer = airlab("select", "scores=traces.parquet", "share=1.0", "output=all.parquet")
    assert answer.code == 0
    chosen = {r["id"]: r["score"] for r in read("all.parquet").to_pylist()}
    assert chosen == dict(zip(found["id"].to_pylist(), found["attention_influence"].to_pylist(), strict=True))


def test_a_trace_of_one_step_without_a_prompt_has_the_document_s_row(score: Score) -> None:
    rows = [{"id": f"d{n}", "text": text(n), "prompt": "", "response": text(n)} for n in range(5)]
    write_jsonl(Path("traces.jsonl"), rows)
    write_jsonl(Path("docs.jsonl"), [{"id": r["id"], "text": r["text"]} for r in rows])
    plain = ("rendering=plain", "segmentation=whole", "aggregation.least_loss=0")
    assert score("document", input="docs.jsonl").code == 0
    for unit in ("trace", "step"):
        assert score(unit, *plain).code == 0
        documents, found = read("documents.parquet"), read(f"{unit}s.parquet")
        assert found.select(OF_DOCUMENTS[1:]).equals(documents.select(OF_DOCUMENTS[1:]))


def chat(prompt: str, response: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]


def test_every_layout_and_a_named_source_give_the_same_scores(score: Score) -> None:
    pairs = traces(4)
    write_jsonl(Path("traces.jsonl"), pairs)
    kept = [{"id": r["id"], "domain": r["domain"]} for r in pairs]
    chats = [{**k, "talk": chat(r["prompt"], r["response"])} for k, r in zip(kept, pairs, strict=True)]
    write_jsonl(Path("chats.jsonl"), chats)
    thought = [
        {**k, "q": r["prompt"], "t": r["response"].partition(" ")[0], "a": r["response"].partition(" ")[2]}
        for k, r in zip(kept, pairs, strict=True)
    ]
    write_jsonl(Path("thoughts.jsonl"), thought)
    assert score("step").code == 0
    named = {"input.prompt": "q", "input.thinking": "t", "input.response": "a"}
    marks = {"input.thinking_open": "''", "input.thinking_close": "' '"}
    others = {
        "chats": score("step", input="chats.jsonl", output="c.parquet", **{"input.messages": "talk"}),
        "thoughts": score("step", input="thoughts.jsonl", output="t.parquet", **named, **marks),
        "a named source": score(
            "step", "traces=local", "traces.path=traces.jsonl", input="null", output="n.parquet"
        ),
    }
    assert {name: answer.code for name, answer in others.items()} == dict.fromkeys(others, 0), others
    for path in ("c.parquet", "t.parquet", "n.parquet"):
        assert read(path).equals(read("steps.parquet")), path


def test_traces_of_a_hub_are_read_at_their_commit(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(name: str, config: object, **settings: object) -> datasets.IterableDataset:
        asked.append((name, config, settings["revision"], settings["split"]))
        return datasets.Dataset.from_list(traces(3)).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    hub = f"{{name: owner/name, revision: {'a' * 40}, split: test}}"
    assert score("trace", f"input.hub={hub}", input="null").code == 0
    assert asked == [("owner/name", None, "a" * 40, "test")]
    assert read("traces.parquet")["id"].to_pylist() == [r["id"] for r in traces(3)]


def test_traces_without_a_score_are_listed_with_reasons_and_add_up(score: Score) -> None:
    rows = traces(6)
    rows[1]["response"] = " \n"
    rows[3]["response"] = "word " * 400
    rows[4] = {"id": "chatless", "prompt": "a", "response": None, "domain": "b"}
    write_jsonl(Path("traces.jsonl"), rows)
    answer = score("step", **{"input.unusable": "skip", "scoring.window_tokens": 512})
    assert answer.code == 0, answer.err
    assert "6 traces in, 3 scored in" in answer.out and "3 skipped" in answer.out
    skipped = {r["unit_id"]: r["reason"] for r in read("steps.skipped.parquet").to_pylist()}
    assert skipped == {
        rows[1]["id"]: "an empty response",
        rows[3]["id"]: "longer than 512 tokens",
        "chatless": "an empty response",
    }
    assert set(read("steps.parquet")["trace"].to_pylist()) == {rows[n]["id"] for n in (0, 2, 5)}
    window = score(
        "step", "too_long=window", output="w.parquet",
        **{"input.unusable": "skip", "scoring.window_tokens": 512},
    )  # fmt: skip
    assert "6 traces in, 4 scored in" in window.out


@pytest.mark.parametrize("unit", ["step", "trace"])
def test_the_same_again_changes_nothing_and_other_settings_replace_nothing(score: Score, unit: str) -> None:
    write_jsonl(Path("traces.jsonl"), traces(4))
    assert score(unit).code == 0
    output = Path(f"{unit}s.parquet")
    before = output.read_bytes(), output.stat().st_mtime_ns
    again = score(unit)
    assert again.code == 0 and "is there already" in again.out
    changes = ["segmentation=sentence", "aggregation.least_loss=0.5", "rendering=plain", "too_long=window"]
    for change in changes:
        refused = score(unit, change)
        assert refused.code == 2 and f"{output} already exists" in refused.sentence, change
    other = score("step" if unit == "trace" else "trace", output=output)
    assert other.code == 2 and f"{output} already exists" in other.sentence
    assert (output.read_bytes(), output.stat().st_mtime_ns) == before


def test_the_curators_order_is_kept_and_selected_by(score: Score, airlab: Airlab) -> None:
    rows = [{**row, "rank": 9 - n} for n, row in enumerate(traces(9))]
    write_jsonl(Path("traces.jsonl"), rows)
    assert score("trace").code == 0
    assert read("traces.parquet")["order"].to_pylist() == [r["rank"] for r in rows]
    select = ("select", "scores=traces.parquet", "selector=curated", "share=0.3", "scope=global")
    assert airlab(*select, "output=best.parquet").code == 0
    best = {r["id"] for r in rows if r["rank"] <= 3}
    assert set(read("best.parquet")["id"].to_pylist()) == best
    del rows[4]["rank"]
    write_jsonl(Path("traces.jsonl"), rows)
    assert score("trace", output="holes.parquet").code == 0
    answer = airlab("select", "scores=holes.parquet", "selector=curated", "output=other.parquet")
    assert (
        answer.code == 2
        and f"1 trace(s) have no rank of their curators (the first is {rows[4]['id']})" in (answer.sentence)
    )
    write_jsonl(Path("traces.jsonl"), traces(4))
    assert score("trace", output="none.parquet").code == 0
    answer = airlab("select", "scores=none.parquet", "selector=curated", "output=other.parquet")
    assert answer.code == 2 and "needs the curators' order, which a table of scores" in answer.sentence
    assert not Path("other.parquet").exists()


@pytest.mark.parametrize(
    ("selector", "column", "sign"),
    [("length", "n_tokens", 1), ("entropy", "entropy", 1), ("loss_low", "loss_base", -1)],
)
def test_steps_are_weighed_by_other_scores_too(
    score: Score, airlab: Airlab, selector: str, column: str, sign: int
) -> None:
    write_jsonl(Path("traces.jsonl"), traces(9))
    assert score("step").code == 0
    weigh = ("weigh", "scores=steps.parquet", f"selector={selector}", "weights=rank")
    assert airlab(*weigh, "output=w.parquet").code == 0
    steps = {r["id"]: r for r in read("steps.parquet").to_pylist()}
    for trace in {r["trace"] for r in steps.values()}:
        own = [r for r in read("w.parquet").to_pylist() if r["trace"] == trace]
        by_score = sorted(own, key=lambda r: sign * steps[r["id"]][column])
        assert [r["weight"] for r in by_score] == sorted(r["weight"] for r in own)
    again = airlab(*weigh, "output=w.parquet")
    assert again.code == 0 and "is there already" in again.out
    other = airlab(*weigh, "weights.scope=corpus", "output=w.parquet")
    assert other.code == 2 and "w.parquet already exists" in other.sentence


FINE = {"prompt": "a b", "response": "c d"}
BAD_TRACES: dict[str, tuple[list[dict[str, Any]], dict[str, object], str]] = {
    "no assistant turn": (
        [{"messages": chat("a", "b")}, {"messages": chat("a", "b")[:1]}],
        {},
        "line 2 of traces.jsonl has no assistant turn: correct it, or set input.unusable=skip",
    ),
    "an empty response": (
        [FINE, {**FINE, "response": " "}],
        {},
        "line 2 of traces.jsonl has an empty response",
    ),
    "a turn of nobody": ([{"messages": [{"role": "judge", "content": "x"}]}], {}, "a turn of 'judge'"),
    "messages that are none": ([{"messages": "hello"}], {}, "messages that are no JSON list"),
    "no columns of traces": ([{"text": "x"}], {}, "has no columns for traces: set input.messages"),
    "a column that is not there": ([FINE], {"input.response": "r"}, "has no column 'r': its columns are"),
    "a layout without its column": (
        [FINE],
        {"input.layout": "messages"},
        "no columns for the layout messages",
    ),
    "a layout that is none": ([FINE], {"input.layout": "story"}, "input.layout='story' is not possible"),
    "columns of two layouts": (
        [FINE],
        {"input.messages": "m", "input.prompt": "prompt"},
        "name either messages or the other columns",
    ),
    "one id twice": (
        [{**FINE, "id": "x"}] * 2,
        {},
        "line 2 of traces.jsonl has the id 'x' of a trace before it",
    ),
    "a rank that is a word": ([{**FINE, "rank": "best"}], {}, "in 'rank' where a rank is needed"),
    "longer than the window": (
        [{**FINE, "response": "word " * 40}],
        {"too_long": "refuse", "scoring.window_tokens": 64},
        "and scoring.window_tokens is 64: raise that up to the model's context, or set too_long to skip",
    ),
    "all longer than the window": (
        [{**FINE, "response": "word " * 40}] * 2,
        {"scoring.window_tokens": 64},
        "none of the 2 traces could be scored (2 longer than 64 tokens)",
    ),
    "steps that the data do not name": ([FINE], {"segmentation": "given"}, "name no steps of their own"),
    "a rule that is none": ([FINE], {"segmentation": "chapter"}, "no segmentation 'chapter'; known are"),
    "a least loss below zero": ([FINE], {"aggregation.least_loss": -1}, "aggregation.least_loss=-1"),
    "two inputs": ([FINE], {"traces": "s1k"}, "one of the three"),
    "a column of documents": ([FINE], {"input.text": "prompt"}, "input.text is the column of documents"),
}


@pytest.fixture
def refuse(refused: Refused, chat_model: Path, heads: Path) -> Refused:
    def call(unit: str, **settings: object) -> str:
        given = {"heads": heads, "input": "traces.jsonl", "output": "out.parquet", "model.path": chat_model}
        return refused("score", f"unit={unit}", "model=local", **{**given, **settings})

    return call


@pytest.mark.parametrize("case", BAD_TRACES)
def test_traces_that_cannot_be_scored(refuse: Refused, case: str) -> None:
    rows, settings, told = BAD_TRACES[case]
    write_jsonl(Path("traces.jsonl"), rows)
    for unit in ("step", "trace"):
        assert told in refuse(unit, **settings)


TEMPLATES = {
    "that refuses": ("{{ raise_exception('no talk') }}", "refuses trace 'row-00000000' (no talk)"),
    "that drops thinking": (DROPS_THINKING, "drops or changes part of the answer of trace 'row-00000000'"),
    "that drops the system": (DROPS_SYSTEM, "drops or changes a message of the system"),
    "that is missing": ("", "the tokenizer has no chat template: use rendering.template=plain"),
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_chat_templates_that_cannot_be_trusted(refuse: Refused, tmp_path: Path, case: str) -> None:
    template, told = TEMPLATES[case]
    folder = with_template(tmp_path / "model", template)
    if not template:
        (folder / "chat_template.jinja").unlink()
    turns = [{"role": "system", "content": "Be brief."}, *chat("a", "<think>b</think>c")]
    write_jsonl(Path("traces.jsonl"), [{"messages": turns}])
    assert told in refuse("step", **{"model.path": folder})


def test_text_that_spells_a_special_token_is_skipped_or_read_by_option(score: Score, tmp_path: Path) -> None:
    folder = with_template(tmp_path / "model", CHATML.replace("<|im_end|>", "").replace("<|im_start|>", ""))
    rows = traces(3)
    rows[1]["response"] += "<eos>"
    write_jsonl(Path("traces.jsonl"), rows)
    assert "1 skipped (1 spells a special token" in score("step", **{"model.path": folder}).out
    as_token = score("step", output="t.parquet", **{"model.path": folder, "rendering.special_text": "token"})
    assert "3 scored in" in as_token.out


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("unit=pages", "unit='pages'"),
        ("rendering=plain", "rendering is a setting of reasoning traces"),
        ("segmentation=newline", "segmentation is a setting of reasoning traces"),
        ("aggregation=maximum", "aggregation is a setting of reasoning traces"),
        ("too_long=refuse", "too_long is a setting of reasoning traces"),
        ("traces=s1k", "traces is a setting of reasoning traces"),
        ("input.prompt=q", "input.prompt is a setting of reasoning traces"),
        ("input.unusable=skip", "input.unusable is a setting of reasoning traces"),
    ],
)
def test_settings_of_traces_are_not_dropped_silently_for_documents(
    refused: Refused, chat_model: Path, heads: Path, setting: str, told: str
) -> None:
    given = ("model=local", f"model.path={chat_model}", f"heads={heads}", "input=d.jsonl", "output=o.parquet")
    write_jsonl(Path("d.jsonl"), [{"text": "x y"}])
    assert told in refused("score", *given, setting)


def test_an_aggregation_is_not_dropped_silently_for_steps(refuse: Refused) -> None:
    write_jsonl(Path("traces.jsonl"), [FINE])
    assert "changes nothing with unit=step" in refuse("step", aggregation="maximum")


@pytest.fixture
def weigh(refused: Refused, score: Score) -> Refused:
    write_jsonl(Path("traces.jsonl"), traces(6))
    assert score("step").code == score("trace").code == 0

    def call(**settings: object) -> str:
        return refused("weigh", **{"scores": "steps.parquet", "output": "out.parquet", **settings})

    return call


def test_weights_that_cannot_be(weigh: Refused, refused: Refused) -> None:
    steps = read("steps.parquet")
    at = steps.column_names.index("attention_influence")
    for name, value in (("nan", float("nan")), ("inf", float("inf")), ("none", None)):
        values = pa.array([value, *steps["attention_influence"].to_pylist()[1:]], pa.float64())
        pq.write_table(steps.set_column(at, "attention_influence", values), f"{name}.parquet")
    pq.write_table(steps.slice(0, 0), "empty.parquet")
    pq.write_table(pa.table({"id": [steps["trace"][0].as_py(), "stranger"]}), "strangers.parquet")
    pq.write_table(pa.table({"name": ["x"]}), "nameless.parquet")
    Path("text.parquet").write_text("x")
    cases: list[tuple[dict[str, object], str]] = [
        (
            {"scores": "nan.parquet"},
            "1 step(s) have a score that is not a finite number (the first is in the",
        ),
        ({"scores": "inf.parquet"}, "not a finite number"),
        ({"scores": "none.parquet"}, "none.parquet has no attention_influence in row 0"),
        ({"scores": "empty.parquet"}, "empty.parquet holds no steps"),
        ({"scores": "traces.parquet"}, "traces.parquet has no column trace"),
        ({"scores": "nowhere.parquet"}, "make it with `airlab score unit=step output=nowhere.parquet`"),
        ({"scores": "text.parquet"}, "text.parquet is not a Parquet file"),
        (
            {"selected": "nowhere.parquet"},
            "selected=nowhere.parquet does not exist; make it with `airlab sel",
        ),
        ({"selected": "nameless.parquet"}, "nameless.parquet has no column id (it has name)"),
        ({"selected": "strangers.parquet"}, "1 of 2 selected traces have no scores of steps"),
        ({"weights": "steep"}, "no weights 'steep'; known are clipped, linear, rank, softmax, top_share"),
        ({"weights.temperature": 0}, "weights.temperature=0 is not possible"),
        ({"weights": "linear", "weights.floor": -1}, "weights.floor=-1 is not possible"),
        ({"weights": "top_share", "weights.share": 0}, "weights.share=0 is not possible"),
        ({"weights": "clipped", "weights.lower": 0.95}, "the lower quantile must be below the upper"),
        ({"selector": "ifd"}, "use it in a run"),
        ({"output": "out.csv"}, "must end in .parquet"),
    ]
    for settings, told in cases:
        assert told in weigh(**settings), settings
    told = refused("select", "scores=steps.parquet", "output=out.parquet")
    assert "steps.parquet holds scores of steps, and whole traces are selected" in told


def test_weights_that_training_could_not_be_normalised_with_are_never_written(
    weigh: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No map gives such weights; what a broken one gave would be caught."""
    for value, told in ((-1.0, "are negative"), (0.0, "all weights are zero"), (np.nan, "not finite")):
        monkeypatch.setattr("airlab.cli.weigh.step_weights", lambda t, n, s, w, v=value: np.full(len(s), v))
        assert told in weigh()


def test_a_skipped_list_is_not_written_over_another(score: Score) -> None:
    rows = traces(3)
    rows[0]["response"] = ""
    write_jsonl(Path("traces.jsonl"), rows)
    Path("steps.skipped.parquet").write_text("mine")
    answer = score("step", **{"input.unusable": "skip"})
    assert answer.code == 2 and "steps.skipped.parquet already exists" in answer.sentence
    assert Path("steps.skipped.parquet").read_text() == "mine" and not Path("steps.parquet").exists()


def test_the_machine_changes_no_step(score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(Path("traces.jsonl"), traces(20))
    for tokens in (64, 100_000):
        monkeypatch.setenv("AIRLAB_STORE", str(tmp_path / f"store-{tokens}"))
        assert score("step", output=f"{tokens}.parquet", **{"machine.tokens_per_batch": tokens}).code == 0
    one, other = read("64.parquet"), read("100000.parquet")
    assert one.schema.metadata == other.schema.metadata
    assert one.select(OF_STEPS[:7]).equals(other.select(OF_STEPS[:7]))
    for name in OF_STEPS[7:]:
        np.testing.assert_allclose(one[name].to_numpy(), other[name].to_numpy(), atol=1e-5, rtol=0)


def test_paths_of_selections_may_hold_any_character(score: Score, airlab: Airlab) -> None:
    write_jsonl(Path("traces.jsonl"), traces(4))
    assert score("step").code == score("trace").code == 0
    name = "it's (a) {choice}, really.parquet"
    assert airlab("select", "scores=traces.parquet", "share=0.5", f"output={name}").code == 0
    shutil.copy("traces.jsonl", "a, b.jsonl")
    assert airlab("weigh", "scores=steps.parquet", f"selected={name}", "output=w.parquet").code == 0
    named = score("trace", "traces=local", "traces.path=a, b.jsonl", input="null", output="n.parquet")
    assert named.code == 0, named.err
    assert (
        json.loads(Path("traces.jsonl").read_text().splitlines()[0])["id"]
        in read("n.parquet")["id"].to_pylist()
    )
