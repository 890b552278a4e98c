"""`airlab report`: every committed table, with what it was made on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from airlab.cli.bind import bind
from airlab.cli.published import published
from airlab.errors import UserError
from airlab.schema.base import Frozen


class ReportCommand(Frozen):
    """What `configs/report.yaml` binds to."""

    results: str


def run(config: Mapping[str, Any]) -> None:
    """Print the tables below the results folder."""
    command = bind(ReportCommand, config)
    console = Console()
    for folder, lock in published(Path(command.results)).items():
        for page in (folder / f"{name}.md" for name in lock.pages):
            if not page.is_file():
                raise UserError(f"{page} does not exist; restore it or write the table again.")
            console.print(Markdown(page.read_text(encoding="utf-8")))
        for machine in lock.machines:
            where = ", ".join([*machine["gpus"], f"{machine['cpu']} with {machine['cores']} cores"])
            console.print(f"{machine['stages']} stages on {where}", markup=False, highlight=False)
        console.print(
            f"{sum(lock.wall_s.values()) / 60:.1f} minutes of stages; "
            f"commit {(lock.provenance.get('git') or {}).get('commit', 'unknown')[:12]}",
            markup=False,
            highlight=False,
        )
