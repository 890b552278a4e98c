"""Token maps as a page of their own: one file, no network, and no script but ours."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from airlab.reporting.html import content_policy
from airlab.reporting.token_maps import LEGEND, SCRIPT, STYLE, TokenMap, render_map

_IDENTITY = re.compile(r'<meta name="airlab_identity" content="([0-9a-f]{64})">')

_PAGE_STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


def render_page(maps: Sequence[TokenMap], facts: Mapping[str, str], identity: str) -> str:
    """The whole page.

    Args:
        facts: what the maps were made with, in words.
        identity: 64 hex digits; the page says them, so that it is known again.
    """
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{content_policy(SCRIPT)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta name="airlab_identity" content="{identity}">'
        f"<title>Token map: {escape(', '.join(shown.name for shown in maps))}</title>"
        f"<style>{_PAGE_STYLE}{STYLE}</style></head><body>"
        "<h1>What a text loses without retrieval heads</h1>"
        "<p>Each token is shaded by its influence: how much harder it is to predict for the model with its "
        "retrieval heads masked (loss_ref) than for the model as it is (loss_base). Attention influence is "
        "the relative increase of the whole text's loss.</p>"
        f"{LEGEND}{''.join(render_map(shown) for shown in maps)}<dl>{listed}</dl>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def identity_in(page: str) -> str | None:
    """What a page was made from, or None if it does not say."""
    found = _IDENTITY.search(page)
    return found and found[1]
