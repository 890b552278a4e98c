"""From sections to one HTML file: no network, one script whose hash the page's own policy names."""

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from airlab.reporting.figures import STYLE as FIGURES_STYLE
from airlab.reporting.figures import Figure
from airlab.reporting.html import content_policy, without_controls
from airlab.reporting.page.question import Question
from airlab.reporting.page.read import Published
from airlab.reporting.page.section import Section, section
from airlab.reporting.token_maps import LEGEND
from airlab.reporting.token_maps import SCRIPT as MAPS_SCRIPT
from airlab.reporting.token_maps import STYLE as MAPS_STYLE

GENERATOR = '<meta name="generator" content="airlab report">'
"""How a page of ours is known from a file of somebody else's."""

_HERE = Path(__file__).parent
_NUMBER = re.compile(r"[+−]?\d[\d,]*(?:\.\d+)?(?: ?%)?(?: \[[^\]]*\])?")
_MINUS = re.compile(r"(?<![\w.-])-(?=\d)")
_P_VALUE = re.compile(r"(?<=\bp) (?=[=<] )|(?<=\bp [=<]) ")


def shown(text: str) -> str:
    """Text as it is read: with minus signs, p-values in one piece, and no control characters."""
    return _P_VALUE.sub("\u00a0", _MINUS.sub("−", without_controls(text)))


def linked(text: str, href: str) -> Markup:
    """A sentence whose numbers, each with its interval, lead to where they come from."""
    # Shown as a whole: a hyphen is known from a minus sign by what stands before it.
    text, parts, end = shown(text), [], 0
    for found in _NUMBER.finditer(text):
        parts.append(escape(text[end : found.start()]))
        parts.append(Markup('<a class="n" href="{}">{}</a>').format(href, found.group()))
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(shown=shown, linked=linked)
    return environment


def render(sections: Sequence[Section], title: str) -> str:
    """The whole page."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    maps = any(section.examples for section in sections)
    if maps:
        script, style = script + MAPS_SCRIPT, style + MAPS_STYLE
    # Safe: files of this package, and nothing else.
    page = _environment().get_template("page.html.j2")
    return page.render(
        title=title,
        sections=sections,
        generator=Markup(GENERATOR),
        style=Markup(FIGURES_STYLE + style),
        script=Markup(script),
        policy=Markup(content_policy(script)),
        legend=Markup(LEGEND) if maps else "",
    )


def assemble(
    found: Sequence[Published],
    asked: Mapping[str, Question],
    figures: Mapping[Path, Sequence[Figure]],
    bases: Mapping[Path, str],
) -> tuple[Section, ...]:
    """Sections in the order of the results.

    Args:
        asked: experiment -> its question; none for an experiment that is not ours.
        figures: folder -> what was drawn of it.
        bases: folder -> what is put before a file's name to reach it from the page.
    """
    names: Counter[str] = Counter()
    sections = []
    for each in found:
        name = re.sub(r"[^a-z0-9]+", "-", f"{each.experiment}-{each.scale}".lower()).strip("-")
        names[name] += 1
        if names[name] > 1:
            name = f"{name}--{names[name]}"
        sections.append(
            section(each, name, asked.get(each.experiment), figures[each.folder], bases[each.folder])
        )
    return tuple(sections)
