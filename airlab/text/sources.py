"""Readers of text out of wheels. None of them imports or runs what it reads, or writes a file.

A member is read into memory, whatever its name says, up to a limit: a few bytes can say that they are many.

A reader lists its keys (members of the archive, or folders of members that belong together) and turns
one key into pieces of text. Sampling happens on keys, so a small pool opens few of them.
"""

import json
import re
import textwrap
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile, ZipFile

from airlab.errors import UserError, first_line
from airlab.text.cutting import cut_at_definitions, pack
from airlab.text.markup import html_to_text, rst_to_text
from airlab.text.python_source import docstrings, readable_code, without_licence_header

_TARGET = 2500
"""Characters from which a joined document is long enough; single long objects may exceed it."""
_LARGEST_BYTES = 1 << 26
"""Of one member; the largest that our corpora read have a tenth."""


@dataclass(frozen=True)
class Piece:
    """One document as read: its text, where it lies, and what must stay on one side of the split."""

    text: str
    member: str
    group: str = ""
    """Pieces of the same group are held out together; empty: each piece is on its own."""


@dataclass(frozen=True)
class Reader:
    """How to read one kind of archive."""

    keys: Callable[[ZipFile], list[str]]
    read: Callable[[ZipFile, str, int], Iterator[Piece]]
    """(archive, key, most characters) -> pieces in the order of the source."""


def _content(archive: ZipFile, member: str) -> bytes:
    try:
        with archive.open(member) as file:
            content = file.read(_LARGEST_BYTES + 1)  # asked for all, it would unpack what it is told it gets
    except (BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last: a password, another method
        raise UserError(
            f"{member} in {archive.filename} cannot be unpacked ({first_line(error)}): delete the file and "
            "run again to fetch it anew, or pin another."
        ) from error
    if len(content) > _LARGEST_BYTES:
        raise UserError(
            f"{member} in {archive.filename} unpacks to more than {_LARGEST_BYTES >> 20} MB, which no "
            "text of use has: leave it out with members=..., or pin another file."
        )
    return content


def _text(archive: ZipFile, member: str) -> str:
    return _content(archive, member).decode("utf-8", "replace").replace("\r\n", "\n")


def _json(archive: ZipFile, member: str) -> Any:
    try:
        return json.loads(_content(archive, member))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{member} in {archive.filename} is not valid JSON ({first_line(error)}): leave it out with "
            "members=..., or pin another file."
        ) from error


def _matching(pattern: str, *, unless: str | None = None) -> Callable[[ZipFile], list[str]]:
    def keys(archive: ZipFile) -> list[str]:
        return sorted(
            name
            for name in archive.namelist()
            if re.search(pattern, name) and not (unless and re.search(unless, name))
        )

    return keys


# --- encyclopedia, dictionary, countries


def _encyclopedia(archive: ZipFile, key: str, maximum: int) -> Iterator[Piece]:
    for entry in _json(archive, key).values():
        for text in pack([f"{entry['title']}\n\n{entry['extract'].strip()}"], target=1, maximum=maximum):
            yield Piece(text, f"{key}#{entry['title']}")


def _dictionary(archive: ZipFile, key: str, maximum: int) -> Iterator[Piece]:
    entries = [
        (word, text) for word, entry in sorted(_json(archive, key).items()) if (text := _define(word, entry))
    ]
    first, run, size = "", [], 0
    for word, text in entries:
        first = first or word
        run.append(text)
        size += len(text)
        if size >= _TARGET:
            yield from _joined(run, f"{key}#{first}..{word}", maximum)
            first, run, size = "", [], 0
    if run:
        yield from _joined(run, f"{key}#{first}..{entries[-1][0]}", maximum)


def _joined(blocks: list[str], member: str, maximum: int) -> Iterator[Piece]:
    for text in pack(blocks, target=maximum, maximum=maximum):
        yield Piece(text, member)


