"""Numbers that go wrong: a defined result or a sentence, never a silent 0 and never a NaN in a table."""

import json
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import LlamaForCausalLM

from tests.faults.ledger import FULL, count
from tests.unit.cli.conftest import Airlab, Answer, Refused, documents, write_jsonl
from tests.unit.cli.model_folders import random_folder

SETTINGS = {"heads": "heads.json", "input": "docs.jsonl", "output": "out.parquet", "model": "local"}


@pytest.fixture(autouse=True)
def given(airlab: Airlab) -> None:
    """Documents and heads in the folder where a command runs."""
    write_jsonl(Path("docs.jsonl"), documents(6))
    Path("heads.json").write_text("[[1, 2], [2, 0]]")


def changed(folder: Path, change: Callable[[LlamaForCausalLM], None], *, untied: bool = False) -> Path:
    """A random model with some weights changed."""
    random_folder(folder)
    model = LlamaForCausalLM.from_pretrained(folder, tie_word_embeddings=not untied)
    if untied:
        model.lm_head.weight = torch.nn.Parameter(model.model.embed_tokens.weight.detach().clone())
    with torch.no_grad():
        change(model)
    model.save_pretrained(folder)
    return folder


def fill(name: str, value: float, last: bool = False) -> Callable[[LlamaForCausalLM], None]:
    """Set one number of a weight, or all of them."""

    def change(model: LlamaForCausalLM) -> None:
        weight = model.get_parameter(name)
        weight.view(-1)[-1 if last else slice(None)] = value

    return change


BROKEN = {
    "NaN in the attention of a layer": fill("model.layers.1.self_attn.q_proj.weight", float("nan"), True),
    "NaN in the values of a layer": fill("model.layers.2.self_attn.v_proj.weight", float("nan"), True),
    "infinity in a layer": fill("model.layers.1.mlp.down_proj.weight", float("inf"), True),
    "NaN in the last layer": fill("model.layers.2.mlp.up_proj.weight", float("nan")),
    "NaN in the last norm": fill("model.norm.weight", float("nan")),
    "overflow of float32": fill("model.layers.0.mlp.down_proj.weight", 3e38),
    "overflow in the logits": fill("model.norm.weight", 3e38),
    "NaN in one token's embedding": fill("model.embed_tokens.weight", float("nan"), True),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"] if FULL else ["float32"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_model_that_computes_no_numbers_is_named_and_gives_no_table(
    refused: Refused, tmp_path: Path, case: str, precision: str
) -> None:
    folder = changed(tmp_path / "broken", BROKEN[case])
    sentence = refused("score", **SETTINGS, **{"model.path": folder, "scoring.precision": precision})
    assert "this model computes no numbers" in sentence
    assert ("overflow" in sentence) == ("overflow" in case)
    count("numbers", "models with NaN, infinity or overflow", faults=1)


def test_numbers_that_go_wrong_in_one_document_name_it(refused: Refused, tmp_path: Path, model: Path) -> None:
    """A token of which the check of a model sees nothing."""
    unused = "~"

    def spoil(found: LlamaForCausalLM) -> None:
        found.model.embed_tokens.weight[number_of(unused)] = float("nan")

    folder = changed(tmp_path / "broken", spoil, untied=True)
    write_jsonl(Path("docs.jsonl"), [*documents(3), {"id": "wrong", "text": f"a{unused}b", "domain": "a"}])
    sentence = refused("score", **SETTINGS, **{"model.path": folder})
    assert "computes no numbers" in sentence or "document wrong has a loss that is not a number" in sentence
    count("numbers", "documents with a loss that is not a number", faults=1, inputs=4)


def number_of(character: str) -> int:
    """Its token in these models."""
    return 2 + ("\n" + string.printable[:95]).index(character)


def certain(model: LlamaForCausalLM) -> None:
    """After the character `a` comes an `a`, without any doubt that float32 could hold."""
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.mul_(1e-6)
        layer.mlp.down_proj.weight.zero_()
    model.model.embed_tokens.weight[number_of("a")] *= 1e3


def scored(airlab: Airlab, **settings: object) -> Answer:
    given = {**SETTINGS, **settings}
    return airlab("score", *(f"{name}={value}" for name, value in given.items()))


