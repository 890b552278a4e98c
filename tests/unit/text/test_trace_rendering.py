"""The response is found character by character in what the tokenizer's own template makes of a trace."""

import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.schema.traces import Rendering
from airlab.text.rendering import render
from airlab.text.traces import Message, Trace
from tests.unit.text import made_chat as made

ASKED = (Message("system", "Be brief."), Message("user", "What is 2 + 2?"))
CHAT = Rendering()
TOKENIZERS = {name: made.chat_tokenizer(getattr(made, name)) for name in ("CHATML", "THINKING", "TRIMS")}


def trace(response: str, messages: tuple[Message, ...] = ASKED) -> Trace:
    return Trace("t1", "d", messages, response)


responses = st.text(min_size=1, max_size=30).map(str.strip).filter(bool)


@settings(max_examples=60, deadline=None)
@given(response=responses, asked=st.sampled_from(["a", "4", "What is 2 + 2?", "im_end", "responseendshere"]))
@pytest.mark.parametrize("template", ["CHATML", "TRIMS"])
def test_any_response_is_found_wherever_else_its_words_occur(
    template: str, response: str, asked: str
) -> None:
    """Such as an answer that repeats the question, or a letter of the template."""
    tokenizer = TOKENIZERS[template]
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": response}]
    text, start, end = render(tokenizer, trace(response, (Message("user", asked),)), CHAT)
    assert text == tokenizer.apply_chat_template(turns, tokenize=False)
    assert text[start:end] == response
    assert text[:start].endswith("assistant" + ("\n" if template == "CHATML" else ": "))


@pytest.mark.parametrize("response", ["m", "assistant", "4 responseendshere", "<|im_end|>", "2"])
def test_words_of_the_template_and_of_the_search_itself_do_no_harm(response: str) -> None:
    text, start, end = render(TOKENIZERS["CHATML"], trace(response), CHAT)
    assert text[start:end] == response and text[end:] == "<|im_end|>\n"
    assert text[:start].endswith("<|im_start|>assistant\n")


def test_a_template_that_takes_thoughts_apart_and_together_again_keeps_them() -> None:
    earlier = (*ASKED, Message("assistant", "<think>\nHm.\n</think>\n\nFour."), Message("user", "Sure?"))
    text, start, end = render(
        TOKENIZERS["THINKING"], trace("<think>\nTwo,\n\ntwo.\n</think>\n\nYes.", earlier), CHAT
    )
    assert text[start:end] == "<think>\nTwo,\n\ntwo.\n</think>\n\nYes."
    assert "Hm." not in text, "what the template drops of earlier answers is its own business"
    text, start, end = render(TOKENIZERS["THINKING"], trace("Four."), CHAT)
    assert text[start:end] == "Four." and text[:start].endswith("<think>\n\n</think>\n\n")


BAD: list[tuple[str | None, str, str]] = [
    (None, "Four.", "has no chat template: use rendering.template=plain"),
    (made.DROPS_THINKING, "<think>a</think>b", "drops or changes part of the answer of trace 't1'"),
    (made.THINKING, "<think>a</think>b", "drops or changes part of the answer"),
    (made.TRIMS, " Four. ", "drops or changes part of the answer"),
    ("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}", "four", "drops or changes"),
    ("{{ messages[0]['content'] }}", "four", "drops or changes part of the answer"),
    ("{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}", "four", "drops or changes"),
    (made.DROPS_SYSTEM, "Four.", "drops or changes a message of the system in trace 't1'"),
    (made.REFUSES_SYSTEM, "Four.", r"refuses trace 't1' \(no system here\)"),
    ("{{ messages[0]['content'] + 1 }}", "Four.", "refuses trace 't1'"),
    ("{% for m in messages %}", "Four.", "refuses trace 't1'"),
]


@pytest.mark.parametrize(("template", "response", "told"), BAD)
def test_a_template_that_is_missing_or_cannot_be_trusted_is_refused_in_one_sentence(
    template: str | None, response: str, told: str
) -> None:
    with pytest.raises(UserError, match=told) as error:
        render(made.chat_tokenizer(template), trace(response), CHAT)
    assert "\n" not in str(error.value)


def test_what_a_model_reads_does_not_depend_on_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = made.chat_tokenizer(made.DATED)
    turns = [{"role": "user", "content": "a"}]
    today: Any = datetime.datetime.now().strftime("%d %b %Y")
    assert today in tokenizer.apply_chat_template(turns, tokenize=False), "this template asks for the date"
    text = render(tokenizer, trace("Four."), CHAT).text
    assert text.startswith("Today is 26 Jul 2024.\n<|im_start|>system\n")


def test_a_plain_text_is_prompt_separator_and_response_or_the_response_alone() -> None:
    plain = Rendering(template="plain", separator=" => ")
    text, start, end = render(None, trace("Four. "), plain)
    assert (text, text[start:end]) == ("Be brief.\n\nWhat is 2 + 2? => Four. ", "Four. ")
    assert render(None, trace("Four. ", ()), plain) == ("Four. ", 0, 6)
