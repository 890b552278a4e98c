"""A chat template is somebody else's program: it is first tried in a process that may use little.

transformers runs templates in jinja2's immutable sandbox, which keeps them from files, modules and attributes
of Python's. It does not keep them from computing for ever or from making a text of any size, and one of both
kinds can be made by translating a template alone. So the first chat that a template is used for is translated
and rendered in a process of its own, whose time and memory the system limits.

What this bounds: a template that costs too much for any chat. What it does not bound: one that asks for a
certain chat that comes later, and memory where the system holds to no limit (macOS).
"""

import json
import subprocess
import sys
from typing import Any

from airlab.errors import UserError

_SECONDS = 5
"""Of computing, besides the time to start; the longest templates that are known take some 0.1 s."""
_BYTES = 1 << 29
_REFUSED, _MEMORY = 3, 4
"""What the process leaves with, besides 0."""
_tried: set[str] = set()


def try_template(template: str, turns: list[dict[str, str]], variables: dict[str, str]) -> None:
    """Try a template on a chat, if it is the first in this process.

    A template that refuses the chat is for the caller to find out.

    Raises:
        UserError: it takes more time or memory than a chat can need.
    """
    if template in _tried:
        return
    given = {
        "template": template,
        "turns": turns,
        "variables": variables,
        "seconds": _SECONDS,
        "bytes": _BYTES,
    }
    done = subprocess.run(
        [sys.executable, "-m", "airlab.text.template_trial"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode < 0 or done.returncode == _MEMORY:
        raise UserError(
            f"the tokenizer's chat template takes more than {_SECONDS} s or {_BYTES >> 20} MB for one chat, "
            "which no template of use does: use another tokenizer, or texts without a template "
            "(rendering.template=plain, or chat=false of a benchmark)."
        )
    if done.returncode not in (0, _REFUSED):
        told = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"a chat template could not be tried: {told[-1]}")
    _tried.add(template)


def _limit(seconds: int, size: int) -> None:
    """Let this process use so much more than it has, and leave no image of its memory when it is ended."""
    import resource
    import time

    import psutil

    used = int(time.process_time()) + 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds))
    size += psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _main() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    given: dict[str, Any] = json.load(sys.stdin)
    _limit(given["seconds"], given["bytes"])
    try:
        render_jinja_template([given["turns"]], chat_template=given["template"], **given["variables"])
    except MemoryError:
        sys.exit(_MEMORY)
    except Exception as error:  # anybody's program: the caller hears it when it renders
        raise SystemExit(_REFUSED) from error


if __name__ == "__main__":
    _main()
