"""What every page of ours keeps to: one script runs, and no character is obeyed by a parser."""

import base64
import hashlib

_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}


def without_controls(text: str) -> str:
    """Text with control characters as signs that can be seen.

    HTML holds some of them not at all, and turns others into others; no terminal should obey them.
    """
    return text.translate(_CONTROLS)


def content_policy(script: str) -> str:
    """A page's Content-Security-Policy: this script, styles of the page, and nothing from anywhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
