"""One experiment at one scale, ready to be set: everything in reading order, with links."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from airlab.reporting.figures import Figure
from airlab.reporting.figures.results import ESTIMATES, GATHERED
from airlab.reporting.formats import UNKNOWN
from airlab.reporting.lock import FINGERPRINT, LOCK
from airlab.reporting.page.claims import Claim, claims
from airlab.reporting.page.provenance import Entry, anchors, entries
from airlab.reporting.page.question import Question
from airlab.reporting.page.read import Published
from airlab.reporting.page.shown import Cell, Head, Part, Places, ShownTable, show_grid, show_main
from airlab.reporting.token_maps import EXAMPLES, render_examples

MAIN = "table"
"""The page that is a table of arms."""

_LEADS = {
    "ablations": "Attention influence against random",
    "selector_size": "Attention influence against random",
    "audit": "Spearman correlation with confounds, of ranks within domains",
    "stability": "Agreement with the default",
}
"""The grid that is open at once, where it is not the page's first."""


@dataclass(frozen=True)
class ShownPage:
    """The grids of one page and what their numbers are."""

    title: str
    lead: ShownTable | None
    """What is open at once."""
    others: tuple[ShownTable, ...]
    verdicts: tuple[str, ...]
    notes: tuple[str, ...]
    source: Part
    """Where the verdicts' numbers are."""


@dataclass(frozen=True)
class ShownFigure:
    """A figure with links to what it was drawn from."""

    anchor: str
    title: str
    caption: str
    svg: Markup
    sources: tuple[Part, ...]


@dataclass(frozen=True)
class Section:
    """Everything that the page says of one experiment at one scale."""

    id: str
    experiment: str
    scale: str
    question: Question | None
    claims: tuple[Claim, ...]
    pages: tuple[ShownPage, ...]
    figures: tuple[ShownFigure, ...]
    examples: Markup
    costs: ShownTable | None
    entries: tuple[Entry, ...]
    facts: tuple[tuple[str, str], ...]
    packages: tuple[tuple[str, str], ...]
    machines: tuple[str, ...]
    minutes: float
    unknown: tuple[str, ...]
    files: tuple[str, ...]
    missing: tuple[str, ...]
    """What could stand here and does not, with the reason."""
    places: Places

    @property
    def cells(self) -> int:
        """Artifacts that the results are read from."""
        return sum(len(entry.cells) for entry in self.entries)

    @property
    def heading(self) -> str:
        """The question, or the place where there is none."""
        return self.question.text if self.question else f"{self.experiment}, scale {self.scale}"


def section(
    published: Published, name: str, asked: Question | None, figures: Sequence[Figure], base: str
) -> Section:
    """A section out of a results folder.

    Args:
        name: what its anchors begin with; of letters, digits and hyphens.
        base: what is put before a file's name to reach it from the page; empty or ending in a slash.
    """
    lock = published.lock
    found = entries(lock)
    links = {arm: f"#{name}-{anchor}" for arm, anchor in anchors(found).items()}
    places = Places(base, links)
    fingerprints = {
        fingerprint: f"#{name}-{entry.anchor}" for entry in found for _, fingerprint in entry.cells
    }
    return Section(
        name,
        published.experiment,
        published.scale,
        asked,
        claims(published, asked),
        tuple(_pages(published, places)),
        tuple(_figure(figure, name, places, fingerprints) for figure in figures),
        # Safe: what is not of our making is escaped where the maps are made.
        Markup(render_examples(published.folder)),
        _costs(lock.wall_s, places),
        found,
        tuple(_facts(lock.provenance)),
        tuple(sorted((lock.provenance.get("packages") or {}).items())),
        tuple(map(_machine, lock.machines)),
        sum(lock.wall_s.values()) / 60,
        tuple(stage.replace("_", " ") for stage in lock.untimed),
        published.files,
        tuple(_missing(published)),
        places,
    )


def _pages(published: Published, places: Places) -> Iterator[ShownPage]:
    for page in published.pages:
        lead, others = None, list(page.grids)
        if page.name == MAIN and published.estimates is not None and page.grids:
            lead = show_main(published, page, places)
            del others[:2]  # the values, and the differences to the reference
        elif others:
            first = page.grid(_LEADS.get(page.name, "")) or others[0]
            others.remove(first)
            lead = show_grid(first, page, places)
        yield ShownPage(
            page.title,
            lead,
            tuple(show_grid(grid, page, places) for grid in others),
            page.sentences,
            page.notes,
            Part(page.source, places.file(page.source)),
        )


def _figure(figure: Figure, section: str, places: Places, fingerprints: Mapping[str, str]) -> ShownFigure:
    def lead(source: str) -> Part:
        if not FINGERPRINT.fullmatch(source):
            return Part(source, places.file(source))
        # What is no cell of the table was named where the figure's numbers were gathered.
        return Part(source[:12], fingerprints.get(source, places.file(GATHERED)))

    # Safe: made by our own drawing code, where texts are escaped by the XML writer.
    svg = Markup(figure.svg)
    return ShownFigure(
        f"{section}-figure-{figure.name}", figure.title, figure.caption, svg, tuple(map(lead, figure.sources))
    )


def _costs(wall_s: Mapping[str, float], places: Places) -> ShownTable | None:
    """Time by stage, the longest first."""
    if not wall_s:
        return None
    source = Part(LOCK, places.file(LOCK))
    whole = sum(wall_s.values())

    def number(text: str, value: float) -> Cell:
        return Cell(Part(text, source.href), None, value)

    rows = tuple(
        (
            Cell(Part(stage.replace("_", " "))),
            number(f"{seconds:,.1f}" if seconds else UNKNOWN, seconds),
            number(f"{seconds / 60:,.1f}" if seconds else "", seconds),
            number(f"{seconds / whole:.1%}" if seconds else "", seconds),
        )
        for stage, seconds in sorted(wall_s.items(), key=lambda item: -item[1])
    )
    heads = (Head("stage"), Head("time", "seconds"), Head("time", "minutes"), Head("share"))
    return ShownTable("What it cost: time of all stages, summed over artifacts", heads, rows, source)


def _facts(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where the table was written, in words."""
    if git := provenance.get("git"):
        yield "commit", git["commit"] + (", with changes" if git["dirty"] else "")
    if provenance.get("python"):
        yield "Python", f"{provenance['python']} on {provenance['platform']}"
        memory = provenance["memory_bytes"]
        where = ", ".join([*provenance["gpus"], f"{provenance['cpu']} with {provenance['cores']} cores"])
        yield "written on", where + (f", {memory / 2**30:.1f} GiB of memory" if memory else "")


def _machine(machine: Mapping[str, Any]) -> str:
    where = ", ".join([*machine["gpus"], f"{machine['cpu']} with {machine['cores']} cores"])
    return f"{machine['stages']} stages on {where}, torch {machine['torch']}"


def _missing(published: Published) -> Iterator[str]:
    again = f"airlab report experiment={published.experiment} scale={published.scale}"
    if published.page(MAIN) is not None and published.estimates is None:
        yield f"The sortable table: {ESTIMATES} is not in the folder; `airlab table` writes it."
    if GATHERED not in published.files:
        yield (
            f"Figures of heads, scores and curves: {GATHERED} is not in the folder; `{again}` gathers it "
            "from a finished run."
        )
    if EXAMPLES not in published.files:
        yield (
            f"Token maps of examples: {EXAMPLES} is not in the folder; `{again}` gathers it from a finished "
            "run."
        )
