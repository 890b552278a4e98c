"""Text of other people's on a terminal: shown, and never obeyed."""

import unicodedata

_JOINERS = "\u200c\u200d"
"""Invisible, and part of words and signs in many scripts."""

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Characters that move the cursor, colour, turn the direction of reading or show nothing."""


def visible(text: str) -> str:
    """The text with what a terminal would obey or hide written out, as \\x1b or \\u202e; line ends stay."""
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode()
