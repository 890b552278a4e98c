"""Writes docs/LICENCES.md: `python docs/licences.py`, in an environment that `make setup` made.

Licences of packages are what their metadata says, of texts and models what the configurations say; what
neither says is unknown.
"""

import re
from collections.abc import Iterator
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "LICENCES.md"
UNKNOWN = "unknown"

Row = tuple[str, str, str]
"""Name, version, licence."""


def pinned() -> dict[str, str]:
    """Name → version of every package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))


def licence_of(package: PackageMetadata) -> str:
    """What a package's metadata says in its expression, its classifiers or its first line of licence."""
    if found := package.get("License-Expression"):
        return str(found)
    kinds = [
        c.rsplit(" :: ", 1)[1] for c in package.get_all("Classifier") or () if c.startswith("License :: ")
    ]
    kinds = [kind for kind in kinds if kind != "OSI Approved"]
    first = (package.get("License") or "").strip().splitlines()[:1]
    return ", ".join(kinds) or (first[0].strip()[:80] if first and first[0].strip() else UNKNOWN)


def packages() -> Iterator[Row]:
    """A row for every pinned package; not installed in that version means unknown."""
    for name, version in sorted(pinned().items(), key=lambda item: item[0].lower()):
        try:
            found = metadata(name)
        except PackageNotFoundError:
            found = None
        same = found is not None and found["Version"].split("+")[0] == version
        yield name, version, licence_of(found) if found is not None and same else UNKNOWN


def texts() -> Iterator[Row]:
    """A row for every source of texts and every model that a configuration names."""
    rows: set[Row] = set()
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        for part in _objects(said):
            pins = {w["name"]: w["version"] for w in part.get("wheels") or () if isinstance(w, dict)}
            for source in part.get("sources") or ():
                if isinstance(source, dict) and "wheel" in source:
                    name = source["wheel"]
                    rows.add((f"{name} ({source['domain']})", pins.get(name, UNKNOWN), source["licence"]))
            if isinstance(part.get("wheel"), dict):
                wheel = part["wheel"]
                rows.add((f"{wheel['name']} (model)", wheel["version"], part.get("licence") or UNKNOWN))
            if re.fullmatch(r"[0-9a-f]{40}", str(part.get("revision", ""))):
                rows.add((str(part["name"]), str(part["revision"])[:12], part.get("licence") or UNKNOWN))
    yield from sorted(rows)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def page(packages: list[Row], texts: list[Row]) -> str:
    """The whole page."""
    lines = [
        "# Licences",
        "",
        "Written by `python docs/licences.py`. airlab itself is under Apache-2.0 (LICENSE). `unknown` means "
        "that the package's metadata or our configuration does not say it, not that there is none.",
        "",
        "## Packages",
        "",
        "Read where they are installed; none is part of this repository.",
        "",
        *_table(packages),
        "",
        "## Texts and models",
        "",
        "Fetched on the user's machine; what of them stands in this repository is named where it stands.",
        "",
        *_table(texts),
    ]
    return "\n".join(lines) + "\n"


def _table(rows: list[Row]) -> list[str]:
    shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return ["| name | version or revision | licence |", "| --- | --- | --- |", *shown]


if __name__ == "__main__":
    PAGE.write_text(page(list(packages()), list(texts())), encoding="utf-8")
