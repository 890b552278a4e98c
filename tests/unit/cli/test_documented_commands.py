"""Every command that the documentation shows is one that works.

Commands that compute on the reader's own data are executed, on a page's files in the order of the page, with
a tiny model and few probes in place of what takes minutes. `run` and `table` of experiments are executed as
far as `plan` goes: composed, bound, every artifact addressed. `make` stands for what its recipe runs.
"""

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from airlab.cli.main import VERBS
from tests.unit.cli.conftest import Airlab, documents, write_jsonl
from tests.unit.cli.model_folders import planted_folder
from tests.unit.cli.test_cli_heads import prose
from tests.unit.cli.test_cli_traces import TEMPLATE, traces

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_TO_TYPE = ("docs/LOG.md",)
"""Tells what was run once."""
EXAMPLES = ("…", "...", "COMMAND", "FOLDER", "owner/")
"""In commands that say how one looks."""
OTHERS = (
    ["source", ".venv/bin/activate"],
    ["python", "benchmarks/scoring.py", "--rehearse"],  # tests/unit/benchmarks/test_benchmark_rehearsal.py
    ["python", "benchmarks/training.py"],  # tests/unit/benchmarks/test_training_benchmark.py
)
ON_DATA = ("heads", "score", "select", "weigh", "explain", "export")
PLANNED = ("plan", "run", "table", "archive")
FASTER = {"probes.count": "24", "probes.max_tokens": "1024", "machine": "cpu", "scoring": "float32"}
"""Settings of documented commands that are executed with other values, to the same effect."""


def commands(page: Path) -> list[list[str]]:
    """All commands of a page, in order: lines of shell blocks, and inline code that begins like one."""
    text = page.read_text(encoding="utf-8")
    found = []
    for block, inline in re.findall(r"```bash\n(.*?)```|(?<!`)`((?:airlab|make) [^`\n]+)`", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines() or [inline]:
            for words in map(shlex.split, re.split(r";\s", re.sub(r"(^|\s)#.*", "", line))):
                if words:
                    found.append(words)
    return [words for words in found if not any(example in word for word in words for example in EXAMPLES)]


def all_commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        if name not in NOT_TO_TYPE:
            for words in commands(page):
                yield name, words


def made(words: list[str]) -> list[list[str]]:
    """The airlab commands that a `make` target runs, which fails if there is no such target."""
    told = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    lines = (line.strip() for line in told.stdout.splitlines())
    return [shlex.split(line)[1:] for line in lines if line.startswith(".venv/bin/airlab ")]


def planned() -> dict[tuple[str, ...], str]:
    """Distinct commands of experiments, each with the first page that shows it."""
    found: dict[tuple[str, ...], str] = {}
    for page, words in all_commands():
        for command in made(words) if words[0] == "make" else [words[1:]] if words[0] == "airlab" else []:
            if command[0] in PLANNED:
                found.setdefault(("plan", *command[1:]), page)
    return found


def test_every_shown_command_is_of_a_kind_that_a_test_executes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    seen = 0
    for page, words in all_commands():
        seen += 1
        told = f"{page}: {shlex.join(words)}"
        if words[0] == "airlab":
            assert words[1] in VERBS, told
        elif words[0] == "make":
            made(words)
        elif words[:2] == ["pip", "install"]:
            extras = re.findall(r"\[(.*)\]", words[-1])
            assert extras and set(extras[0].split(",")) <= project["optional-dependencies"].keys(), told
        else:
            assert words in OTHERS, told
    assert seen > 40


@pytest.mark.parametrize("command", planned(), ids=" ".join)
def test_a_shown_experiment_can_be_planned(airlab: Airlab, command: tuple[str, ...]) -> None:
    write_jsonl(Path("traces.jsonl"), traces(3))
    selector = ROOT / "configs" / "selector" / "surprise.yaml"
    if "+selector@selectors.surprise=surprise" in command:
        assert not selector.exists()  # tests/unit/selection/test_readme_selector.py makes and runs this one
        return
    answer = airlab(*command)
    assert answer.code == 0, answer.err
    assert re.search(r"\d+ stages, \d+ to run|jobs", answer.out), answer.out


def on_data(page: Path) -> list[list[str]]:
    """Its commands that compute on the reader's files and write one; with less they are mentions."""
    own = [words for words in commands(page) if words[0] == "airlab" and words[1] in ON_DATA]
    return [words for words in own if any(word.startswith("output=") for word in words)]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "LOG.md" and on_data(page)], ids=lambda page: page.name
)
def test_a_pages_commands_on_data_follow_one_another(airlab: Airlab, tmp_path: Path, page: Path) -> None:
    """After those of the README, whose files the other pages take for granted."""
    shown = on_data(ROOT / "README.md")
    model = planted_folder(tmp_path / "model")
    (model / "chat_template.jinja").write_text(TEMPLATE)
    sentences = prose(tmp_path / "prose.jsonl")
    named = [row | {"id": name} for row, name in zip(documents(7), NAMES, strict=True)]
    write_jsonl(Path("docs.jsonl"), named)
    write_jsonl(Path("traces.jsonl"), traces(9))
    readme = len(shown)
    shown += [words for words in on_data(page) if words not in shown]
    for number, words in enumerate(shown):
        output = Path(next(word for word in words if word.startswith("output=")).removeprefix("output="))
        if number >= readme:  # another page may name its files alike
            output.unlink(missing_ok=True)
        answer = airlab(*adapted(words[1:], model, sentences))
        if any(word.startswith("cell=") for word in words):  # of a run that nobody made here
            assert answer.code == 2 and "is not there yet; run `airlab run" in answer.sentence, answer.err
            continue
        assert answer.code == 0, f"{shlex.join(words)}: {answer.err}"
        assert output.exists()
    assert len(json.loads(Path("heads.json").read_text())["heads"]) == 8


NAMES = ("proof", "shop", "river", "code", "licence", "empty", "short")


def adapted(words: list[str], model: Path, sentences: Path) -> list[str]:
    """The command for a tiny model: same verb, same files, same settings but those that take minutes."""
    verb, *settings = words
    kept = [s for s in settings if not s.startswith(("model=", "model."))]
    kept = [f"{key}={FASTER.get(key, value)}" for key, value in (s.split("=", 1) for s in kept)]
    if verb in ("heads", "score", "explain"):
        kept += ["model=local", f"model.path={model}"]
    if verb == "heads":
        kept += ["corpus=local", f"corpus.path={sentences}", "probes.max_value_tokens=40"]
        kept = [s for s in kept if s != "probes=short"] + ["probes.count=24", "probes.max_tokens=1024"]
    if verb == "score":
        kept += ["scoring.window_tokens=1024"]
    return [verb, *dict.fromkeys(kept)]
