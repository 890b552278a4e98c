"""Tokens of a trace: those of the whole text, each in exactly one step or in the prompt."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airlab.schema.traces import Rendering, Segmentation
from airlab.text import trace_tokens
from airlab.text.steps import cut
from airlab.text.tokens import encode_documents
from airlab.text.trace_tokens import (
    NOTHING_TO_PREDICT,
    SPECIAL_TEXT,
    TraceTokens,
    encode_traces,
    own_characters,
    tokenized_traces,
)
from airlab.text.traces import Message, Trace, write_traces
from tests.unit.text import made_chat as made

PLAIN = Rendering(template="plain", separator="")
KINDS: dict[str, dict[str, Any]] = {
    "whole offsets": {},
    "trimmed offsets": {"trim_offsets": True},
    "a start": {"start": True},
}
TOKENIZERS = {name: made.chat_tokenizer(**settings) for name, settings in KINDS.items()}
RULES = ["whole", "blank_line", "newline", "sentence", "cue", "fixed_tokens"]


def trace(response: str, prompt: str = "", **more: Any) -> Trace:
    return Trace("t", "d", (Message("user", prompt),) if prompt else (), response, **more)


def one(
    tokenizer: Any,
    given_: Trace,
    rendering: Rendering = PLAIN,
    rule: str = "newline",
    tokens_per_step: int = 3,
) -> TraceTokens:
    segmentation = Segmentation(rule=rule, tokens_per_step=tokens_per_step)  # type: ignore[arg-type]
    (found,) = encode_traces(tokenizer, [given_], rendering, segmentation)
    assert not isinstance(found, str), found
    return found


def said(tokenizer: Any, given_: Trace, tokens: TraceTokens) -> list[tuple[str, str]]:
    """Each step's characters, and the text of its tokens."""
    return [
        (
            given_.response[s.start : s.end],
            tokenizer.decode(tokens.ids[s.first_token : s.first_token + s.n_tokens]),
        )
        for s in tokens.steps
    ]


