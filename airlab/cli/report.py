"""`airlab report`: one HTML page of what was found, over all published tables or of one experiment.

The page is drawn from the results folders alone. What only the store knows (score distributions, learning
curves, examples of texts) is put beside an experiment's table first, which needs its finished run.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from airlab.cli.bind import bind
from airlab.cli.experiment import open_plain, target_fingerprints
from airlab.cli.gather_examples import Texts, gather_examples, write_examples
from airlab.cli.gather_figures import gather_figures, write_gathered
from airlab.cli.main import configs_folder
from airlab.cli.outputs import check_output, open_store, write_output
from airlab.cli.overrides import choices
from airlab.cli.plan import setting
from airlab.cli.published import published
from airlab.errors import UserError
from airlab.reporting.figures import Figure, draw_all, save
from airlab.reporting.html import without_controls
from airlab.reporting.lock import LOCK
from airlab.reporting.page.claims import claims
from airlab.reporting.page.question import Question, question
from airlab.reporting.page.read import Published, read_published
from airlab.reporting.page.render import GENERATOR, assemble, render
from airlab.reporting.token_maps import EXAMPLES
from airlab.schema.base import Frozen
from airlab.store.durable import written

PAGE = "report.html"
FIGURES = "figures"
OF_ALL = Path("docs") / PAGE
TITLE = "Results of airlab"

_FIRST = ("attention_influence", "air")
"""Papers in the order they are read; others follow by name."""

_OF_ALL = {"results", "output"}
"""Settings of the page of all tables."""


class ReportCommand(Frozen):
    """What `configs/report.yaml` binds to, besides the experiment itself."""

    results: str
    """The folder of published tables."""
    output: str | None
    """The page; null is docs/report.html of all tables, and report.html beside one experiment's table."""
    texts: Texts
    """In the examples of one experiment: those that were generated, or all."""


def run(config: Mapping[str, Any]) -> None:
    """Write the page of the experiment that was named, or of all tables."""
    command = bind(ReportCommand, {key: config[key] for key in ReportCommand.model_fields})
    given = {setting(argument) for argument in sys.argv[1:]}
    if "experiment" in given:
        _one({key: value for key, value in config.items() if key not in ("output", "texts")}, command)
        return
    if others := sorted(given - _OF_ALL):
        raise UserError(
            f"{', '.join(others)} would change nothing: without experiment= the page is of all tables; add "
            "experiment=NAME for the page of one run."
        )
    _all(Path(command.results), Path(command.output or OF_ALL))


def _all(root: Path, output: Path) -> None:
    """One page of every table below a folder."""
    found = [
        read_published(folder, folder.parent.relative_to(root).as_posix(), folder.name)
        for folder in published(root)
    ]
    found.sort(key=reading_order)
    if output == OF_ALL:
        output.parent.mkdir(exist_ok=True)
    _check_page(output)
    page = page_of(found, {each.folder: draw_all(each.folder) for each in found}, output, TITLE)
    _print_findings(found)
    _write(output, page)


def _one(config: Mapping[str, Any], asked: ReportCommand) -> None:
    """The page of one experiment, and its figures as files."""
    module, bound, command = open_plain(config)
    folder = Path(command.results) / bound.name / bound.scale
    page_path = Path(asked.output) if asked.output else folder / PAGE
    store, targets = open_store(), module.targets(bound)
    named = f"experiment={bound.name} scale={bound.scale}"
    unfinished = [name for name, stage in targets.items() if store.find(stage) is None]
    if unfinished:
        raise UserError(
            f"{len(unfinished)} of {len(targets)} cells of {bound.name} at scale {bound.scale} are not "
            f"finished, first {unfinished[0]}; `airlab run {named}` runs what is missing."
        )
    if not (folder / LOCK).is_file():
        raise UserError(f"there is no table in {folder}; `airlab table {named}` writes it.")
    read = read_published(folder, bound.name, bound.scale)
    if read.lock.cells != target_fingerprints(module, bound):
        raise UserError(
            f"the table in {folder} is not of this configuration; `airlab table` with the same settings "
            "writes it, and results=FOLDER names another place."
        )
    _check_page(page_path)
    write_gathered(folder, gather_figures(targets, store))
    again = f"airlab report {named} texts=all"
    examples = gather_examples(targets, store, command.machine, texts=asked.texts, again=again)
    if examples is not None:
        write_examples(folder, examples)
    read = read_published(folder, bound.name, bound.scale)
    figures = draw_all(folder)
    page = page_of([read], {folder: figures}, page_path, f"{bound.name}, scale {bound.scale}")
    with written(folder / FIGURES) as temporary:
        save(figures, temporary)
    _print_findings([read])
    _write(page_path, page)
    print(f"{len(figures)} figures as SVG and PNG: {folder / FIGURES}")
    if examples is not None and asked.texts == "all":
        print(f"{folder / EXAMPLES} and the page hold texts whose licences may not let you pass them on")


def page_of(
    found: Sequence[Published], figures: Mapping[Path, Sequence[Figure]], output: Path, title: str
) -> str:
    """The page of some results, with links as they are from where it will lie."""
    bases = {each.folder: _way(output.parent, each.folder) for each in found}
    return render(assemble(found, _questions(found), figures, bases), title)


def _way(start: Path, folder: Path) -> str:
    """What leads from one folder to what is in another."""
    relative = Path(os.path.relpath(folder, start)).as_posix()
    return "" if relative == "." else relative + "/"


def reading_order(read: Published) -> tuple[Any, ...]:
    paper, _, name = read.experiment.partition("/")
    place = _FIRST.index(paper) if paper in _FIRST else len(_FIRST)
    return place, paper, name != "main", name, read.scale


def _questions(found: Sequence[Published]) -> dict[str, Question]:
    """What the experiments asked; a folder that is named like none of them asked nothing."""
    known = choices(configs_folder(), "experiment")
    names = [each.experiment for each in found if each.experiment in known]
    modules = {name: importlib.import_module("experiments." + name.replace("/", ".")) for name in names}
    return {name: question(module.__doc__ or "", module.Config.ASKED) for name, module in modules.items()}


def _check_page(path: Path) -> None:
    """Refuse a place that cannot be written to, or where something lies that is no page of ours."""
    check_output(path, ".html")
    if path.exists() and GENERATOR not in path.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"{path} already exists and is no page of airlab report; choose another output.")


def _write(path: Path, page: str) -> None:
    write_output(path, lambda temporary: _write_text(temporary, page))
    print(f"the page: {path} ({path.stat().st_size / 2**20:.1f} MiB)")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _print_findings(found: Sequence[Published]) -> None:
    """What was found, experiment by experiment, and what it was made on."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    asked = _questions(found)
    for read in found:
        console.print(without_controls(f"{read.experiment}, scale {read.scale}"), style="bold")
        for page in read.pages:
            console.print(without_controls(f"  {page.title}"))
        for claim in claims(read, asked.get(read.experiment)):
            console.print(without_controls(f"  - {claim.text}"))
        for machine in read.lock.machines:
            where = ", ".join([*machine["gpus"], f"{machine['cpu']} with {machine['cores']} cores"])
            console.print(without_controls(f"  {machine['stages']} stages on {where}"))
        commit = (read.lock.provenance.get("git") or {}).get("commit", "unknown")[:12]
        minutes = sum(read.lock.wall_s.values()) / 60
        console.print(without_controls(f"  {minutes:.1f} minutes of stages; commit {commit}"), end="\n\n")
