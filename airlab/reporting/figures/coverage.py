"""What arms' training text holds of held-out text, against what they lose on it: a panel a domain."""

from collections.abc import Iterator

from airlab.reporting.covered import NAME, ArmInDomain, correlation_text
from airlab.reporting.figures.canvas import KEY_LINE, SMALL, WIDTH, Sheet, shortened
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.palette import LIGHT, MARKERS, SERIES
from airlab.reporting.figures.results import Results, Rows, in_words

_HEAD, _TALL, _FOOT = 38, 104.0, 24
_LEFT, _WIDE, _APART = 60, 138, 184
"""Of panels, two in a row."""

_KEYS = 2
"""Entries of the key in a line."""


def draw(results: Results) -> Iterator[Figure]:
    """One mark an arm and domain."""
    rows = results.rows(NAME)
    if rows:
        yield _scatter(results, rows)


def _scatter(results: Results, rows: Rows) -> Figure:
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    looks = _looks(rows)
    first = 12 + KEY_LINE * -(-len(looks) // _KEYS)
    lines = -(-len(domains) // 2)
    sheet = Sheet(first + lines * (_HEAD + _TALL + _FOOT) + 18)
    sheet.key(12, [(in_words(arm), *look) for arm, look in looks.items()], _KEYS)
    for number, domain in enumerate(domains):
        left = _LEFT + (number % 2) * _APART
        top = first + (number // 2) * (_HEAD + _TALL + _FOOT) + _HEAD
        own = {
            row["arm"]: ArmInDomain(float(row["covered"]), float(row["bits_per_byte"]))
            for row in rows
            if row["domain"] == domain
        }
        sheet.text(left, top - 24, shortened(in_words(domain), _WIDE))
        together = f"r {correlation_text(list(own.values()))}".replace("-", "−")
        sheet.text(left, top - 10, together, fontsize=SMALL, color=LIGHT["muted"])
        axes = sheet.axes(left, top, _WIDE, _TALL)
        axes.grid()
        axes.locator_params(nbins=4)
        axes.margins(0.08)
        for arm, one in own.items():
            colour, marker, filled = looks[arm]
            said = f"{in_words(arm)}, {in_words(domain)}: {one.covered:.3f} held, {one.loss:.3f} bits a byte"
            sheet.interval(
                axes, one.loss, one.covered, None, None, said, colour=colour, marker=marker, filled=filled
            )
        if number % 2 == 0:
            axes.set_ylabel("bits a byte", fontsize=SMALL)
    sheet.text(WIDTH / 2, sheet.height - 10, "share of held-out n-grams in the training text", ha="center")
    caption = (
        "Held-out text, domain by domain: how much of it an arm's training text has in common with it (share "
        "of its token n-grams, repeats counted), and how hard it is for the model that was trained on that "
        "text. A mark is an arm, mean over seeds; r is Pearson's correlation over arms, with Fisher's 95 % "
        "interval. Looked at after the losses were known: a description, no test. Axes begin anywhere."
    )
    return sheet.finish(results.prefix, "coverage", "Text held and text lost", caption, (f"{NAME}.csv",))


def _looks(rows: Rows) -> dict[str, tuple[str, str, bool]]:
    """Colour, marker and filling of every arm; no two arms have the same of all three."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    return {
        arm: (SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)], i // len(SERIES) % 2 == 0)
        for i, arm in enumerate(arms)
    }
