"""From the SVG that matplotlib writes to one that can stand inside a page beside others.

Nothing is kept that a page could trip over: ids are the figure's own, links lead to the figure itself, and
there is no prologue, no metadata and no script.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from airlab.reporting.figures.palette import LIGHT

SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(r"font-family: ?'?DejaVu Sans'?(?:, sans-serif)?;? ?")
_FAMILY = "font-family:var(--fig-font,system-ui,sans-serif)"  # said once: every text inherits it
_DECIMALS = re.compile(r"-?\d+\.\d+")
_BOX = re.compile(r"M (\S+) (\S+) L (\S+) \2 L \3 (\S+) L \1 \4 z")
_COMMAND = re.compile(r" ?([A-Za-z]) ?")
_ROUNDED = ("d", "x", "y", "width", "height", "points", "transform")
_COLOURS = {value: f"var(--fig-{name})" for name, value in LIGHT.items()}
_COLOUR = re.compile("|".join(_COLOURS))
_LINK = re.compile(r"url\(#([^)]+)\)")


def inline(svg: str, name: str, label: str, titles: Mapping[str, Sequence[str]]) -> str:
    """The figure as an `<svg>` element.

    Args:
        svg: a whole file of matplotlib's.
        name: put before every id.
        label: what a screen reader says.
        titles: by the id of a group, what its marks say under the pointer; one for each mark in the order
            they were drawn, or a single one for all.

    Raises:
        RuntimeError: a group does not exist, or has another number of marks.
    """
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(svg)
    _drop(root, f"{{{SVG}}}metadata")
    _drop(root, f"{{{SVG}}}style")  # it would hold for the whole page
    groups = {element.get("id"): element for element in root.iter() if element.get("id")}
    for group, told in titles.items():
        if group not in groups:
            raise RuntimeError(f"nothing was drawn as {group}")
        _tell(groups[group], told)
    _rename(root, name)
    _drop_empty(root)
    for element in root.iter():
        _tidy(element)
    for element in root.iter():
        _share_style(element)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib.clear()
    root.attrib.update(
        {
            "viewBox": f"0 0 {float(width):g} {float(height):g}",
            "width": f"{float(width):g}",
            "height": f"{float(height):g}",
            "role": "img",
            "aria-label": label,
            "style": f"max-width:100%;height:auto;stroke-linejoin:round;stroke-linecap:butt;{_FAMILY}",
        }
    )
    return ElementTree.tostring(root, encoding="unicode")


def _drop(root: Element, tag: str) -> None:
    for parent in root.iter():
        for child in [child for child in parent if child.tag == tag]:
            parent.remove(child)


def _drop_empty(element: Element) -> None:
    """Groups in which nothing is drawn."""
    for child in list(element):
        _drop_empty(child)
        if child.tag == f"{{{SVG}}}g" and len(child) == 0:
            element.remove(child)


def _tell(group: Element, titles: Sequence[str]) -> None:
    marks = [group] if len(titles) == 1 else list(_marks(group))
    if len(marks) != len(titles):
        raise RuntimeError(f"{len(titles)} titles for {len(marks)} marks")
    for mark, text in zip(marks, titles, strict=True):
        title = Element(f"{{{SVG}}}title")
        title.text = text
        mark.insert(0, title)


def _marks(element: Element) -> Iterator[Element]:
    for child in element:
        tag = child.tag.rpartition("}")[2]
        if tag in ("path", "use"):
            yield child
        elif tag != "defs":
            yield from _marks(child)


def _rename(root: Element, name: str) -> None:
    """Keep the ids that something links to, in short and with the figure's name; drop the others."""
    wanted: dict[str, str] = {}
    for element in root.iter():
        if link := element.attrib.pop(_HREF, None):
            wanted.setdefault(link.removeprefix("#"), f"{name}-{len(wanted)}")
            element.set("href", "#" + wanted[link.removeprefix("#")])
        for key, value in element.attrib.items():
            for target in _LINK.findall(value):
                wanted.setdefault(target, f"{name}-{len(wanted)}")
                element.set(key, value.replace(f"#{target})", f"#{wanted[target]})"))
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in wanted:
            element.set("id", wanted[own])


def _tidy(element: Element) -> None:
    """Colours as variables, the font left to the drawing, two decimals, no blanks."""
    for key in ("fill", "stroke"):  # a variable is none in an attribute
        if element.get(key) in _COLOURS:
            element.set("style", f"{key}:{element.attrib.pop(key)}")
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if style := element.get("style"):
        style = _FONT.sub("", style)
        style = style.replace("text-anchor: start; ", "")  # where text begins unless told otherwise
        style = _COLOUR.sub(lambda found: _COLOURS[found.group()], style)
        element.set("style", re.sub(r"([:;]) ", r"\1", style))
    for key in _ROUNDED:
        if key in element.attrib:
            text = _DECIMALS.sub(lambda found: _short(found.group()), element.attrib[key])
            element.set(key, " ".join(text.split()))
    if "d" in element.attrib:  # rectangles by their sides, and no blanks around letters
        element.set("d", _COMMAND.sub(r"\1", _BOX.sub(r"M \1 \2 H \3 V \4 H \1 z", element.attrib["d"])))
    if not (element.text or "").strip():
        element.text = None
    if not (element.tail or "").strip():
        element.tail = None


def _share_style(element: Element) -> None:
    """Say once in a group what all its marks say."""
    styles = {child.get("style") for child in element if child.tag == f"{{{SVG}}}use"}
    if len(styles) == 1 and None not in styles and "style" not in element.attrib and len(element) > 2:
        element.set("style", styles.pop() or "")
        for child in element:
            child.attrib.pop("style", None)


def _short(number: str) -> str:
    text = f"{float(number):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
