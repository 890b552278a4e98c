"""The lock that torch leaves where it builds extensions, and that outlives a build that was killed."""

import os
from pathlib import Path

import psutil

from airlab.errors import UserError

_LOCK = "lock"


def refuse_abandoned_builds() -> None:
    """Notice locks of builds that no process works on: whoever needs the extension would wait for ever.

    torch makes a file that says that it builds, keeps it open, and deletes it in the end. DeepSpeed has its
    extensions built where it is first used.

    Raises:
        UserError: naming the lock.
    """
    from torch.utils.cpp_extension import get_default_build_root  # with all that compiling takes

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    locks = {path.resolve() for pattern in ("*", "*/*") for path in root.glob(f"{pattern}/{_LOCK}")}
    abandoned = sorted(locks - _open_files() if locks else ())
    if abandoned:
        raise UserError(
            f"{abandoned[0]} says that an extension of DeepSpeed is being built, but no process here does "
            "that, and training would wait for it for ever: unless another machine builds it now, delete "
            "that file, and run the same command again."
        )


def _open_files() -> set[Path]:
    """What this user's processes have open."""
    found = set()
    for process in psutil.process_iter():
        try:
            found |= {Path(file.path) for file in process.open_files()}
        except psutil.Error:  # it ended, or is another user's, whose extensions lie elsewhere
            continue
    return found