def _define(word: str, entry: Any) -> str:
    lines: list[str] = []
    for sense in entry.get("pos", []) if isinstance(entry, dict) else []:
        definitions = [item for item in sense.get("definitions", []) if item.get("text", "").strip()]
        if not definitions:
            continue
        # Etymologies are left out: the source repeats one entry's under its neighbours, cut short.
        kind = sense.get("part_of_speech")
        lines.append(f"{word}, {kind}" if kind else word)
        for number, item in enumerate(definitions, 1):
            numbered = f"{number}. " if len(definitions) > 1 else ""
            lines.append(numbered + re.sub(r"\s+", " ", item["text"]).strip())
            lines.extend(f"   {' '.join(_strings(example))}" for example in item.get("examples", []))
    return "\n".join(lines)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.strip():
            yield value.strip()
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _countries(archive: ZipFile, key: str, maximum: int) -> Iterator[Piece]:
    sections = _json(archive, key)
    if not isinstance(sections, dict):
        return
    country = _country(sections)
    for section, fields in sections.items():
        if not isinstance(fields, dict):
            continue
        blocks = [line for name, value in fields.items() if (line := _field(name.strip(), value))]
        if blocks:
            title = f"{country}: {section}" if country else section
            joined = [
                f"{title}\n\n{text}"
                for text in pack(blocks, target=_TARGET, maximum=maximum - len(title) - 2)
            ]
            for text in joined:
                yield Piece(text, f"{key}#{section}", group=key)


def _country(sections: dict[str, Any]) -> str:
    names = sections.get("Government", {}).get("Country name", {}) if isinstance(sections, dict) else {}
    for form in ("conventional short form", "conventional long form"):
        name = html_to_text(str(names.get(form, {}).get("text", "")))
        if name and name.lower() != "none":
            return name
    return ""


def _field(name: str, value: Any) -> str:
    """``Area: total 2,040 sq km; land 2,030 sq km``; long prose stands below its name."""
    parts: list[str] = []
    for label, item in value.items() if isinstance(value, dict) else [("text", value)]:
        for text in _strings(item):
            plain = html_to_text(text)
            label = label.strip().removeprefix(name).strip()
            parts.append(plain if label in ("", "text", "note") else f"{label} {plain}")
    if not parts:
        return ""
    if len(parts) == 1 and len(parts[0]) > 400:
        return f"{name}\n{parts[0]}"
    return f"{name}: " + "; ".join(parts)


# --- how-to: recipes, engineering manuals, command and operation guides


def _recipes(archive: ZipFile, key: str, maximum: int) -> Iterator[Piece]:
    for recipe in _json(archive, key).values():
        lines = [recipe["title"], "", "Ingredients:", *(f"- {item}" for item in recipe["ingredients"])]
        lines += ["", "Method:", *(f"{number}. {step}" for number, step in enumerate(recipe["steps"], 1))]
        whole = "\n".join(lines).replace("''", "")  # wiki emphasis
        for text in pack([whole], target=1, maximum=maximum):
            yield Piece(text, f"{key}#{recipe['title']}")


def _manuals(archive: ZipFile, key: str, maximum: int) -> Iterator[Piece]:
    chapter = _json(archive, key)
    blocks = []
    for section in chapter.get("sections", []):
        body = (section.get("body") or "").strip()
        if not body:  # a heading with nothing under it but an editor's summary
            body = "\n".join(filter(None, [section.get("summary"), *section.get("key_points", [])]))
        if body:
            blocks.append(
                f"{section.get('section_id', '')} {section.get('title', '')}".strip() + f"\n\n{body}"
            )
    title = f"{chapter.get('reference_title', '')}: {chapter.get('chapter_title', '')}".strip(": ")
    for text in pack(blocks, target=_TARGET, maximum=maximum):
        yield Piece(text, f"{key}#{title}", group=key)


_EXAMPLES = "awscli/examples/"


def _example_folders(archive: ZipFile) -> list[str]:
    names = [name for name in archive.namelist() if re.fullmatch(rf"{_EXAMPLES}[^/]+/.+\.rst", name)]
    return sorted({name.split("/")[2] for name in names})


def _command_examples(archive: ZipFile, key: str, maximum: int) -> Iterator[Piece]:
    prefix = f"{_EXAMPLES}{key}/"
    for member in sorted(
        name for name in archive.namelist() if name.startswith(prefix) and name.endswith(".rst")
    ):
        command = member.removeprefix(prefix).removesuffix(".rst").replace("/", " ")
        text = f"aws {key} {command}\n\n{rst_to_text(_text(archive, member))}"
        for part in pack([text], target=1, maximum=maximum):
            yield Piece(part, member)


