"""A trace as the one text that a model reads, and where in it the response lies."""

from typing import Any, NamedTuple

from airlab.errors import UserError, first_line
from airlab.schema.traces import Rendering
from airlab.text.template_trial import try_template
from airlab.text.traces import Trace

_MARKER = "responseendshere"
_TODAY = "26 Jul 2024"
_LONGEST_TEMPLATE = 1 << 18
"""Characters; the longest that are known have some 20,000."""
_MOST_ADDED = 1 << 18
"""Characters that a template may put around a chat, besides saying it again."""
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
    template = chat_template(tokenizer, _turns(trace, trace.response))
    marker = _MARKER
    while any(marker in text for text in (trace.prompt, trace.response, template)):
        marker += "x"
    # Where a response that ends in a mark has the mark, the response ends: this finds it even where its words
    # occur in the question or in the template too.
    text = _applied(tokenizer, template, trace, trace.response)
    marked = _applied(tokenizer, template, trace, trace.response + marker)
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


def chat_template(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    """The tokenizer's chat template, with one day for all days.

    Args:
        turns: the chat that it is tried on if this process has not used it before, see `try_template`.

    Raises:
        UserError: there is none, or one that is longer or takes more than any of use.
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
    template = _SAME_DAY + template if "strftime_now" in template else template
    try_template(template, turns, tokenizer.special_tokens_map)
    return template


def _turns(trace: Trace, response: str) -> list[dict[str, str]]:
    return [*(message._asdict() for message in trace.messages), {"role": "assistant", "content": response}]


def _applied(tokenizer: Any, template: str, trace: Trace, response: str) -> str:
    turns = _turns(trace, response)
    try:
        text: str = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
    except (
        Exception
    ) as error:  # the template is anybody's program, in a sandbox that forbids all but arithmetic
        raise UserError(
            f"the tokenizer's chat template refuses trace '{trace.unit_id}' ({first_line(error)}): "
            "use rendering.template=plain or change the trace's turns."
        ) from error
    given = sum(len(turn["content"]) for turn in turns)
    if len(text) > 10 * given + _MOST_ADDED:
        raise UserError(
            f"the tokenizer's chat template makes {len(text):,} characters of the {given:,} of trace "
            f"'{trace.unit_id}': use rendering.template=plain or another tokenizer."
        )
    return text
