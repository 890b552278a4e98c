"""Why an artifact is not the one that is asked for: two identities side by side, down to their inputs."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airlab.store.fingerprint import fingerprint, identity
from airlab.store.record import Record
from airlab.store.stage import Stage

_DIGITS = 12
_SHOWN = 60
"""Characters of a value, at most."""

_OTHER_CLASS = 10.0
"""How far a value of another class is, in fields: further than most changes of one value."""


@dataclass(frozen=True)
class _Input:
    """A stage or the user's files, as an identity names them."""

    kind: str
    digest: str


@dataclass(frozen=True)
class _Class:
    """Of a value with fields."""

    name: str


_NOTHING = object()


class Differences:
    """Compares artifacts that are there with stages that are asked for."""

    def __init__(self, there: Iterable[Record], asked: Iterable[Stage]) -> None:
        self._there = {record.fingerprint: record for record in there}
        self._asked = {fingerprint(stage): stage for stage in asked}
        self._named: dict[str, list[Stage]] = {}
        for stage in self._asked.values():
            self._named.setdefault(stage.name, []).append(stage)
        self._leaves: dict[str, dict[str, Any]] = {}
        self._distances: dict[tuple[str, str], float] = {}

    def nearest_asked(self, record: Record) -> Stage | None:
        """The stage of the same kind that differs in the fewest fields, inputs' fields among them.

        None where none is of that kind, or all are made from other kinds of inputs.
        """
        return min(
            (stage for stage in self._named.get(record.name, ()) if self._far(record, stage) < math.inf),
            key=lambda stage: self._far(record, stage),
            default=None,
        )

    def nearest_there(self, stage: Stage) -> Record | None:
        """The artifact that differs from an asked stage in the fewest fields; None as above."""
        return min(
            (
                record
                for record in self._there.values()
                if record.name == stage.name and self._far(record, stage) < math.inf
            ),
            key=lambda record: self._far(record, stage),
            default=None,
        )

    def reasons(self, record: Record, stage: Stage) -> tuple[str, ...]:
        """What distinguishes an artifact from a stage: each field with its old and its new value."""
        told = [] if record.version == stage.VERSION else [f"VERSION {record.version}, now {stage.VERSION}"]
        for path, old, new in self._changes(record, stage):
            told.append(self._sentence(path, old, new))
        return tuple(told)

    def _sentence(self, path: str, old: Any, new: Any) -> str:
        if isinstance(old, _Input) and isinstance(new, _Input):
            one, other = old.digest[:_DIGITS], new.digest[:_DIGITS]
            if old.kind == new.kind == "files":
                return f"{path}: the content of the files, {one} → {other}"
            known = self._there.get(old.digest)
            if known is None:
                return f"{path}: its {old.kind} {one} is not in the store any more, now {new.kind} {other}"
            if old.digest not in self._asked:
                return f"an input is stale: {path}, {known.name} {one}"
            return f"{path}: {known.name} {one} → {new.kind} {other}"
        return f"{path}: {_text(old)} → {_text(new)}"

    def _far(self, record: Record, stage: Stage) -> float:
        key = record.fingerprint, fingerprint(stage)
        if key not in self._distances:
            self._distances[key] = self._distance(record, stage)
        return self._distances[key]

    def _distance(self, record: Record, stage: Stage) -> float:
        if record.fingerprint == fingerprint(stage):
            return 0.0
        if record.name != stage.name:
            return math.inf
        far = float(record.version != stage.VERSION)
        for _, old, new in self._changes(record, stage):
            far += self._step(old, new)
            if far == math.inf:
                break
        return far

    def _step(self, old: Any, new: Any) -> float:
        if not isinstance(old, _Input) and not isinstance(new, _Input):
            return _OTHER_CLASS if isinstance(old, _Class) and isinstance(new, _Class) else 1.0
        if not isinstance(old, _Input) or not isinstance(new, _Input) or old.kind != new.kind:
            return math.inf
        known, wanted = self._there.get(old.digest), self._asked.get(new.digest)
        return 1.0 if known is None or wanted is None else self._far(known, wanted)

    def _changes(self, record: Record, stage: Stage) -> list[tuple[str, Any, Any]]:
        """Path, old and new value of every field that differs; a whole value where its class does."""
        old, new = self._flat(record), self._flat(stage)
        changed = [
            (path, old.get(path, _NOTHING), new.get(path, _NOTHING))
            for path in dict.fromkeys([*old, *new])
            if old.get(path, _NOTHING) != new.get(path, _NOTHING)
        ]
        classes = [f"{path}." for path, one, other in changed if _Class in (type(one), type(other))]
        return [change for change in changed if not change[0].startswith(tuple(classes))]

    def _flat(self, of: Record | Stage) -> dict[str, Any]:
        address = of.fingerprint if isinstance(of, Record) else fingerprint(of)
        if address not in self._leaves:
            if isinstance(of, Record):
                tree, kinds = of.identity, {item.fingerprint: item.name for item in of.inputs}
            else:
                tree, kinds = identity(of), {fingerprint(item): item.name for item in of.inputs()}
            leaves: dict[str, Any] = {"scheme": tree["scheme"]}
            _flatten(tree["fields"], "", kinds, leaves)
            self._leaves[address] = leaves
        return self._leaves[address]


def _flatten(value: Any, path: str, kinds: Mapping[str, str], leaves: dict[str, Any]) -> None:
    """Every value in a canonical tree by its path; see `airlab.store.fingerprint` for the forms."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value))[:1] == "!" != next(iter(value))[1:2]:
        ((form, inner),) = value.items()
        if form == "!stage":
            leaves[path] = _Input(kinds.get(inner, "stage"), inner)
        elif form == "!files":
            leaves[path] = _Input("files", inner)
        else:
            leaves[path] = _Class(form[1:])
            _flatten(inner, path, kinds, leaves)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _flatten(inner, f"{path}.{key}".lstrip("."), kinds, leaves)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for number, inner in enumerate(value):
            _flatten(inner, f"{path}[{number}]", kinds, leaves)
    else:
        leaves[path] = value


def _text(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    if isinstance(value, _Class):
        return value.name
    if isinstance(value, _Input):
        return f"{value.kind} {value.digest[:_DIGITS]}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
