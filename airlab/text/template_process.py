"""A chat template is somebody else's program: it runs in a process of its own that may use little.

transformers runs templates in jinja2's immutable sandbox, which keeps them from files, modules and attributes
of Python's. It does not keep them from computing for ever or from making a text of any size, for every chat
or for one that comes late. So chats are rendered in a process whose time and memory the system limits, for
every trace anew. It takes half a second to start, once, and 0.2 ms for a trace, a tenth of what tokenizing
takes.

What this does not bound: memory where the system holds to no limit (macOS), there time alone.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from airlab.errors import UserError, first_line

_SECONDS, _PER_CHARACTER_S = 5, 1e-6
"""Of computing, for what is asked at once; the longest templates that are known take some 0.1 s."""
_BYTES, _HELD = 1 << 29, 64
"""What it may hold more than it does when it starts, and for each character that it is given."""

_MOST_ADDED = 1 << 18
"""Characters that a template may put around a chat, besides saying it again."""

Turns = Sequence[dict[str, str]]


class Refused(Exception):
    """The template refuses a chat, or asks for what its sandbox forbids."""


def apply_template(template: str, chats: Sequence[Turns], variables: dict[str, Any]) -> list[str]:
    """The texts of some chats.

    Args:
        variables: what the template finds besides the turns, and transformers' own settings.

    Raises:
        Refused: see there.
        UserError: it takes more time or memory than a chat can need, or makes a text of more characters.
    """
    given = max(sum(len(turn["content"]) for turn in turns) for turns in chats)
    longest = 10 * given + _MOST_ADDED
    asked = {"chats": list(chats), "variables": variables, "longest": longest, "seconds": _SECONDS}
    with _process.lock:
        told = _process.ask(template, asked)
    if "refused" in told:
        raise Refused(told["refused"])
    if "characters" in told:
        raise UserError(
            f"the tokenizer's chat template makes {told['characters']:,} characters of the {given:,} of one "
            "chat, which no template of use does: use another tokenizer, or texts without a template "
            "(rendering.template=plain, or chat=false of a benchmark)."
        )
    texts: list[str] = told["texts"]
    return texts


@dataclass
class _Process:
    """The process, from its first template on, seen from outside."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    running: "subprocess.Popen[str] | None" = None
    template: str | None = None

    def ask(self, template: str, asked: dict[str, Any]) -> dict[str, Any]:
        process = self._started()
        assert process.stdin and process.stdout
        try:
            if template != self.template:
                asked |= {"template": template}
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asked) + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
        except BaseException:  # an interrupt: nobody will read this reply any more
            self.end()
            raise
        told: dict[str, Any] = json.loads(line) if line.endswith("\n") else {"ended": process.wait()}
        self.template = template
        if "ended" in told or "memory" in told:
            self.end()
            if told.get("ended", -1) >= 0:
                raise RuntimeError(f"the process of chat templates ended with exit code {told['ended']}")
            raise UserError(
                f"the tokenizer's chat template takes more than {_SECONDS} s or {_BYTES >> 20} MB for one "
                "chat, which no template of use does: use another tokenizer, or texts without a template "
                "(rendering.template=plain, or chat=false of a benchmark)."
            )
        return told

    def end(self) -> None:
        """End it, if there is one."""
        if self.running is not None:
            self.running.kill()
            self.running.wait()
            for pipe in (self.running.stdin, self.running.stdout):
                assert pipe
                # A request that a dead process did not read is still in the buffer, and closing flushes it.
                with suppress(BrokenPipeError):
                    pipe.close()
        self.running = self.template = None

    def _started(self) -> "subprocess.Popen[str]":
        if self.running is None:
            self.running = subprocess.Popen(
                [sys.executable, "-P", "-m", "airlab.text.template_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                start_new_session=True,  # Ctrl-C is for us to handle
            )
        return self.running


_process = _Process()


def _forget() -> None:
    """In a fork: the process answers the one that started it."""
    global _process
    _process = _Process()


os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: _process.end())


def _main() -> None:
    """Answer one request a line, each within the limits."""
    import resource

    import psutil
    from transformers.utils.chat_template_utils import render_jinja_template

    # From here on all that matters is in the replies.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    own = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no image of the memory when it is ended
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    template = ""
    for line in sys.stdin:
        size = own + _BYTES + _HELD * len(line)
        if allowed == resource.RLIM_INFINITY or size < allowed:
            resource.setrlimit(resource.RLIMIT_AS, (size, allowed))
        asked = json.loads(line)
        template = asked.get("template", template)
        # Nobody handles the signal, so the system ends the process, in whatever call it is.
        signal.setitimer(signal.ITIMER_PROF, asked["seconds"] + len(line) * _PER_CHARACTER_S)
        try:
            texts, _ = render_jinja_template(asked["chats"], chat_template=template, **asked["variables"])
            longest = max(map(len, texts))
            told = json.dumps({"characters": longest} if longest > asked["longest"] else {"texts": texts})
        except MemoryError:
            told = json.dumps({"memory": True})
        except Exception as error:  # anybody's program, in a sandbox that forbids all but arithmetic
            told = json.dumps({"refused": first_line(error)})
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        print(told, flush=True)


if __name__ == "__main__":
    _main()
