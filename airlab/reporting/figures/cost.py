"""What a table cost: minutes by kind of stage, and the machines they ran on."""

from collections.abc import Iterator

from airlab.reporting.figures.canvas import MARGIN, SMALL, WIDTH, Sheet, shortened
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.palette import LIGHT
from airlab.reporting.figures.results import Results, in_words
from airlab.reporting.lock import LOCK

_ROW = 19
_LABEL = 150
_SECONDS_IN_MINUTE = 60


def draw(results: Results) -> Iterator[Figure]:
    """One bar for every kind of stage; what the lock does not know is marked so."""
    lock = results.lock
    known = sorted(((s, name) for name, s in lock.wall_s.items() if s > 0), reverse=True)
    gone = lock.untimed
    if not known and not gone:
        return
    sheet = Sheet(12 + _ROW * (len(known) + len(gone)) + 42)
    axes = sheet.axes(_LABEL, 10, WIDTH - _LABEL - 66, _ROW * (len(known) + len(gone)))
    longest = known[0][0] / _SECONDS_IN_MINUTE if known else 1.0
    axes.set_xlim(0, longest)
    axes.set_ylim(len(known) + len(gone) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("minutes, all stages of a kind")
    for row, (seconds, name) in enumerate([*known, *((None, name) for name in gone)]):
        y = 10 + _ROW * (row + 0.5)
        sheet.text(MARGIN, y, shortened(in_words(name), _LABEL - 22, SMALL), fontsize=SMALL)
        if seconds is None:
            sheet.text(_LABEL + 5, y, "unknown", fontsize=SMALL, color=LIGHT["muted"])
            continue
        minutes = seconds / _SECONDS_IN_MINUTE
        (bar,) = axes.barh(row, minutes, height=0.62, color=LIGHT["blue"])
        words = _time(seconds)
        sheet.tell(bar, f"{in_words(name)}: {seconds:,.1f} s")
        end = _LABEL + (WIDTH - _LABEL - 66) * minutes / longest
        sheet.text(end + 4, y, words, fontsize=SMALL, color=LIGHT["muted"])
    machines = "; ".join(
        f"{machine['stages']} on {', '.join([*machine['gpus'], machine['cpu']])}, {machine['cores']} cores"
        for machine in lock.machines
    )
    total = sum(seconds for seconds, _ in known) / _SECONDS_IN_MINUTE
    missing = (
        f" Unknown: {', '.join(map(in_words, gone))}; their artifacts were gone when the table was written."
        if gone
        else ""
    )
    caption = (
        f"Wall time of the stages behind this table, {total:.1f} minutes if one runs after the other. "
        f"Stages by machine: {machines or 'unknown'}.{missing}"
    )
    yield sheet.finish(results.prefix, "cost", "What it took", caption, (LOCK,))


def _time(seconds: float) -> str:
    if seconds >= _SECONDS_IN_MINUTE:
        return f"{seconds / _SECONDS_IN_MINUTE:,.1f} min"
    return f"{seconds:.1f} s" if seconds >= 0.1 else "< 0.1 s"
