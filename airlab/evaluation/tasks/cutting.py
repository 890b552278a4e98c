"""Cutting text where a reader would."""

import re

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_SPACE = re.compile(r"\s+")


def cut_bytes(text: str, limit: int) -> str:
    """The longest prefix of `text` that is at most `limit` UTF-8 bytes and ends between characters."""
    return text.encode()[:limit].decode(errors="ignore")


def cut_words(text: str, limit: int) -> str:
    """`text` cut to at most `limit` bytes, at white space where there is any in the second half."""
    head = cut_bytes(text, limit)
    if len(head) == len(text):
        return text.rstrip()
    at = max((match.start() for match in _SPACE.finditer(head)), default=0)
    return (head[:at] if at >= len(head) // 2 else head).rstrip()


def split_passage(text: str, limit: int) -> tuple[str, str, str] | None:
    """(passage, separator, rest): the first passage of at most `limit` bytes.

    It ends at the last paragraph, line, sentence or word border (the first of these that leaves at
    least half of `limit`); None when the text has no such border or nothing follows it.
    """
    head = cut_bytes(text, limit)
    for border in (_PARAGRAPH, _LINE, _SENTENCE, _SPACE):
        for match in reversed(list(border.finditer(head))):
            if match.start() < len(head) // 2:
                break
            # The separator may run on past the cut, so it is matched again in the whole text.
            whole = _SPACE.match(text, match.start())
            rest = text[whole.end() :] if whole else ""
            if whole and rest.strip():
                return text[: match.start()], whole.group(), rest
    return None
