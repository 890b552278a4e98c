"""Chat templates are programs of other people: they end, stay small and see nothing of this process."""

import os
import resource
import signal

import psutil
import pytest

from airlab.errors import UserError
from airlab.schema.traces import Rendering
from airlab.text import template_process
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
    "a number of 10^10 digits": "{{ (9 + messages|length) ** (10 ** 10) }}" + CHATML,
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
    monkeypatch.setattr(template_process, "_SECONDS", 1)
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


LATER = (Message("user", "And 3 + 3?"),)


@pytest.mark.parametrize("case", COSTLY)
def test_a_template_that_turns_costly_for_a_later_chat_is_given_up_there(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is small and quick for all chats but one, and the process serves other templates afterwards."""
    monkeypatch.setattr(template_process, "_SECONDS", 1)
    costly = COSTLY[case].removesuffix(CHATML)
    tokenizer = chat_tokenizer("{% if '3' in messages[0]['content'] %}" + costly + "{% endif %}" + CHATML)
    first = render(tokenizer, TRACE, Rendering())
    before = most_held()
    with pytest.raises(UserError, match="takes more than 1 s or 512 MB for one chat"):
        render(tokenizer, TRACE._replace(messages=LATER), Rendering())
    assert most_held() < before + (1 << 20)
    assert render(chat_tokenizer(CHATML), TRACE, Rendering()) == first
    count("hostile", "chat templates that turn costly for a later chat: given up", inputs=1)


def test_a_chat_of_any_length_is_within_the_limits() -> None:
    """What a chat may take grows with it: 40 MB twice in three forms are no fault of the template's."""
    response = "0123456 " * (5 << 20)
    text, start, end = render(chat_tokenizer(CHATML), TRACE._replace(response=response), Rendering())
    assert text[start:end] == response


def test_many_chats_take_no_more_time_than_each_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is of a chat, not of all that this process renders."""
    monkeypatch.setattr(template_process, "_SECONDS", 1)
    tokenizer = chat_tokenizer("{% for a in range(300) %}{% for b in range(1000) %}{% endfor %}{% endfor %}")

    def spent() -> float:
        process = template_process._process.running
        return 0.0 if process is None else sum(psutil.Process(process.pid).cpu_times()[:2])

    before = spent()
    while spent() < before + 1.5:
        with pytest.raises(UserError, match="drops or changes part of the answer"):
            render(tokenizer, TRACE, Rendering())


def test_a_process_is_started_once_and_forks_start_their_own() -> None:
    first = render(chat_tokenizer(CHATML), TRACE, Rendering())
    process = template_process._process.running
    assert process is not None
    child = os.fork()
    if child == 0:
        same = render(chat_tokenizer(CHATML), TRACE, Rendering()) == first
        os._exit(0 if same and template_process._process.running not in (None, process) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert render(chat_tokenizer(CHATML), TRACE, Rendering()) == first
    assert template_process._process.running is process


def test_an_interrupt_while_a_template_computes_leaves_nothing_behind() -> None:
    """A reply that nobody read would be taken for the next chat's."""
    first = render(chat_tokenizer(CHATML), TRACE, Rendering())
    endless = chat_tokenizer(COSTLY["a loop without end"])
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt):
        render(endless, TRACE, Rendering())
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert template_process._process.running is None
    assert render(chat_tokenizer(CHATML), TRACE, Rendering()) == first