def test_a_document_predicted_with_certainty_is_skipped_and_all_others_have_scores(
    airlab: Airlab, tmp_path: Path
) -> None:
    folder = changed(tmp_path / "certain", certain)
    write_jsonl(Path("docs.jsonl"), [*documents(4), {"id": "sure", "text": "a" * 50, "domain": "a"}])
    answer = scored(airlab, **{"model.path": folder})
    assert answer.code == 0, answer.err
    assert "5 documents in, 4 scored, 1 skipped (1 predicted with certainty" in answer.out
    assert [row["unit_id"] for row in pq.read_table("out.skipped.parquet").to_pylist()] == ["sure"]
    table = pq.read_table("out.parquet")
    assert "sure" not in table["id"].to_pylist()
    finite(table)
    Path("docs.jsonl").write_text('{"text": "aaaa"}\n')
    answer = scored(airlab, **{"model.path": folder, "output": "none.parquet"})
    assert answer.code == 2 and "none of the 1 documents could be scored" in answer.sentence
    count("numbers", "documents whose loss is 0", faults=2, inputs=6)


def test_a_trace_predicted_with_certainty_has_a_score_of_a_least_loss_or_a_sentence(
    airlab: Airlab, tmp_path: Path
) -> None:
    folder = changed(tmp_path / "certain", certain)
    write_jsonl(
        Path("docs.jsonl"),
        [
            {"id": "sure", "prompt": "aa", "response": "aaaa"},
            {"id": "other", "prompt": "q", "response": "x y"},
        ],
    )
    given = {"model.path": folder, "rendering": "plain", "rendering.separator": "a"}
    for unit in ("trace", "step"):
        answer = scored(airlab, **given, unit=unit, output=f"{unit}.parquet")
        assert answer.code == 0, answer.err
        table = pq.read_table(f"{unit}.parquet")
        finite(table)
        assert table.num_rows == 2 and table["loss_base"][0].as_py() == 0
        answer = scored(airlab, **given, unit=unit, output="none.parquet", **{"aggregation.least_loss": 0})
        assert answer.code == 2 and "set aggregation.least_loss above zero" in answer.sentence
    count("numbers", "traces whose loss is 0", faults=4, inputs=2)


def finite(table: pa.Table) -> None:
    """No NaN, no infinity, no null in any column of numbers."""
    for name in table.column_names:
        if pa.types.is_floating(table[name].type):
            assert table[name].null_count == 0 and np.isfinite(table[name].to_numpy()).all(), name


@pytest.mark.parametrize("masking", ["uniform", "zero"])
def test_all_heads_masked_gives_scores_and_no_head_masked_a_sentence(
    airlab: Airlab, model: Path, masking: str
) -> None:
    Path("heads.json").write_text(json.dumps([[layer, head] for layer in range(3) for head in range(4)]))
    answer = scored(airlab, **{"model.path": model, "masking": masking})
    assert answer.code == 0, answer.err
    table = pq.read_table("out.parquet")
    finite(table)
    assert (table["attention_influence"].to_numpy() != 0).all()
    Path("heads.json").write_text("[]")
    answer = scored(airlab, **{"model.path": model, "masking": masking, "output": "none.parquet"})
    assert answer.code == 2 and "neither a ranking" in answer.sentence
    count("numbers", "all heads masked, no head masked", faults=2)


def test_lengths_around_the_context_and_around_nothing(airlab: Airlab, tmp_path: Path) -> None:
    folder = random_folder(tmp_path / "short", context=64)
    lengths = {0: None, 1: None, 2: 1, 63: 62, 64: 63, 65: 64, 66: 65, 127: 126, 128: 127}
    rows = [{"id": str(n), "text": ("ab " * 50)[:n].replace(" ", "c")} for n in lengths]
    write_jsonl(Path("docs.jsonl"), rows)
    answer = scored(airlab, **{"model.path": folder, "scoring.window_tokens": 64})
    assert answer.code == 0, answer.err
    table = pq.read_table("out.parquet")
    finite(table)
    found = dict(zip(table["id"].to_pylist(), table["n_tokens"].to_pylist(), strict=True))
    assert found == {str(n): predicted for n, predicted in lengths.items() if predicted is not None}
    skipped = {row["unit_id"]: row["reason"] for row in pq.read_table("out.skipped.parquet").to_pylist()}
    assert skipped == {"0": "empty", "1": "fewer than two tokens: nothing to predict"}
    answer = scored(airlab, **{"model.path": folder, "scoring.window_tokens": 65, "output": "none.parquet"})
    assert answer.code == 2 and "exceeds the model's context of 64 tokens" in answer.sentence
    count("numbers", "lengths around the context, empty and one-token documents", inputs=len(lengths))


