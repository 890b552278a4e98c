"""`airlab explain`: one page, the numbers of `airlab score`, and a sentence for every mistake."""

import html.parser
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from airlab.reporting.token_maps import SCRIPT
from tests.unit.cli.conftest import Airlab, Answer, Refused, documents, write_jsonl
from tests.unit.cli.test_cli_traces import traces, with_template

TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
HARD = 'it\'s "mine", [a] {b: c} ${oc.env:HOME} <script>alert(1)</script> &amp; a=b\\'

Call = Callable[..., Answer]


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a chat template."""
    return with_template(tmp_path_factory.mktemp("models") / "chat", TEMPLATE)


@pytest.fixture
def call(airlab: Airlab, chat_model: Path, heads: Path) -> Call:
    def call(verb: str = "explain", **settings: object) -> Answer:
        given = {"heads": heads, "output": "map.html", **settings}
        arguments = (f"{k.replace('__', '.')}={v}" for k, v in given.items())
        return airlab(verb, "model=local", f"model.path={chat_model}", *arguments)

    return call


class Page(html.parser.HTMLParser):
    """What a page shows as text inside of maps, and all of its tags."""

    def __init__(self, path: str = "map.html") -> None:
        super().__init__()
        self.maps: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.depth = 0
        self.feed(Path(path).read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if ("class", "tm-t") in attributes:
            self.maps.append("")
            self.depth = 1
        elif self.depth:
            self.depth += 1

    def handle_endtag(self, tag: str) -> None:
        self.depth = max(0, self.depth - 1)

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.maps[-1] += data


def test_a_text_becomes_a_page_that_holds_it_to_the_letter(call: Call) -> None:
    answer = call(text=HARD)
    assert answer.code == 0, answer.err
    assert Page().maps == [HARD]
    n = len(HARD) - 1
    assert re.fullmatch(
        rf"map\.html: text, {n} tokens, loss_base \d+\.\d{{3}}, loss_ref \d+\.\d{{3}} nats a token, "
        r"attention_influence [+−]\d+\.\d{3}\n",
        answer.out,
    )
    assert [p.name for p in Path().iterdir()] == ["map.html"]


@pytest.mark.parametrize("text", ["12", "null", "1e5", "[1, 2]", "'quoted'", "  two spaces  ", "שלום עולם"])
def test_a_text_is_what_is_written_whatever_it_looks_like(call: Call, text: str) -> None:
    answer = call(text=text)
    assert answer.code == 0, answer.err
    assert Page().maps == [text]


def test_documents_have_the_numbers_of_their_scores(call: Call) -> None:
    rows = documents(9)
    write_jsonl(Path("docs.jsonl"), rows)
    ids = [str(rows[5]["id"]), str(rows[2]["id"])]
    window = {"scoring__window_tokens": 16}
    answer = call(input="docs.jsonl", id=f"[{','.join(ids)}]", **window)
    assert answer.code == 0, answer.err
    assert call("score", input="docs.jsonl", output="scores.parquet", **window).code == 0
    scored = {row["id"]: row for row in pq.read_table("scores.parquet").to_pylist()}
    lines = answer.out.splitlines()
    assert len(lines) == 2
    for line, unit_id in zip(lines, ids, strict=True):
        row = scored[unit_id]
        assert line == (
            f"map.html: {unit_id}, {row['n_tokens']} tokens, loss_base {row['loss_base']:.3f}, loss_ref "
            f"{row['loss_ref']:.3f} nats a token, attention_influence {row['attention_influence']:+.3f}"
        ).replace("influence -", "influence −")
    assert Page().maps == [rows[5]["text"], rows[2]["text"]]


@pytest.mark.parametrize("window", [{}, {"scoring__window_tokens": 24, "too_long": "window"}], ids=str)
def test_traces_have_the_numbers_of_their_steps(
    call: Call, tmp_path: Path, window: dict[str, object]
) -> None:
    rows = traces(6)
    write_jsonl(Path("traces.jsonl"), rows)
    chosen = rows[5]
    answer = call(input="traces.jsonl", unit="trace", id=chosen["id"], **window)
    assert answer.code == 0, answer.err
    (shown,) = Page().maps
    assert shown.endswith(str(chosen["response"])) and str(chosen["prompt"]) in shown
    assert call("score", input="traces.jsonl", unit="step", output="steps.parquet", **window).code == 0
    assert call("score", input="traces.jsonl", unit="trace", output="traces.parquet", **window).code == 0
    steps = [row for row in pq.read_table("steps.parquet").to_pylist() if row["trace"] == chosen["id"]]
    (whole,) = (r for r in pq.read_table("traces.parquet").to_pylist() if r["id"] == chosen["id"])
    (stored,) = (tmp_path / "store" / "map_traces").glob("*/maps.json")
    (found,) = json.loads(stored.read_text())
    assert len(found["steps"]) == len(steps) == 3
    assert (len(found["windows"]) > 1) == bool(window)
    for step, row in zip(found["steps"], steps, strict=True):
        _, n_tokens, base, reference, score = step
        assert n_tokens == row["n_tokens"]
        np.testing.assert_allclose(
            [base / n_tokens, reference / n_tokens, score],
            [row["loss_base"], row["loss_ref"], row["attention_influence"]],
            rtol=1e-6,
        )
    assert found["score"] == pytest.approx(whole["attention_influence"], rel=1e-6)
    assert f"step 3 of 3, attention influence {steps[2]['attention_influence']:+.2f}".replace(
        " -", " −"
    ) in Path("map.html").read_text(encoding="utf-8")


def test_the_only_document_needs_no_id(call: Call) -> None:
    write_jsonl(Path("docs.jsonl"), [{"id": 7, "text": "the only one"}])
    assert call(input="docs.jsonl").code == 0
    assert call(input="docs.jsonl", id=7).out.startswith("map.html is there already")


def test_the_page_runs_no_script_but_ours_and_asks_nobody(call: Call) -> None:
    assert call(text=HARD).code == 0
    page = Page()
    names = [tag for tag, _ in page.tags]
    assert names.count("script") == 1 and Path("map.html").read_text().count(SCRIPT) == 1
    assert {"img", "link", "iframe", "object"}.isdisjoint(names)
    inline = {name for _, attributes in page.tags for name in attributes if name.startswith("on")}
    assert inline == set()
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert (
        policy is not None and policy.startswith("default-src 'none'; ") and "script-src 'sha256-" in policy
    )
    assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")


def test_the_same_again_changes_nothing_and_something_else_is_refused(call: Call) -> None:
    assert call(text="one text").code == 0
    before = Path("map.html").read_bytes()
    assert "is there already" in call(text="one text").out
    other = call(text="another text")
    assert other.code == 2 and "map.html already exists" in other.sentence
    assert Path("map.html").read_bytes() == before


@pytest.fixture
def explain(refused: Refused, chat_model: Path, heads: Path) -> Callable[..., str]:
    write_jsonl(Path("docs.jsonl"), [*documents(8), {"id": "none", "text": " ", "domain": "a"}])
    write_jsonl(Path("traces.jsonl"), traces(3))
    Path("map2.html").write_text("mine")

    def call(**settings: object) -> str:
        given = {"heads": heads, "output": "map.html", "model.path": chat_model, **settings}
        return refused("explain", "model=local", **given)

    return call


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "give what is to be shown as text='My own text' or as input=FILE"),
        ({"text": ""}, "text is empty"),
        ({"text": " \n"}, "text is empty"),
        ({"text": "x"}, "'text' has no token map: the text has fewer than two tokens"),
        ({"text": "half \udce9"}, "half a character"),
        ({"text": "x y", "input": "docs.jsonl"}, "goes with no input"),
        ({"text": "x y", "id": "a"}, "goes with no input, id"),
        ({"text": "x y", "unit": "trace"}, "goes with no input, id or unit=trace"),
        (
            {"text": "x y", "unit": "step"},
            "unit='step' is not possible: input should be 'document' or 'trace'",
        ),
        ({"text": "x y", "segmentation": "newline"}, "segmentation is a setting of reasoning traces"),
        (
            {"input": "docs.jsonl"},
            "there are 8 documents: say which with id=d000, or several with id=[d000,d007]",
        ),
        ({"input": "docs.jsonl", "id": "proof"}, "there is no id 'proof'; ids begin d000, d007"),
        ({"input": "docs.jsonl", "id": "[d000,proof]"}, "there is no id 'proof'"),
        ({"input": "docs.jsonl", "id": "none"}, "skipped when it was read (empty)"),
        ({"input": "nowhere.jsonl", "id": "a"}, "nowhere.jsonl does not exist"),
        ({"input": "traces.jsonl", "unit": "trace", "id": "x"}, "there is no id 'x'; ids begin t000"),
        (
            {"input": "traces.jsonl", "unit": "trace", "id": "t000", "scoring.window_tokens": 8},
            "'t000' has no token map: it has",
        ),
        ({"text": "x y", "heads": "nowhere.json"}, "heads=nowhere.json does not exist"),
        ({"text": "x y", "output": "map.htm"}, "output=map.htm must end in .html"),
        ({"text": "x y", "output": "nowhere/map.html"}, "the folder nowhere does not exist"),
        ({"text": "x y", "output": "map2.html"}, "map2.html already exists and was made from something else"),
        ({"text": "x y", "scoring.window_tokens": 4096}, "exceeds the model's context of 2048"),
    ],
    ids=lambda value: " ".join(f"{k}={v!r}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_mistakes(explain: Callable[..., str], settings: dict[str, object], told: str) -> None:
    assert told in explain(**settings)


def test_heads_of_another_model(explain: Callable[..., str], tmp_path: Path) -> None:
    from airlab.heads.ranking import HeadRanking, RankedHead, write_ranking

    heads = tuple(RankedHead(i // 4, i % 4, 0.9 - i / 20, 0.01, 0.9, 0.9) for i in range(12))
    write_ranking(tmp_path / "found.json", HeadRanking("0" * 64, 3, 4, 8, 0.9, 0.01, 0.9, heads))
    assert "found in another model" in explain(text="x y", heads=tmp_path / "found.json")


def test_more_than_anybody_reads(explain: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airlab.stages.map_tokens.MOST_TOKENS", 20)
    assert "21 tokens are too many for a page to be read; a page holds 20" in explain(text="x" * 21)


def test_the_strongest_head_is_the_rankings_best_and_else_the_first_listed(tmp_path: Path) -> None:
    from airlab.heads.mask import strongest_head
    from airlab.heads.ranking import HeadRanking, RankedHead, write_ranking

    heads = tuple(RankedHead(2 - i // 4, i % 4, 0.9 - i / 20, 0.01, 0.9, 0.9) for i in range(12))
    write_ranking(tmp_path / "found.json", HeadRanking("0" * 64, 3, 4, 8, 0.9, 0.01, 0.9, heads))
    assert strongest_head(tmp_path / "found.json") == (2, 0)
    (tmp_path / "hand.json").write_text("[[2, 1], [0, 3]]")
    assert strongest_head(tmp_path / "hand.json") == (2, 1)
