"""A trace as the one text that a model reads, and where in it the response lies."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from airlab.errors import UserError
from airlab.schema.traces import Rendering
from airlab.text.template_process import Refused, apply_template
from airlab.text.traces import Trace

_MARKER = "responseendshere"
_TODAY = "26 Jul 2024"
_LONGEST_TEMPLATE = 1 << 18
"""Characters; the longest that are known have some 20,000."""
_SAME_DAY = f"{{% macro strftime_now(format) %}}{_TODAY}{{% endmacro %}}\n"
"""Put before templates that ask for the date: what a model reads must not depend on the day it is asked."""


class Rendered(NamedTuple):
    """A text, and the span of the response's characters in it."""

    text: str
    start: int
    end: int


def render(tokenizer: Any, trace: Trace, rendering: Rendering) -> Rendered:
    """The text of a trace.

    The response lies in it character by character: ``text[start:end] == trace.response``. In a chat the
    response is the last turn; what the template puts after it follows in the text.

    Raises:
        UserError: the tokenizer has no chat template, or one that refuses the trace, or that drops or changes
            the response or a message of the system or the user. Earlier answers may be shortened: templates
            do so on purpose.
    """
    if rendering.template == "plain":
        prompt = trace.prompt + rendering.separator if trace.prompt else ""
        return Rendered(prompt + trace.response, len(prompt), len(prompt) + len(trace.response))
    template = chat_template(tokenizer)
    marker = _MARKER
    while any(marker in text for text in (trace.prompt, trace.response, template)):
        marker += "x"
    # Where a response that ends in a mark has the mark, the response ends: this finds it even where its words
    # occur in the question or in the template too.
    text, marked = _applied(tokenizer, template, trace, ("", marker))
    before, _, after = marked.partition(marker)
    if before + after != text or not before.endswith(trace.response):
        raise UserError(
            f"the tokenizer's chat template drops or changes part of the answer of trace '{trace.unit_id}', "
            "so that its steps cannot be found in what the model reads: use rendering.template=plain or a "
            "tokenizer whose template keeps answers as they are."
        )
    start = len(before) - len(trace.response)
    for message in trace.messages:
        if message.role in ("system", "user") and message.content.strip() not in text[:start]:
            raise UserError(
                f"the tokenizer's chat template drops or changes a message of the {message.role} in trace "
                f"'{trace.unit_id}': use rendering.template=plain or another tokenizer."
            )
    return Rendered(text, start, len(before))


def chat_template(tokenizer: Any) -> str:
    """The tokenizer's chat template, with one day for all days.

    Raises:
        UserError: there is none, or one that is longer than any of use.
    """
    try:
        template: str = tokenizer.get_chat_template()
    except ValueError as error:  # there is none, or several of which none is the default
        raise UserError(
            "the tokenizer has no chat template: use rendering.template=plain or a chat model's tokenizer."
        ) from error
    if len(template) > _LONGEST_TEMPLATE:
        raise UserError(
            f"the tokenizer's chat template has {len(template):,} characters, and none of use has more than "
            f"{_LONGEST_TEMPLATE:,}: use rendering.template=plain or another tokenizer."
        )
    return _SAME_DAY + template if "strftime_now" in template else template


def _applied(tokenizer: Any, template: str, trace: Trace, ends: Sequence[str]) -> list[str]:
    """The texts of a trace whose response ends in something more each time."""
    asked: list[dict[str, str]] = [message._asdict() for message in trace.messages]
    chats = [[*asked, {"role": "assistant", "content": trace.response + end}] for end in ends]
    try:
        return apply_template(template, chats, tokenizer.special_tokens_map)
    except Refused as error:
        raise UserError(
            f"the tokenizer's chat template refuses trace '{trace.unit_id}' ({error}): "
            "use rendering.template=plain or change the trace's turns."
        ) from error
