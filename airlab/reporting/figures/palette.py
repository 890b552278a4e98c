"""Colours of figures: told apart by the colour-blind, and variables of the page that shows them.

The hues are Okabe and Ito's. A figure is drawn in the light values; on the way into SVG each becomes a
variable, so that a page can show the same figure on a dark ground; `STYLE` says what the variables are.
"""

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "ink": "#1f2328",
    "muted": "#57606a",
    "grid": "#d3d9df",
    "paper": "#ffffff",
    "band": "#e9ecf0",
    "blue": "#0072b2",
    "orange": "#d55e00",
    "green": "#00805f",
    "purple": "#a8508b",
    "yellow": "#b07a00",
    "sky": "#2f94cc",
    "up-0": "#f4f7fb",
    "up-1": "#e0ebf6",
    "up-2": "#c8dcef",
    "up-3": "#aacce7",
    "up-4": "#86b9dd",
    "up-5": "#5fa3d2",
    "down-1": "#fbe9dc",
    "down-2": "#f8d5bb",
    "down-3": "#f4bd94",
    "down-4": "#eea269",
    "down-5": "#e68a45",
}
DARK: Mapping[str, str] = {
    "ink": "#e6edf3",
    "muted": "#a3adb8",
    "grid": "#363d46",
    "paper": "#0f141a",
    "band": "#20262e",
    "blue": "#4aa8e0",
    "orange": "#f08a3c",
    "green": "#2fc79a",
    "purple": "#d98cc0",
    "yellow": "#e0b040",
    "sky": "#8acdf2",
    "up-0": "#161b22",
    "up-1": "#172c3f",
    "up-2": "#183c5a",
    "up-3": "#194b74",
    "up-4": "#1b5a8e",
    "up-5": "#1e6aa8",
    "down-1": "#38241a",
    "down-2": "#52301b",
    "down-3": "#6d3c1b",
    "down-4": "#87481b",
    "down-5": "#a1551c",
}
"""The same names on a dark ground. Every shade of `up` and `down` carries ink that can be read."""

SERIES = ("blue", "orange", "green", "purple", "yellow", "sky")
"""For what is told apart by hue; line style or marker goes along with it."""

DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_SHADES = 5


def variables(colours: Mapping[str, str]) -> str:
    """The declarations of a style sheet."""
    return ";".join(f"--fig-{name}:{value}" for name, value in colours.items())


STYLE = (
    f":root{{{variables(LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}"
    f"@media print{{:root{{{variables(LIGHT)}}}}}"
)
"""A style sheet for the page that figures are put in; it follows the reader's setting."""


def sequential(value: float, highest: float) -> str:
    """A shade for a value from 0 to `highest`, darker for more."""
    return LIGHT[f"up-{_step(value, highest)}"]


def diverging(value: float, highest: float = 1.0) -> str:
    """A shade for a value from -`highest` to `highest`: orange below nothing, blue above."""
    step = _step(abs(value), highest)
    return LIGHT[f"{'down' if value < 0 and step else 'up'}-{step}"]


def _step(value: float, highest: float) -> int:
    if highest <= 0:
        return 0
    return max(0, min(_SHADES, round(_SHADES * value / highest)))
