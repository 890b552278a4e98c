"""What an experiment publishes: its table, and the audit of its selectors where it has one."""

from dataclasses import dataclass
from pathlib import Path

from airlab.reporting.audit import AuditTable, print_audit, write_audit
from airlab.reporting.render import print_table, write_table
from airlab.reporting.tables import Table

AUDIT = "audit"
"""The name of the audit's artifact in a table's lock, beside the cells'."""


@dataclass(frozen=True)
class Findings:
    """All results of one experiment at one scale."""

    table: Table
    audit: AuditTable | None = None


def write_findings(folder: Path, findings: Findings) -> None:
    """Write the files of all results into an existing folder."""
    write_table(folder, findings.table)
    if findings.audit is not None:
        write_audit(folder, findings.audit)


def print_findings(findings: Findings) -> None:
    """Print all results to the terminal."""
    print_table(findings.table)
    if findings.audit is not None:
        print_audit(findings.audit)


def pages(locked: dict[str, str]) -> tuple[str, ...]:
    """The Markdown files that a lock's artifacts were written to."""
    return ("table.md", "audit.md") if AUDIT in locked else ("table.md",)
