"""Chat templates are programs of other people: they end, stay small and see nothing of this process."""

import resource

import pytest

from airlab.errors import UserError
from airlab.schema.traces import Rendering
from airlab.text import template_trial
from airlab.text.rendering import render
from airlab.text.traces import Message, Trace
from tests.faults.ledger import count
from tests.unit.text.made_chat import CHATML, chat_tokenizer

TRACE = Trace("t1", "d", (Message("user", "What is 2 + 2?"),), "Four.")


def most_held() -> int:
    """The most memory that this process or one that it started ever held; in KiB on Linux."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


COSTLY = {
    "a loop without end": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}" + CHATML,
    "a text of 10 GB": "{{ 'a' * 10**10 }}" + CHATML,
    "a text of 10 GB that depends on the chat": "{{ messages[0]['role'] * 10**10 }}" + CHATML,
    "a text that doubles": "{% set n = namespace(x='a') %}{% for _ in range(40) %}{% set n.x = n.x + n.x %}"
    "{% endfor %}" + CHATML,
    "a width": "{{ '%9999999999d' % 1 }}" + CHATML,
    "a number of 10^10 digits": "{{ 10 ** (10 ** 10) }}" + CHATML,
}

REFUSED = {
    "a range of 10^9": ("{% for _ in range(10**9) %}{% endfor %}", "refuses trace 't1' (Range too big"),
    "itself for ever": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "refuses trace 't1' (maximum"),
    "Python's classes": ("{{ ''.__class__.__mro__ }}", "refuses trace 't1' (access to attribute '__class__'"),
    "Python's classes by a filter": ("{{ (''|attr('__class__')).__mro__ }}", "refuses trace 't1' (access"),
    "Python's classes by a format": (
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "refuses trace 't1' (access",
    ),
    "what a function holds": (
        "{{ raise_exception.__globals__.os }}",
        "refuses trace 't1' (access to attribute",
    ),
    "a file": ("{% include '/etc/passwd' %}", "refuses trace 't1' (no loader"),
    "another chat": ("{{ messages.clear() }}" + CHATML, "refuses trace 't1' (access to attribute 'clear'"),
    "much text": ("{{ 'a' * 10**7 }}" + CHATML, "makes 10,000,"),
    "a template of 10^6 characters": ("a" * 10**6, "has 1,000,000 characters"),
}


@pytest.mark.parametrize("case", COSTLY)
def test_a_template_that_costs_too_much_is_given_up(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_trial, "_SECONDS", 1)
    before = most_held()
    with pytest.raises(UserError, match="takes more than 1 s or 512 MB for one chat"):
        render(chat_tokenizer(COSTLY[case]), TRACE, Rendering())
    assert most_held() < before + (1 << 20), "less than one of the ten GB that some of them ask for"
    count("hostile", "chat templates that compute or grow without end: given up", inputs=1)


@pytest.mark.parametrize("case", REFUSED)
def test_a_template_reaches_nothing_but_the_chat(case: str) -> None:
    template, told = REFUSED[case]
    with pytest.raises(UserError) as refusal:
        render(chat_tokenizer(template), TRACE, Rendering())
    assert told in str(refusal.value)
    count("hostile", "chat templates that reach out of their sandbox: refused", inputs=1)


def test_a_template_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = chat_tokenizer(CHATML + "{# a template that no other test has #}")
    first = render(tokenizer, TRACE, Rendering())
    monkeypatch.setattr("subprocess.run", None)
    assert render(tokenizer, TRACE._replace(unit_id="t2"), Rendering()) == first
