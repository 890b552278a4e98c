"""HTML fragments and reStructuredText to plain text: words kept, tags and link targets dropped."""

import html
import re

_BREAKS = re.compile(r"</?(?:p|div|ul|ol|dl|note|important|table|tr|pre|h[1-6]|dt|dd|br)\b[^>]*>|</li>", re.I)
_NAMED = re.compile(r"<fullname>.*?</fullname>", re.I | re.S)
_ITEM = re.compile(r"\s*<li\b[^>]*>(?:\s|<p>)*", re.I)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")


def html_to_text(fragment: str) -> str:
    """Plain text of a documentation fragment: a paragraph a block, ``- `` before list items."""
    text = _NAMED.sub("", fragment)
    text = re.sub(r"\s+", " ", text)
    text = _ITEM.sub("\n- ", text)
    text = _BREAKS.sub("\n\n", text)
    text = html.unescape(_TAG.sub("", text))
    text = re.sub(r"[ \t\xa0]+", " ", text)
    text = re.sub(r" *\n *", "\n", text)
    text = re.sub(r"\n{2,}- ", "\n- ", text)
    text = re.sub(r" +([.,;:)])", r"\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


_RST_LINK = re.compile(r"`([^`<]*?)\s*<[^`>]*>`__?")
_RST_ROLE = re.compile(r":(?:[a-z]+:)?[a-z]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")
_RST_BOLD_LINE = re.compile(r"^\*\*(.+?)\*\*:?[ \t]*$", re.M)
_RST_KEPT = re.compile(
    r"^([ \t]*)\.\. (?:math|note|warning|important|tip|seealso|admonition|topic|rubric)::[ \t]*", re.M
)
_RST_DROPPED = re.compile(r"^[ \t]*\.\. (?:_[^\n]*:[^\n]*|[a-z:-]+::[^\n]*)\n?", re.M)


def rst_to_text(source: str) -> str:
    """Prose of a reStructuredText page; indented examples stay as they are."""
    text = source.replace("\r\n", "\n").expandtabs(4)
    text = _RST_KEPT.sub(r"\1", text)
    text = _RST_DROPPED.sub("", text)
    text = _RST_LINK.sub(r"\1", text)
    text = _RST_ROLE.sub(r"\1", text)
    text = _RST_BOLD_LINE.sub(r"\1", text)
    text = re.sub(r"``([^`\n]+)``", r"\1", text)
    text = re.sub(r"(?<![\w*])\*\*?([^*\n]+?)\*\*?(?![\w*])", r"\1", text)
    text = re.sub(r"([.!?:])[ \t]*::[ \t]*$", r"\1", text, flags=re.M)
    text = re.sub(r"[ \t]*::[ \t]*$", ":", text, flags=re.M)
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
