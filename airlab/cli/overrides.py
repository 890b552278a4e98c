"""Users' `key=value` arguments: paths that Hydra's grammar would trip over, and errors in plain words."""

import re
from collections.abc import Sequence
from pathlib import Path

from airlab.errors import UserError

_ALIASES = {"input": "input.path"}
"""`input=docs.jsonl` is what people write; the setting has columns beside the path."""

_PATHS = (
    *("input.path", "heads", "scores", "selected", "output", "model.path", "corpus.path", "traces.path"),
    "settings",
)
"""Settings whose values are paths, or hold some, and may have any character."""

_WORDS = ("text", "id")
"""Settings that are what is written, even where that looks like a number or like nothing."""

SWEEP = ("-m", "--multirun")

_PLAIN = re.compile(r"[\w./~:@-]*")
_INTERPOLATION = re.compile(r"(?<!\\)(?:\\\\)*\$\{[^{}]*:")
"""Such as ${oc.env:HOME}; with a backslash before it, it is what is written."""


def prepare(arguments: Sequence[str], configs: Path) -> list[str]:
    """Expand aliases and short names, and quote paths with characters that mean something in Hydra's grammar.

    In a sweep (`-m`) paths are left as they are, since commas separate the choices there.

    Raises:
        UserError: an option or an experiment that does not exist, a value without a setting's name, or one
            that would be read from somewhere else.
    """
    for argument in arguments:
        if argument.startswith("-") and argument not in SWEEP:
            raise UserError(
                f"there is no option {argument}; settings are given as key=value, -m runs every combination "
                "of values with commas, and --help shows the settings."
            )
        if argument.startswith("="):
            raise UserError(f"{argument} names no setting; write key=value without spaces around the sign.")
        if "=" not in argument and not argument.startswith(("-", "~")):
            raise UserError(
                f"{argument} sets nothing: settings are given as key=value, and --help shows them."
            )
        _refuse_elsewhere(argument, configs)
    sweep = any(a in SWEEP for a in arguments)
    return [_prepare_one(a, sweep, configs) for a in arguments]


def _refuse_elsewhere(argument: str, configs: Path) -> None:
    """Keep Hydra from what it could do besides: run what a setting names, and read files and the environment.

    Everything that a result depends on stands in our configurations or in the command.
    """
    key, _, value = argument.partition("=")
    group, _, package = key.lstrip("+~").partition("@")
    if any(re.match(r"hydra(?:$|[./@])", part.lstrip("/")) for part in (group, package)):
        raise UserError(
            f"{argument} is a setting of Hydra and none of airlab's; leave it out, --help shows the settings."
        )
    if re.search(r"(?<!\w)_target_\s*[:=]", argument):
        raise UserError(f"{argument} names code to run, which no setting does; leave it out.")
    if (configs / group).is_dir() and (value.startswith("/") or ".." in re.split(r"[/,\[\]]", value)):
        raise UserError(f"there is no {group} {value!r}; known are {', '.join(choices(configs, group))}.")


def _prepare_one(argument: str, sweep: bool, configs: Path) -> str:
    key, equals, value = argument.partition("=")
    if not equals:
        return argument
    key = _ALIASES.get(key, key)
    if key in _PATHS and not value:
        raise UserError(
            f"{argument} is empty, which would mean this folder; give a path, or {argument}. to mean it."
        )
    if key == "experiment":
        value = re.sub(r"[\w./-]+", lambda name: _full_name(name[0], configs), value)
    quoted = value[:1] in "'\"" and value[-1:] == value[:1] and len(value) > 1
    path = key in _PATHS and not quoted and value != "???" and not _PLAIN.fullmatch(value)
    if not sweep and (path or (key in _WORDS and not (key == "id" and value[:1] == "["))):
        value = _as_written(value)
    if _INTERPOLATION.search(value):
        raise UserError(
            f"{argument} would be read from the environment or worked out; write the value itself."
        )
    return f"{key}={value}"


def _as_written(value: str) -> str:
    """A value in quotation marks, so that nothing in it means anything to Hydra."""
    # A quotation mark ends the value and ${ begins an interpolation; backslashes count before either, and
    # before the mark at the end.
    escaped = re.sub(r"(\\*)('|\$\{|\Z)", lambda m: m[1] * 2 + (f"\\{m[2]}" if m[2] else ""), value)
    return f"'{escaped}'"


def _full_name(name: str, configs: Path) -> str:
    """The experiment that a name means: its own, a paper's main one, or the last part of a single one's."""
    known = choices(configs, "experiment")
    own = [full for full in (name, f"{name}/main") if full in known]
    meant = own[:1] or [full for full in known if full.rpartition("/")[2] == name]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UserError(f"experiment={name} may mean {' or '.join(meant)}; give the whole name.")
    raise no_experiment(name, known)


def no_experiment(name: object, known: Sequence[str]) -> UserError:
    """The sentence about an experiment that is not there, with the shortest names `experiment=` takes."""
    lasts = [full.rpartition("/")[2] for full in known]
    short = (last if lasts.count(last) == 1 else full for last, full in zip(lasts, known, strict=True))
    return UserError(f"there is no experiment {name!r}; known are {', '.join(short)}.")


def explain(error: Exception, configs: Path, root: str) -> str:
    """One sentence for an error of composition."""
    text = str(error)
    if found := re.search(r"Could not find '(?:[^']*/)?([\w-]+)/([^']*)'", text):
        group, choice = found.groups()
        return f"there is no {group} {choice!r}; known are {', '.join(choices(configs, group))}."
    if found := re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Key '([^']+)' is not in struct", text
    ):
        key = found.group(1)
        if "@" in key:
            return f"there is no {key} to change; +{key}=… adds one."
        known = _known_keys(configs, root, key)
        return f"there is no setting {key!r}; known there: {', '.join(known)}."
    if found := re.search(r"Ambiguous value for argument '(.*)'", text):
        return f"{found.group(1)} has several values; add -m to run each, or quote it if it is one value."
    if "mismatched input" in text or "no viable alternative" in text or "token recognition" in text:
        return (
            f"an argument cannot be read ({text.splitlines()[0]}); "
            "put values with special characters in quotes."
        )
    return text.splitlines()[0].rstrip(".") + "."


def choices(configs: Path, group: str) -> list[str]:
    """The names of a group's files."""
    folder = configs / group
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))


def _known_keys(configs: Path, root: str, key: str) -> list[str]:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import DictConfig, OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs), version_base="1.3"):
        node = compose(root)
    parent = key.rpartition(".")[0]
    while parent:
        inner = OmegaConf.select(node, parent)
        if isinstance(inner, DictConfig):
            return sorted(map(str, inner))
        parent = parent.rpartition(".")[0]
    return sorted(str(k) for k in node if k != "hydra")
