"""Imports point one way: cli → experiments → stages → domain → schema, and stages → store."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ANYWHERE = {"errors", "lifeline", "progress", "randomness", "terminal"}
DOMAIN = [
    "text",
    "kernels",
    "models",
    "heads",
    "scoring",
    "selection",
    "training",
    "evaluation",
    "stats",
    "reporting",
    "planning",
]
"""Each may import those before it."""

ALLOWED: dict[str, set[str]] = {
    **{leaf: set() for leaf in ANYWHERE},
    "schema": set(),
    "store": {"schema"},
    **{name: {"schema", *DOMAIN[:i]} for i, name in enumerate(DOMAIN)},
    "stages": {"schema", "store", *DOMAIN},
    "cli": {"schema", "store", *DOMAIN, "stages"},
    "experiments": {"schema", "store", *DOMAIN, "stages"},
    "pipelines": {"schema", "store", *DOMAIN, "stages"},
}
"""Layer → layers it may import, besides itself and what may be imported anywhere."""


def modules() -> list[Path]:
    return sorted(path for name in ("airlab", "experiments") for path in (ROOT / name).rglob("*.py"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, also inside functions; `from a import b` gives a.b."""
    package = dotted(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            for name in node.names:
                yield node.lineno, ".".join([*above, *filter(None, [node.module]), name.name])


def layer_of(name: str) -> str | None:
    """The layer a dotted name lies in; None for what is not ours, "" for the bare package."""
    parts = name.split(".")
    if parts[0] == "experiments":
        return "experiments"
    if parts[0] != "airlab":
        return None
    return parts[1] if len(parts) > 1 else ""


def violations(paths: list[Path]) -> list[str]:
    wrong = []
    for path in paths:
        layer = layer_of(dotted(path))
        for line, name in imported(path):
            target = layer_of(name)
            if layer in (None, "") or target in (None, "", layer) or target in ANYWHERE:
                continue
            if target not in ALLOWED[layer]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} ({layer}) imports {name} ({target})")
    return wrong


def test_there_is_something_to_look_at() -> None:
    found = modules()
    assert len(found) >= 60
    assert {layer_of(dotted(path)) for path in found} >= set(ALLOWED) - {"experiments"}


def test_every_module_lies_in_a_known_layer() -> None:
    unknown = [str(p) for p in modules() if layer_of(dotted(p)) not in {*ALLOWED, "", "__main__"}]
    assert unknown == []


def test_imports_point_one_way() -> None:
    assert violations(modules()) == []


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("airlab/text/x.py", "from airlab.store.store import Store"),
        ("airlab/text/x.py", "from airlab.models.load import load"),
        ("airlab/text/x.py", "def f():\n    import airlab.models.load"),
        ("airlab/text/x.py", "from airlab import stages"),
        ("airlab/text/x.py", "from ..models import load"),
        ("airlab/schema/x.py", "from airlab.store.files import Files"),
        ("airlab/store/x.py", "from airlab.text import documents"),
        ("airlab/stages/x.py", "from airlab.cli.main import main"),
        ("airlab/cli/x.py", "import experiments.air.main"),
        ("airlab/progress.py", "import airlab.schema.base"),
    ],
)
def test_a_wrong_import_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: str
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / where
    path.parent.mkdir(parents=True)
    path.write_text(code)
    assert len(violations([path])) == 1


@pytest.mark.parametrize("library", ["hydra", "omegaconf"])
def test_only_the_command_line_knows_hydra(library: str) -> None:
    users = [
        str(path.relative_to(ROOT))
        for path in modules()
        for _, name in imported(path)
        if name.split(".")[0] == library and layer_of(dotted(path)) != "cli"
    ]
    assert users == []


@pytest.mark.parametrize(
    "package",
    ["errors", "randomness", "progress", "schema", "store", "stats", "reporting", "planning", "stages"],
)
def test_planning_and_tables_need_no_torch(package: str) -> None:
    names = [dotted(path) for path in modules() if layer_of(dotted(path)) == package]
    assert names
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers', 'deepspeed', 'lm_eval', 'hydra'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
