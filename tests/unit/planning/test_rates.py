"""Rates: read from the committed benchmark, and called assumed where nothing was measured."""

import json
from pathlib import Path

import pytest

from airlab.cli.plan import RATES, TRAINING_RATES, rates_file
from airlab.errors import UserError
from airlab.planning.rates import Measured, read_measured


def committed() -> Measured:
    return read_measured(rates_file(RATES), rates_file(TRAINING_RATES))


def test_the_committed_rates_are_those_of_the_benchmark() -> None:
    measured = committed()
    said = json.loads(rates_file(RATES).read_text())["sections"]["engine-1.3b"]["facts"]
    subject = measured.nearest(4e9)
    assert subject.name == "1.3b" and measured.nearest(5e8).name == "135m"
    rate = measured.scoring(4e9, bfloat16=True)
    assert rate.measured and "measured" in rate.told and "H100" in rate.told
    assert rate.flops_per_s == said["flops_per_token"] * said["rows"]["airlab"]["tokens_per_second"]
    share = said["rows"]["airlab"]["share_of_bound"]
    assert rate.flops_per_s == pytest.approx(share * said["bound_flops"])


def test_a_planned_pass_takes_the_memory_that_was_measured() -> None:
    """Weights of 1.34B parameters and the tokens of a pass give the peak that was seen."""
    subject = committed().nearest(4e9)
    peak = 2 * 1.34e9 + 65536 * subject.bytes_per_token
    assert peak / 2**30 == pytest.approx(6.6, rel=0.05)


def test_what_was_not_measured_is_called_assumed_and_states_its_mfu() -> None:
    measured = committed()
    rate = measured.assumed(0.4, 989, bfloat16=True)
    assert not rate.measured and rate.told.startswith("assumed, never measured: 40% MFU")
    assert rate.flops_per_s == 0.4 * 989e12
    slow = measured.scoring(4e9, bfloat16=False)
    assert not slow.measured and slow.told.startswith("assumed")
    assert slow.flops_per_s / measured.scoring(4e9, bfloat16=True).flops_per_s == pytest.approx(
        50.76 / 691.8, rel=1e-3
    )


@pytest.mark.parametrize("content", [None, "{}", '{"sections": {"bound": {}}}', "not json"])
def test_unreadable_rates_are_one_sentence(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "rates.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"measured rates in .*rates\.json or .* cannot be read"):
        read_measured(path, rates_file(TRAINING_RATES))
    with pytest.raises(UserError, match=r"or .*rates\.json cannot be read"):
        read_measured(rates_file(RATES), path)


def test_training_is_measured_near_the_targets_that_were_timed_and_nowhere_else() -> None:
    row = json.loads(rates_file(TRAINING_RATES).read_text())["sections"]["124m"]["rows"][0]
    rate = committed().training(row["flops_per_token"]["causal"])
    assert rate is not None and rate.measured and "target 124m on one NVIDIA H100" in rate.told
    assert rate.flops_per_s == row["flops_per_token"]["causal"] * row["tokens_per_second"]
    assert committed().training(4e10) is None and committed().training(1e8) is None


def test_every_size_that_was_timed_by_itself_counts(tmp_path: Path) -> None:
    timed = json.loads(rates_file(TRAINING_RATES).read_text())
    timed["sections"]["31m"] = json.loads(json.dumps(timed["sections"]["124m"]))
    row = timed["sections"]["31m"]["rows"][0]
    row["contender"]["shape"] = "31m"
    row["flops_per_token"]["causal"] /= 4
    path = tmp_path / "training.json"
    path.write_text(json.dumps(timed))
    measured = read_measured(rates_file(RATES), path)
    rate = measured.training(row["flops_per_token"]["causal"] * 0.9)
    assert rate is not None and "target 31m" in rate.told
    assert {"two-gpus", "fidelity"} < set(timed["sections"])
    assert {target.name for target in measured.targets} == {"31m", "124m", "360m"}
    del timed["sections"]["31m"], timed["sections"]["124m"], timed["sections"]["360m"]
    path.write_text(json.dumps(timed))
    with pytest.raises(UserError, match="cannot be read"):
        read_measured(rates_file(RATES), path)
