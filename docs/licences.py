"""Writes docs/LICENCES.md: `python docs/licences.py`, in an environment that `make setup` made.

Licences of packages are what their metadata says, those of texts and models what the configurations or, for
those of a hub, their own pages say. A test holds the page to the packages that are installed.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("LICENCES.md")
UNKNOWN = "unknown"
_STATED = {
    "HuggingFaceFW/fineweb-edu-classifier": ("apache-2.0", "bd3139f6a539"),
    "HuggingFaceTB/SmolLM2-1.7B": ("apache-2.0", "effd688a1292"),
    "HuggingFaceTB/SmolLM2-360M-Instruct": ("apache-2.0", "c15f933c7343"),
    "HuggingFaceTB/smollm-corpus": ("odc-by", "3ba9d6057741"),
    "Qwen/Qwen2.5-32B-Instruct": ("apache-2.0", "7813703b75d0"),
    "open-web-math/open-web-math": ("odc-by", "main"),
    "simplescaling/s1K": ("apache-2.0", "d070fdb08560"),
    "simplescaling/s1K-1.1": ("mit", "064b009f7987"),
}
"""What the page of a model or data set on the hub states, and the revision at which it was read."""

_INTRODUCTION = """\
# Licences

Written by `python docs/licences.py`. airlab itself is under Apache-2.0 (LICENSE). `unknown` means that
nothing we could read says it, not that there is none.

"""
_PACKAGES = """\
## Packages

What their metadata says, in its own words. They are read where they are installed; none is part of this
repository.

"""
_TEXTS = """\
## Texts and models

Fetched on the user's machine; what of them stands in this repository is named where it stands. Of those on a
hub, a licence is what is said by the page at the revision that is named beside it.

"""

Row = tuple[str, str, str]
"""Name, version, licence."""


def page() -> str:
    """The whole page.

    Raises:
        LookupError: packages are not installed in the pinned version, so that nothing says their licences.
    """
    if absent := [name for name, _, licence in packages() if licence is None]:
        raise LookupError(f"not installed as pinned in constraints.txt: {', '.join(absent)}")
    told = [(name, version, licence or UNKNOWN) for name, version, licence in packages()]
    lines = [_INTRODUCTION + _PACKAGES + _table(told), _TEXTS + _table(list(texts()))]
    return "\n".join(lines)


def pinned() -> dict[str, str]:
    """Name → version of every package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {name: version for name, found, version in (line.partition("==") for line in lines) if found}


def packages() -> Iterator[tuple[str, str, str | None]]:
    """Name, version and licence of every pinned package; no licence where it is not installed as pinned."""
    for name, version in sorted(pinned().items(), key=lambda item: item[0].lower()):
        yield name, version, _installed(name, version)


def licence_of(package: PackageMetadata) -> str:
    """What a package's metadata says in its expression, its classifiers or its first line of licence."""
    for expression in package.get_all("License-Expression") or ():
        return str(expression)
    classifiers = package.get_all("Classifier") or ()
    kinds = [text.rsplit(" :: ", 1)[1] for text in classifiers if text.startswith("License :: ")]
    named = ", ".join(kind for kind in kinds if kind != "OSI Approved")
    told = "\n".join(package.get_all("License") or ())
    return named or told.strip().partition("\n")[0].strip()[:80] or UNKNOWN


def texts() -> Iterator[Row]:
    """A row for every source of texts and every model that a configuration names."""
    rows: set[Row] = set()
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        for part in _objects(OmegaConf.to_container(OmegaConf.load(path))):
            rows.update(_sources(part))
            rows.update(_models(part))
    yield from sorted(rows)


def _installed(name: str, version: str) -> str | None:
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return None
    return licence_of(found) if found["Version"].split("+")[0] == version else None


def _sources(part: dict[str, Any]) -> Iterator[Row]:
    """Texts in packages."""
    pins = {wheel["name"]: wheel["version"] for wheel in part.get("wheels") or () if isinstance(wheel, dict)}
    for source in part.get("sources") or ():
        if isinstance(source, dict) and "wheel" in source:
            name = source["wheel"]
            yield f"{name} ({source['domain']})", pins.get(name, UNKNOWN), source["licence"]


def _models(part: dict[str, Any]) -> Iterator[Row]:
    """Models in packages; models and data sets on a hub."""
    if isinstance(wheel := part.get("wheel"), dict):
        yield f"{wheel['name']} (model)", wheel["version"], part.get("licence") or UNKNOWN
    if re.fullmatch(r"[0-9a-f]{40}", str(part.get("revision", ""))):
        stated, revision = _STATED.get(part["name"], (None, None))
        licence = f"{stated} (page at {revision})" if stated else UNKNOWN
        yield part["name"], part["revision"][:12], licence


def _objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _table(rows: list[Row]) -> str:
    lines = ["| name | version or revision | licence |", "|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    try:
        PAGE.write_text(page(), encoding="utf-8", newline="\n")
    except LookupError as error:
        sys.exit(f"{error.args[0]}; run it in an environment that make setup made.")
