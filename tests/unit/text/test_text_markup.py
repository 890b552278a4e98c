"""Markup goes, words stay."""

import pytest

from airlab.text.markup import html_to_text, rst_to_text


def test_html_blocks_become_paragraphs_and_inline_tags_vanish() -> None:
    fragment = (
        "<fullname>A Service</fullname> <p>The <code>Get</code> call returns <i>x</i>\n &amp; y (see "
        '<a href="u">here</a>).</p><important> <p>Mind a &lt; b.</p></important>'
        "<ul><li><p>one</p></li><li>two</li></ul>"
    )
    assert html_to_text(fragment) == "The Get call returns x & y (see here).\n\nMind a < b.\n- one\n- two"


@pytest.mark.parametrize("text", ["a < b and c > d", "x << 2", "1 <2, 3> 0"])
def test_comparisons_are_no_tags(text: str) -> None:
    assert html_to_text(text) == text


def test_rst_roles_links_and_directives_are_read_out() -> None:
    source = (
        ".. _label:\n\n**To list things**\n\nThe ``list`` command, see `the guide <http://x/y>`__ and "
        ":func:`~pkg.mod.name`. ::\n\n    list --all **kept**\n\n"
        ".. math:: x^2 = 4\n\n.. plot:: a.py\n\n.. [1] A. Author."
    )
    plain = rst_to_text(source)
    assert "To list things\n\nThe list command, see the guide and pkg.mod.name.\n\n    list --all" in plain
    assert "x^2 = 4" in plain and "[1] A. Author." in plain
    assert "::" not in plain and "plot" not in plain and "http" not in plain and "_label" not in plain