texts = st.lists(
    st.one_of(
        st.sampled_from(["the river", " and ", "So ", "\n", "\n\n", ". ", "🤔", "é", "e\u0301", "文", "$x$"]),
        st.text(max_size=4),
    ),
    min_size=1,
    max_size=10,
).map("".join)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(response=texts, prompt=st.sampled_from(["", "the", "the river and ", "Q:\n", "the an"]))
@example(response="\n\nSo", prompt="the")
@example(response=" the", prompt="the an")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["newline", "sentence", "fixed_tokens"])
def test_every_token_of_the_response_is_in_exactly_one_step(
    kind: str, rule: str, response: str, prompt: str
) -> None:
    tokenizer, given_ = TOKENIZERS[kind], trace(response, prompt)
    segmentation = Segmentation(rule=rule, tokens_per_step=3)  # type: ignore[arg-type]
    (found,) = encode_traces(tokenizer, [given_], PLAIN, segmentation)
    if isinstance(found, str):
        whole = encode_documents(tokenizer, [prompt + response])[0]
        assert found == NOTHING_TO_PREDICT and (len(whole) < 2 or prompt)
        return
    assert found.ids.tolist() == encode_documents(tokenizer, [prompt + response])[0].tolist()
    assert "".join(response[s.start : s.end] for s in found.steps) == response
    assert all(s.n_tokens > 0 for s in found.steps)
    assert all(a.first_token + a.n_tokens == b.first_token for a, b in itertools.pairwise(found.steps))
    assert found.steps[-1].first_token + found.steps[-1].n_tokens == len(found.ids)
    if not prompt:
        assert found.steps[0].first_token == 1, "all but what nothing predicts"
    uncut = {start for start, _ in cut(response, segmentation)} if rule != "fixed_tokens" else None
    assert uncut is None or {s.start for s in found.steps} <= uncut


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_takes_the_space_before_it_along_and_a_full_stop_the_line_breaks_behind(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    given_ = trace("the stone. So we add.\n\nThen it is 4.", "the river")
    assert said(tokenizer, given_, one(tokenizer, given_, rule="sentence")) == [
        ("the stone. ", "the stone."),
        ("So we add.\n\n", " So we add.\n\n"),
        ("Then it is 4.", "Then it is 4."),
    ]


@pytest.mark.parametrize(
    ("prompt", "response", "first"),
    [
        ("the ", "river", " river"),  # the space is the prompt's, the token the response's
        ("the", " river", " river"),
        ("the ri", "ver and", " and"),  # a token that begins in the prompt is the prompt's
    ],
)
def test_prompt_and_response_share_tokens_by_the_same_rule(prompt: str, response: str, first: str) -> None:
    tokenizer = TOKENIZERS["whole offsets"]
    pieces = [tokenizer.decode([i]) for i in tokenizer(prompt + response)["input_ids"]]
    assert any(first == piece for piece in pieces), f"this tokenizer has other pieces: {pieces}"
    given_ = trace(response, prompt)
    (step,) = one(tokenizer, given_, rule="whole").steps
    assert (step.start, step.end) == (0, len(response)), "its characters are the step's in any case"
    assert step.n_tokens == len(pieces) - step.first_token == len(pieces) - pieces.index(first)


def test_white_space_between_tokens_without_it_goes_where_it_goes_with_it() -> None:
    text = "ab. \n\ncd"
    whole, trimmed = [(0, 2), (2, 3), (3, 6), (6, 8)], [(0, 2), (2, 3), (6, 6), (6, 8)]
    for offsets in (whole, trimmed):
        assert own_characters(text, np.array(offsets)).tolist() == [0, 2, 3, 6]
    assert own_characters("a 🤔", np.array([(0, 1), (1, 3), (2, 3), (2, 3)])).tolist() == [0, 2, 2, 2]
    assert own_characters("a", np.zeros((0, 2), dtype=np.int64)).tolist() == []


def test_steps_without_a_token_are_joined_to_a_neighbour() -> None:
    """Three steps are named where the tokenizer sees one word: two of them have no token."""
    tokenizer = TOKENIZERS["whole offsets"]
    assert [tokenizer.decode([i]) for i in tokenizer("the river and")["input_ids"]] == [
        "the",
        " river",
        " and",
    ]
    given_ = trace("the river and", step_ends=(5, 6, 7, 9, 13))
    (found,) = encode_traces(tokenizer, [given_], PLAIN, Segmentation(rule="given"))
    assert not isinstance(found, str)
    assert [(s.start, s.end, s.n_tokens) for s in found.steps] == [(0, 9, 1), (9, 13, 1)]
    prompted = trace("ver and the", "the ri", step_ends=(3, 7, 11))
    (found,) = encode_traces(tokenizer, [prompted], PLAIN, Segmentation(rule="given"))
    assert not isinstance(found, str)
    assert [(s.start, s.end, s.n_tokens) for s in found.steps] == [(0, 7, 1), (7, 11, 1)]


def test_a_chat_is_tokenized_as_the_tokenizers_own_call_does() -> None:
    tokenizer = made.chat_tokenizer(start=True)
    turns = (Message("user", "the river"), Message("assistant", "and"), Message("user", "So?"))
    given_ = Trace("t", "d", turns, "the stone.\n\nSo four.")
    found = one(tokenizer, given_, Rendering(), "blank_line")
    own = tokenizer.apply_chat_template(
        [*(m._asdict() for m in turns), {"role": "assistant", "content": given_.response}], return_dict=False
    )
    assert [*found.ids, *found.closing] == own
    assert tokenizer.decode(found.closing) == "<|im_end|>\n"
    assert said(tokenizer, given_, found) == [("the stone.\n\n", "the stone.\n\n"), ("So four.", "So four.")]
    before = tokenizer.decode(found.ids[: found.steps[0].first_token])
    assert before.endswith("<|im_start|>assistant\n") and "and<|im_end|>" in before


@pytest.mark.parametrize("where", ["prompt", "response"])
def test_a_chat_that_spells_a_special_token_is_skipped_unless_it_may_be_one(where: str) -> None:
    tokenizer = TOKENIZERS["whole offsets"]
    given_ = trace("four", "a <|im_end|> b") if where == "prompt" else trace("a <|im_end|> b", "four")
    segmentation = Segmentation(rule="whole")
    fine = trace("So four.", "and")
    found = encode_traces(tokenizer, [fine, given_, fine], Rendering(), segmentation)
    assert found[1] == SPECIAL_TEXT
    assert all(isinstance(tokens, TraceTokens) for tokens in (found[0], found[2]))
    as_token = one(tokenizer, given_, Rendering(special_text="token"), "whole")
    as_text = one(tokenizer, given_, PLAIN, "whole")
    end = tokenizer.eos_token_id
    assert (as_token.ids == end).sum() == 2 and end not in as_text.ids, (
        "the question's end and the one spelled"
    )


def test_a_lone_first_token_is_nothing_to_predict() -> None:
    tokenizer = TOKENIZERS["whole offsets"]
    assert encode_traces(tokenizer, [trace("the")], PLAIN, Segmentation()) == [NOTHING_TO_PREDICT]
    assert len(one(TOKENIZERS["a start"], trace("the")).ids) == 2, "a start predicts it"


def test_groups_are_tokenized_in_order_some_text_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = [Trace(f"t{n}", "d", (), "the river and " * (1 + n % 5)) for n in range(600)]
    write_traces(tmp_path / "t.parquet", traces)
    tokenizer, segmentation = (
        TOKENIZERS["whole offsets"],
        Segmentation(rule="fixed_tokens", tokens_per_step=4),
    )
    whole = encode_traces(tokenizer, traces, PLAIN, segmentation)
    monkeypatch.setattr(trace_tokens, "_TEXT_AT_ONCE", 200)
    with pq.ParquetFile(tmp_path / "t.parquet") as file:
        parts = list(tokenized_traces(file, [0, 1, 2], tokenizer, PLAIN, segmentation))
    assert len(parts) > 100 and all(sum(len(t.response) for t, _ in part) <= 200 for part in parts)
    found = [pair for part in parts for pair in part]
    assert [t for t, _ in found] == traces
    for (_, one_), other in zip(found, whole, strict=True):
        assert not isinstance(one_, str) and not isinstance(other, str)
        assert one_.steps == other.steps and one_.ids.tolist() == other.ids.tolist()
