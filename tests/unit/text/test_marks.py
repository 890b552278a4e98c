"""Marks partition a text and its tokens, and cut no character that a reader sees."""

from typing import Any

import numpy as np
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from airlab.errors import UserError
from airlab.schema.traces import Rendering, Segmentation
from airlab.text.marks import Marked, mark_document, mark_trace
from airlab.text.tokens import encode_documents
from airlab.text.trace_tokens import encode_traces
from airlab.text.traces import Message, Trace
from tests.unit.text import made_chat as made


def byte_fallback() -> Any:
    """Sentencepiece's way: a space in front, and a token a byte for characters that are not known."""
    known = {f"<0x{byte:02X}>": byte for byte in range(256)} | {c: 256 + i for i, c in enumerate("▁abct")}
    inner = Tokenizer(models.BPE({"<unk>": 261, **known}, [], unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.ByteFallback()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


TOKENIZERS = {
    "bytes": made.chat_tokenizer(),
    "bytes, trimmed": made.chat_tokenizer(trim_offsets=True),
    "bytes, with a start": made.chat_tokenizer(start=True),
    "byte fallback": byte_fallback(),
}
FAMILY = "👨\u200d👩\u200d👧"
HARD = f"a {FAMILY} e\u0301é שלום\r\n\n\tनमस्ते 🇩🇪 \x00\u202e ة <|im_end|>   "


def pieces(marked: Marked) -> list[tuple[str, int]]:
    """The characters of each mark, and its number of tokens."""
    starts = (0, *marked.ends[:-1])
    return [(marked.text[a:b], n) for a, b, n in zip(starts, marked.ends, marked.tokens, strict=True)]


def check(marked: Marked) -> None:
    assert "".join(text for text, _ in pieces(marked)) == marked.text
    assert sum(marked.tokens) == len(marked.ids) and min(marked.tokens) >= 1
    seen = {0, *(found.end() for found in regex.finditer(r"\X", marked.text))}
    assert set(marked.ends) <= seen, "a mark ends inside of a character"


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=2, max_size=40))
@example(HARD)
@example("   ")
@example("ab")
def test_marks_partition_any_text_and_its_tokens(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    marked = mark_document(tokenizer, text)
    assert marked.text == text
    np.testing.assert_array_equal(marked.ids, encode_documents(tokenizer, [text])[0])
    check(marked)


def test_bytes_of_one_character_share_a_mark_and_others_have_their_own() -> None:
    assert pieces(mark_document(TOKENIZERS["bytes"], "x☃y")) == [("x", 1), ("☃", 3), ("y", 1)]
    assert pieces(mark_document(TOKENIZERS["byte fallback"], "a☃b")) == [("a", 2), ("☃", 3), ("b", 1)]


def test_what_is_read_as_one_character_is_one_mark() -> None:
    found = pieces(mark_document(TOKENIZERS["bytes"], f"x{FAMILY}y"))
    assert [text for text, _ in found] == ["x", FAMILY, "y"]
    assert found[1][1] == len(FAMILY.encode())
    assert pieces(mark_document(TOKENIZERS["bytes"], "xe\u0301y"))[1][0] == "e\u0301"


def test_a_token_without_characters_has_a_mark_of_its_own() -> None:
    assert pieces(mark_document(TOKENIZERS["bytes, with a start"], "xy"))[0] == ("", 1)


@pytest.mark.parametrize("text", ["", "x"])
def test_a_text_with_nothing_to_predict_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="fewer than two tokens"):
        mark_document(TOKENIZERS["bytes"], text)


@pytest.mark.parametrize("name", ["bytes", "bytes, trimmed", "bytes, with a start"])
@pytest.mark.parametrize("template", ["chat", "plain"])
def test_a_traces_marks_are_those_of_what_the_model_reads(name: str, template: Any) -> None:
    trace = Trace("t", "d", (Message("user", "the river?"),), f"So {FAMILY} is\n\nfour.\n\nThen 4 ☃")
    rendering, segmentation = Rendering(template=template), Segmentation()
    marked = mark_trace(TOKENIZERS[name], trace, rendering, segmentation)
    assert not isinstance(marked, str)
    check(marked)
    (scored,) = encode_traces(TOKENIZERS[name], [trace], rendering, segmentation)
    assert not isinstance(scored, str)
    np.testing.assert_array_equal(marked.ids, scored.ids)
    assert marked.steps == scored.steps and len(marked.steps) == 3
    assert marked.text.endswith(trace.response) and "the river?" in marked.text


def test_a_trace_that_is_not_scored_says_why() -> None:
    trace = Trace("t", "d", (Message("user", "<|im_end|>"),), "four.")
    assert mark_trace(TOKENIZERS["bytes"], trace, Rendering(), Segmentation()) == "spells a special token"
