"""Where a result came from: code, packages and hardware. Never paths, host names or user names."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airlab.errors import UserError

_PACKAGE = Path(__file__).resolve().parent.parent
_DISTRIBUTIONS = (
    "accelerate", "airlab", "datasets", "deepspeed", "filelock", "gguf", "hydra-core", "lm_eval", "numpy",
    "omegaconf", "pyarrow", "pydantic", "rensa", "safetensors", "scipy", "tokenizers", "torch",
    "transformers", "zstandard",
)  # fmt: skip


_COMPUTING = ("torch", "transformers", "tokenizers")
"""Libraries of which another major version may compute something else."""


def check_libraries(folder: Path, made: Mapping[str, Any]) -> None:
    """Refuse an artifact that another major version of a library that computes has made.

    Args:
        made: the provenance in its record.

    Raises:
        UserError: says both versions and what to do.
    """
    then, now = made.get("packages") or {}, _packages()
    for name in _COMPUTING:
        if name in then and name in now and _major(then[name]) != _major(now[name]):
            raise UserError(
                f"the artifact {folder} was made with {name} {then[name]}, and {now[name]} is installed, "
                f"which may compute something else: install {name} {_major(then[name])}, or choose another "
                "store (AIRLAB_STORE) to make it again."
            )


def _major(version: str) -> str:
    return version.split(".")[0]


@functools.cache
def provenance() -> dict[str, Any]:
    """JSON facts about this process's code, packages and machine, looked up once.

    Keys: ``git`` (commit and dirty, or None outside a checkout), ``sources`` (see `source_digests`),
    ``python``, ``packages``, ``platform``, ``cpu``, ``cores``, ``memory_bytes``, ``gpus``.
    """
    return {
        "git": _git(),
        "sources": source_digests(),
        "python": platform.python_version(),
        "packages": _packages(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "gpus": _gpus(),
    }


def source_digests(package: Path = _PACKAGE) -> dict[str, str]:
    """sha-256 over names and contents of the .py files, per subpackage ("" is the package itself)."""
    digests: dict[str, Any] = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        digest = digests.setdefault(name.parts[0] if len(name.parts) > 1 else "", hashlib.sha256())
        digest.update(f"{name.as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _git() -> dict[str, Any] | None:
    checkout = _PACKAGE.parent
    if not (checkout / ".git").exists():
        return None
    commit = _output("git", "-C", str(checkout), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(checkout), "status", "--porcelain")
    if commit is None or changes is None:
        return None
    return {"commit": commit.strip(), "dirty": bool(changes.strip())}


@functools.cache
def _packages() -> dict[str, str]:
    versions = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None  # not every system tells


def _gpus() -> list[str]:
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return [line.strip() for line in (names or "").splitlines() if line.strip()]


def _output(*command: str) -> str | None:
    """What a program prints, or None if it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
