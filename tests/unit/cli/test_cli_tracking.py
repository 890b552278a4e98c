"""A tracker that is not there is said before any work is done."""

import pytest

from airlab.training import tracking
from tests.unit.cli.conftest import Refused


def test_a_run_with_a_tracker_that_is_not_installed_is_refused_before_its_first_stage(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_is_installed", lambda _: False)
    assert refused("run", "scale=smoke", "machine.trackers=[wandb]", "results=own") == (
        "airlab run: machine.trackers names wandb, which is not installed: pip install wandb, or leave it "
        "out."
    )