def test_one_token_repeated_is_scored(airlab: Airlab, model: Path) -> None:
    write_jsonl(Path("docs.jsonl"), [{"text": "z" * 5000}, {"text": " " * 99 + "z"}])
    answer = scored(airlab, **{"model.path": model})
    assert answer.code == 0, answer.err
    table = pq.read_table("out.parquet")
    finite(table)
    assert table["n_tokens"].to_pylist() == [4999, 99]
    count("numbers", "documents of one repeated token", inputs=2)


def test_one_document_per_domain_and_equal_scores_select_something_finite(
    airlab: Airlab, model: Path
) -> None:
    rows = [{"id": str(n), "text": "the same text", "domain": f"domain {n % 7}"} for n in range(9)]
    write_jsonl(Path("docs.jsonl"), rows)
    assert scored(airlab, **{"model.path": model}).code == 0
    table = pq.read_table("out.parquet")
    pq.write_table(table.set_column(5, "entropy", pa.array(np.zeros(9))), "flat.parquet")
    for name in ("out", "flat"):
        for selector in (
            "attention_influence", "attention_influence_residual", "entropy", "influence_low", "length",
            "length_matched_random", "loss_band", "loss_high", "loss_low", "loss_gap", "random", "rank_sum",
        ):  # fmt: skip
            output = f"{name}-{selector}.parquet"
            answer = airlab(
                "select", f"scores={name}.parquet", f"selector={selector}", "share=0.5", "scope=domain",
                f"output={output}",
            )  # fmt: skip
            if answer.code == 0:
                chosen = pq.read_table(output)
                finite(chosen)
                assert set(chosen["id"].to_pylist()) >= {"2", "3", "4", "5", "6"}, "the only ones of a domain"
            else:
                assert answer.code == 2 and "which a table of scores does not hold" in answer.sentence, (
                    selector
                )
    count("numbers", "equal scores, domains of one document, entropies of 0", inputs=24)


@pytest.mark.parametrize("weights", ["clipped", "linear", "rank", "softmax", "top_share"])
def test_equal_scores_and_single_steps_have_finite_weights(airlab: Airlab, model: Path, weights: str) -> None:
    write_jsonl(
        Path("docs.jsonl"),
        [{"id": "one", "prompt": "q", "response": "abc"}]
        + [{"id": f"equal{n}", "prompt": "q", "response": "abc\n\nabc\n\nabc"} for n in range(2)],
    )
    answer = scored(airlab, unit="step", rendering="plain", **{"model.path": model})
    assert answer.code == 0, answer.err
    table = pq.read_table("out.parquet")
    flat = table.set_column(
        table.column_names.index("attention_influence"),
        "attention_influence",
        pa.array(np.zeros(table.num_rows)),
    )
    pq.write_table(flat, "flat.parquet")
    for name in ("out", "flat"):
        answer = airlab("weigh", f"scores={name}.parquet", f"weights={weights}", f"output=w-{name}.parquet")
        assert answer.code == 0, answer.err
        finite(pq.read_table(f"w-{name}.parquet"))
    count("numbers", "weights of equal scores and of single steps", inputs=2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")] if FULL else [float("nan")])
@pytest.mark.parametrize("verb", ["select", "weigh"])
def test_a_table_with_a_score_that_is_no_number_is_refused(
    airlab: Airlab, model: Path, verb: str, bad: float
) -> None:
    write_jsonl(Path("docs.jsonl"), [{"id": "t", "prompt": "q", "response": "abc\n\ndef"}])
    unit = "step" if verb == "weigh" else "trace"
    assert scored(airlab, unit=unit, rendering="plain", **{"model.path": model}).code == 0
    table = pq.read_table("out.parquet")
    for name in ("attention_influence", "loss_base", "loss_ref", "entropy"):
        place = table.column_names.index(name)
        changed = table[name].to_numpy().copy()
        changed[-1] = bad
        pq.write_table(table.set_column(place, name, pa.array(changed)), "bad.parquet")
        answer = airlab(verb, "scores=bad.parquet", "output=chosen.parquet")
        if answer.code == 0:
            finite(pq.read_table("chosen.parquet"))
            assert name != "attention_influence"
            Path("chosen.parquet").unlink()
        else:
            assert answer.code == 2, answer.err
            assert not Path("chosen.parquet").exists()
    count("numbers", "tables with a score that is not a number", faults=4)
