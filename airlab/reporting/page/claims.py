"""What a results folder's pages say, in sentences with their intervals; what was not found like what was.

Each kind of page has its own main numbers, chosen here once for all results: the row that the experiment's
question is about, whatever it says.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from airlab.reporting.formats import UNKNOWN
from airlab.reporting.page.question import Question
from airlab.reporting.page.read import Grid, Published, Written

METHOD = "attention influence"
"""The arm that most questions are about."""

_FEW = 3
"""Settings that are told one by one."""


@dataclass(frozen=True)
class Claim:
    """A sentence, and the file that its numbers are in."""

    text: str
    source: str


def claims(published: Published, asked: Question | None = None) -> tuple[Claim, ...]:
    """What was found, what the experiment's question is about first: the method, where none is known."""
    arms = asked.arms if asked else (METHOD,)
    pages = sorted(published.pages, key=lambda page: page.name not in _SETTINGS)
    return tuple(
        Claim(text[0].upper() + text[1:], page.source) for page in pages for text in _told(page, arms)
    )


def _told(page: Written, arms: Sequence[str]) -> Iterator[str]:
    if page.name in _OF_ARMS:
        return _OF_ARMS[page.name](page, arms)
    return _CLAIMS.get(page.name, _nothing)(page)


def _nothing(page: Written) -> Iterator[str]:
    return iter(())


def _table(page: Written, arms: Sequence[str]) -> Iterator[str]:
    """The verdicts of these arms, and how often each verdict was given; all stand in the table."""
    # The first of several: an arm stands before those that are named after it.
    found = [next((text for text in page.sentences if text.startswith(f"{arm} ")), None) for arm in arms]
    yield from list(filter(None, found)) or page.sentences[:1]
    grid = page.grid("Difference to ")
    if grid is not None and "verdict" in grid.headers and len(grid.rows) > _FEW:
        outcomes = [row[grid.column("verdict")] for row in grid.rows]
        yield f"of {len(outcomes)} that were compared, {_counted(outcomes)}."
    yield from (note for note in page.notes if note.startswith("Nothing is claimed"))


def _goals(page: Written, arms: Sequence[str]) -> Iterator[str]:
    """These arms on each goal."""
    for grid in page.grids:
        for row in filter(None, (_row(grid, arm) for arm in arms)):
            columns = ("verdict", "composite against random", "Holm-adjusted p")
            verdict, composite, p_value = (row[grid.column(name)] for name in columns)
            goal = grid.title.partition(":")[0]
            yield f"on {goal}, {row[0]} {verdict}: composite {composite}; Holm-adjusted p {_equals(p_value)}."


def _covered(page: Written) -> Iterator[str]:
    grid = page.grid("over arms")
    if grid is not None:
        told = ", ".join(f"{row[0]} {row[1]}" for row in grid.rows)
        yield f"correlation over arms, seen afterwards, of loss and share of held-out n-grams held: {told}."


def _settings(page: Written) -> Iterator[str]:
    """The method against random under every setting."""
    grid = page.grid("Attention influence against random")
    if grid is None:
        return
    composite, p_value, verdict = map(grid.column, ("composite against random", "Holm-adjusted p", "verdict"))

    def told(row: tuple[str, ...]) -> str:
        return f"{row[0]} {row[verdict]}, composite {row[composite]}, Holm-adjusted p = {row[p_value]}"

    if len(grid.rows) <= _FEW:
        yield f"{METHOD} under {len(grid.rows)} settings: {'; '.join(map(told, grid.rows))}."
        return
    lowest = min(grid.rows, key=lambda row: _p(row[p_value]))
    summary = _counted([row[verdict] for row in grid.rows])
    yield f"{METHOD} under {len(grid.rows)} settings: {summary}; lowest p: {told(lowest)}."


def _counted(outcomes: list[str]) -> str:
    return ", ".join(
        f"{count} {outcome if count == 1 else outcome.replace('is not', 'are not')}"
        for outcome, count in Counter(outcomes).most_common()
    )


def _p(text: str) -> float:
    return 2.0 if text == UNKNOWN else float(text.removeprefix("< "))


def _audit(page: Written) -> Iterator[str]:
    ranks = page.grid("Spearman correlation with confounds, of ranks within domains")
    explained = page.grid("What remains")
    told = []
    if row := _row(ranks, METHOD):
        assert ranks is not None
        pairs = zip(ranks.headers[1:], row[1:], strict=True)
        told.append(
            f"within domains {METHOD} correlates with " + ", ".join(f"{name} {rho}" for name, rho in pairs)
        )
    if row := _row(explained, METHOD):
        assert explained is not None
        share = row[explained.column("share within domains that the confounds explain")]
        told.append(f"together they explain {share} of its variance there")
    if told:
        yield "; ".join(told) + "."


def _evidence(page: Written) -> Iterator[str]:
    grid = page.grid("Attention influence of steps")
    if grid is None:
        return
    area, p_value = map(grid.column, ("AUC within traces", "Holm-adjusted p against 0.5"))
    told = (f"{row[0]} {row[area]}, p {_equals(row[p_value])}" for row in grid.rows)
    yield f"AUC of step influence within traces (chance 0.5, p Holm-adjusted): {'; '.join(told)}."


def _masking(page: Written) -> Iterator[str]:
    """Against other heads first: that any mask costs something is no surprise."""
    told = []
    for grid in page.grids:
        row = _row(grid, "all tasks, composite ↑")
        if row and "difference" in grid.headers:
            what, p_value = row[grid.column("difference")], row[grid.column("Holm-adjusted p")]
            told.append(f"{grid.title[0].lower()}{grid.title[1:]} {what}, p {_equals(p_value)}")
    if told:
        told = [*told[1:], told[0]]
        yield f"composite of all tasks, positive is better (p Holm-adjusted): {'; '.join(told)}."


def _stability(page: Written) -> Iterator[str]:
    grid = page.grid("Agreement with the default")
    if grid is None:
        return
    (draws, *variants) = grid.rows
    shared = sorted((int(row[1].split()[0]), row[1]) for row in variants)
    yield (
        f"other probes share {shared[0][0]} to {shared[-1][1]} top heads with the default's; "
        f"{draws[0]}, share {draws[1]}."
    )


def _maps(page: Written) -> Iterator[str]:
    """What the page concludes, after it has said what its numbers are."""
    for note in page.notes[2:]:
        yield note.split(". ")[0].rstrip(".") + "."


def _row(grid: Grid | None, name: str) -> tuple[str, ...] | None:
    return next((row for row in grid.rows if row[0] == name), None) if grid else None


def _equals(p_value: str) -> str:
    return p_value if p_value.startswith("<") else f"= {p_value}"


_SETTINGS = ("ablations", "selector_size")
_OF_ARMS: dict[str, Callable[[Written, Sequence[str]], Iterator[str]]] = {"table": _table, "goals": _goals}
_CLAIMS: dict[str, Callable[[Written], Iterator[str]]] = {
    "coverage": _covered,
    **dict.fromkeys(_SETTINGS, _settings),
    "audit": _audit,
    "evidence": _evidence,
    "masking": _masking,
    "stability": _stability,
    "maps": _maps,
}