def _latest_services(archive: ZipFile) -> list[str]:
    """One description a service: older versions of an interface repeat most of the newest."""
    newest: dict[str, str] = {}
    for name in sorted(archive.namelist()):
        if match := re.search(r"/data/([^/]+)/[\d-]+/service-2\.json$", name):
            newest[match[1]] = name
    return sorted(newest.values())


def _operation_guides(archive: ZipFile, key: str, maximum: int) -> Iterator[Piece]:
    service = _json(archive, key)
    name = service.get("metadata", {}).get("serviceFullName", key)
    blocks = [overview] if (overview := html_to_text(service.get("documentation") or "")) else []
    for operation, body in service.get("operations", {}).items():
        if text := html_to_text(body.get("documentation") or ""):
            blocks.append(f"{operation}\n\n{text}")
    for text in pack(blocks, target=_TARGET // 2, maximum=maximum - len(name) - 2):
        yield Piece(f"{name}\n\n{text}", f"{key}#{text.split(chr(10), 1)[0][:80]}", group=key)


def _parameter_blurbs(archive: ZipFile, key: str, maximum: int) -> Iterator[Piece]:
    service = _json(archive, key)
    blocks = []
    for shape, body in service.get("shapes", {}).items():
        rows = [
            f"{member}: {html_to_text(detail['documentation'])}"
            for member, detail in body.get("members", {}).items()
            if detail.get("documentation")
        ]
        if rows:
            blocks.append("\n".join([shape, *rows]))
    for text in pack(blocks, target=_TARGET, maximum=maximum):
        yield Piece(text, f"{key}#{text.split(chr(10), 1)[0][:80]}", group=key)


# --- Python: documentation and code


def _docstrings(archive: ZipFile, key: str, maximum: int) -> Iterator[Piece]:
    module = re.sub(r"/__init__$", "", key.removesuffix(".py")).replace("/", ".")
    objects = list(docstrings(_text(archive, key), module))
    for text in pack((text for _, text in objects), target=_TARGET, maximum=maximum):
        first = next((name for name, whole in objects if text.startswith(whole[:60])), module)
        yield Piece(text, f"{key}#{first}", group=key)


def _code(archive: ZipFile, key: str, maximum: int) -> Iterator[Piece]:
    source = _text(archive, key)
    if not readable_code(source):
        return
    for number, part in enumerate(cut_at_definitions(without_licence_header(source), maximum)):
        yield Piece(textwrap.dedent(part).strip("\n"), f"{key}#{number}", group=key)


_TESTS = (
    r"(^|/)(tests?|testing|locale|migrations|_vendor|externals|benchmarks?)/|(^|/)(test_|_version|conftest)"
)

READERS: dict[str, Reader] = {
    "encyclopedia": Reader(_matching(r"/data/summaries_en-us\.json$"), _encyclopedia),
    "dictionary": Reader(_matching(r"/data/en/words_\w\.json$"), _dictionary),
    "countries": Reader(_matching(r"/data/.+\.json$"), _countries),
    "recipes": Reader(_matching(r"/data/recipes_en-us\.json$"), _recipes),
    # Federal manuals only: they are in the public domain; codes of other bodies are not.
    "us_manuals": Reader(
        _matching(r"^geotech_references/(dm7|ufc|gec|em|fema|fhwa|gsa|wood|micropile)_?\w*/text/.*\.json$"),
        _manuals,
    ),
    "command_examples": Reader(_example_folders, _command_examples),
    "operation_guides": Reader(_latest_services, _operation_guides),
    "parameter_blurbs": Reader(_latest_services, _parameter_blurbs),
    "docstrings": Reader(_matching(r"\.py$", unless=_TESTS), _docstrings),
    "code": Reader(_matching(r"\.py$", unless=_TESTS), _code),
}


def reader(name: str) -> Reader:
    """The reader of that name; `UserError` that lists the known ones."""
    if name not in READERS:
        raise UserError(f"There is no text reader '{name}': choose one of {', '.join(READERS)}.")
    return READERS[name]
