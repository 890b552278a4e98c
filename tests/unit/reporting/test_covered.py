"""The page of what arms hold and lose."""

import pytest

from airlab.reporting.covered import ArmInDomain, correlation_text, covered_page
from airlab.reporting.pages import render_csv, render_page

LABELS = {"random": "random", "full_pool": "full pool", "loss_low": "loss low", "length": "length"}


def arms(*losses: float) -> dict[str, ArmInDomain]:
    held = (0.5, 0.6, 0.4, 0.55)
    return {
        name: ArmInDomain(*pair) for name, pair in zip(LABELS, zip(held, losses, strict=True), strict=True)
    }


def test_differences_are_to_the_reference_and_the_best_covered_stands_first() -> None:
    page = covered_page("Title", {"prose": arms(1.0, 0.9, 1.2, 1.05)}, LABELS, "random", ("A note.",))
    assert [row[0] for row in page.sections[1].rows] == ["full pool", "length", "random", "loss low"]
    assert page.sections[1].rows[0] == ("full pool", "0.600", "+0.100", "-0.100")
    assert page.sections[1].rows[2] == ("random", "0.500", "+0.000", "+0.000")
    assert "prose,full_pool,0.6,0.9" in render_csv(page)
    assert "no test" in render_page(page) and "A note." in render_page(page)


def test_a_loss_that_falls_with_coverage_is_a_correlation_of_minus_one() -> None:
    falling = {
        name: ArmInDomain(held, 2 - held) for name, held in zip(LABELS, (0.1, 0.2, 0.4, 0.3), strict=True)
    }
    assert correlation_text(list(falling.values())).startswith("-1.00 [-1.00")
    # By hand: x = 0, 1, 2, 3 and y = 1, 0, 3, 2 have r = 0.6.
    found = correlation_text([ArmInDomain(x, y) for x, y in ((0, 1), (1, 0), (2, 3), (3, 2))])
    assert found.startswith("+0.60 [-")


@pytest.mark.parametrize("some", [[], [ArmInDomain(0.1, 1.0)] * 3, [ArmInDomain(0.1, 1.0)] * 5])
def test_what_has_no_correlation_has_a_dash(some: list[ArmInDomain]) -> None:
    assert correlation_text(some) == "–"
