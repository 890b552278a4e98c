"""`airlab report`: every committed table, with what it was made on."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.markdown import Markdown

from airlab.cli.bind import bind, to_plain
from airlab.errors import UserError
from airlab.reporting.lock import LOCK, read_lock
from airlab.schema.base import Frozen


class ReportCommand(Frozen):
    """What `configs/report.yaml` binds to."""

    results: str


def run(config: DictConfig) -> None:
    """Print the tables below the results folder."""
    command = bind(ReportCommand, to_plain(config))
    locks = sorted(Path(command.results).rglob(LOCK))
    if not locks:
        raise UserError(f"there are no tables below {command.results}; run `make reproduce` first.")
    console = Console()
    for path in locks:
        lock = read_lock(path.parent)
        console.print(Markdown((path.parent / "table.md").read_text()))
        facts = lock.provenance
        console.print(
            f"made on {facts.get('cpu', 'an unknown CPU')}, {facts.get('cores', '?')} cores, in "
            f"{sum(lock.wall_s.values()) / 60:.1f} minutes of stages; "
            f"commit {(facts.get('git') or {}).get('commit', 'unknown')[:12]}",
            markup=False,
            highlight=False,
        )
