"""`airlab score`: the user's ids in the user's order, every document accounted for, nothing overwritten."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.cli.conftest import Airlab, documents, write_jsonl

COLUMNS = ["id", "domain", "n_tokens", "loss_base", "loss_ref", "entropy", "attention_influence"]


@pytest.fixture
def score(airlab: Airlab, model: Path, heads: Path):
    def call(*arguments: object, **settings: object):
        given = {"heads": heads, "input": "docs.jsonl", "output": "scores.parquet", **settings}
        return airlab(
            "score", "model=local", f"model.path={model}", *(f"{k}={v}" for k, v in given.items()), *arguments
        )

    return call


def read(path: str = "scores.parquet") -> pa.Table:
    return pq.read_table(path)


def test_jsonl_gives_the_documented_columns_in_the_order_of_the_input(score) -> None:
    rows = documents(20)
    write_jsonl(Path("docs.jsonl"), rows)
    answer = score()
    assert answer.code == 0, answer.err
    table = read()
    assert table.column_names == COLUMNS
    assert table["id"].to_pylist() == [r["id"] for r in rows]
    assert table["domain"].to_pylist() == [r["domain"] for r in rows]
    assert table["n_tokens"].to_pylist() == [len(str(r["text"])) - 1 for r in rows]
    c = {name: table[name].to_numpy() for name in COLUMNS[2:]}
    np.testing.assert_allclose(
        c["attention_influence"], (c["loss_ref"] - c["loss_base"]) / c["loss_base"], rtol=1e-12
    )
    assert (c["attention_influence"] != 0).all() and (c["entropy"] > 0).all()
    assert "20 documents in, 20 scored, 0 skipped" in answer.out
    assert sorted(p.name for p in Path().iterdir()) == ["docs.jsonl", "scores.parquet"]


def test_parquet_with_own_column_names_and_whole_number_ids(score) -> None:
    rows = documents(6)
    pq.write_table(
        pa.table(
            {
                "key": list(range(60, 0, -10)),
                "body": [r["text"] for r in rows],
                "topic": [r["domain"] for r in rows],
                "text": ["not this one"] * 6,
            }
        ),
        "docs.parquet",
    )
    names = {"input.text": "body", "input.id": "key", "input.domain": "topic"}
    assert score(input="docs.parquet", **names).code == 0
    table = read()
    assert table["id"].to_pylist() == ["60", "50", "40", "30", "20", "10"]
    assert table["domain"].to_pylist() == [r["domain"] for r in rows]
    write_jsonl(Path("docs.jsonl"), [{"text": r["text"]} for r in rows])
    assert score(output="plain.parquet").code == 0
    for name in COLUMNS[2:]:
        assert read("plain.parquet")[name].equals(table[name]), name
    assert set(read("plain.parquet")["domain"].to_pylist()) == {"all"}


def test_documents_without_a_loss_are_listed_with_reasons_and_add_up(score) -> None:
    rows = documents(5)
    rows[1] |= {"text": " \n"}
    rows[3] |= {"text": "x"}
    write_jsonl(Path("docs.jsonl"), rows)
    answer = score()
    assert answer.code == 0
    skipped = pq.read_table("scores.skipped.parquet").to_pylist()
    assert {r["unit_id"]: r["reason"] for r in skipped} == {
        rows[1]["id"]: "empty",
        rows[3]["id"]: "fewer than two tokens: nothing to predict",
    }
    assert read()["id"].to_pylist() == [rows[i]["id"] for i in (0, 2, 4)]
    assert "5 documents in, 3 scored, 2 skipped" in answer.out
    assert "1 empty" in answer.out


def test_the_same_again_changes_nothing_and_says_so(score) -> None:
    write_jsonl(Path("docs.jsonl"), documents(4))
    assert score().code == 0
    before = Path("scores.parquet").read_bytes(), Path("scores.parquet").stat().st_mtime_ns
    again = score()
    assert again.code == 0 and "is there already" in again.out
    assert (Path("scores.parquet").read_bytes(), Path("scores.parquet").stat().st_mtime_ns) == before


@pytest.mark.parametrize("change", ["documents", "heads", "masking", "window", "model"])
def test_another_input_never_replaces_an_output(score, change: str, tmp_path: Path, model: Path) -> None:
    write_jsonl(Path("docs.jsonl"), documents(4))
    assert score().code == 0
    before = Path("scores.parquet").read_bytes()
    settings: dict[str, object] = {}
    if change == "documents":
        write_jsonl(Path("docs.jsonl"), documents(5))
    elif change == "heads":
        (tmp_path / "hand.json").write_text("[[0, 1]]")
    elif change == "masking":
        settings["masking"] = "zero"
    elif change == "window":
        settings["scoring.window_tokens"] = 64
    else:
        from tests.unit.cli.model_folders import random_folder

        settings["model.path"] = random_folder(tmp_path / "other", seed=1)
    refused = score(**settings)
    assert refused.code == 2
    assert refused.sentence.startswith("airlab score: scores.parquet already exists")
    assert Path("scores.parquet").read_bytes() == before


def test_the_list_of_skipped_documents_is_not_written_over_another(score) -> None:
    rows = documents(4)
    rows[0] |= {"text": ""}
    write_jsonl(Path("docs.jsonl"), rows)
    Path("scores.skipped.parquet").write_text("mine")
    refused = score()
    assert refused.code == 2 and "scores.skipped.parquet already exists" in refused.sentence
    assert Path("scores.skipped.parquet").read_text() == "mine"
    assert not Path("scores.parquet").exists()


def test_the_machine_changes_no_score(score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(Path("docs.jsonl"), documents(40))
    for tokens in (16, 700, 100_000):
        monkeypatch.setenv("AIRLAB_STORE", str(tmp_path / f"store-{tokens}"))
        assert score(output=f"{tokens}.parquet", **{"machine.tokens_per_batch": tokens}).code == 0
    first = read("16.parquet")
    for other in (read("700.parquet"), read("100000.parquet")):
        assert other.schema.metadata == first.schema.metadata
        for name in COLUMNS[3:]:
            np.testing.assert_allclose(other[name].to_numpy(), first[name].to_numpy(), atol=1e-6, rtol=0)


def test_documents_longer_than_the_window_are_scored_whole(score) -> None:
    rows = [{"id": "long", "text": " ".join(str(r["text"]) for r in documents(60))}]
    write_jsonl(Path("docs.jsonl"), rows)
    assert score(**{"scoring.window_tokens": 128}).code == 0
    assert read()["n_tokens"].to_pylist() == [len(rows[0]["text"]) - 1]


HOSTILE = [
    "with space.jsonl",
    "a,b.jsonl",
    "a=b.jsonl",
    "(draft) [2].jsonl",
    "it's.jsonl",
    'say "hi".jsonl',
    "back\\slash.jsonl",
    "back\\'quote.jsonl",
    "ends\\'.jsonl",
    "{curly}.jsonl",
    "$HOME.jsonl",
    "${oc.env:HOME}.jsonl",
    "été 文書.jsonl",
    "#hash & more;.jsonl",
    "'quoted'.jsonl",
    "-dash.jsonl",
    "null.jsonl",
    "a : b.jsonl",
    "percent%20.jsonl",
    "tab\there.jsonl",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_file_names_may_hold_any_character(score, name: str) -> None:
    write_jsonl(Path(name), documents(2))
    output = Path(name).with_suffix(".parquet")
    answer = score(input=name, output=output)
    assert answer.code == 0, answer.err
    assert sorted(p.name for p in Path().iterdir()) == sorted([name, output.name])
    missing = score(input=f"no {name}", output="other.parquet")
    assert missing.code == 2 and f"no {name} does not exist" in missing.sentence


def test_a_byte_order_mark_is_no_part_of_the_text(score) -> None:
    Path("docs.jsonl").write_text('\ufeff{"text": "x y"}\n{"text": "y z"}\n')
    assert score().code == 0
    assert read()["n_tokens"].to_pylist() == [2, 2]
