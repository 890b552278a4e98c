"""`airlab plan` at the paper's scale and on GPUs: what it counts, what it assumes, what it refuses."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from airlab.cli.experiment import ONLY_PLANNED
from airlab.cli.plan import PlanCommand
from tests.unit.cli.conftest import Airlab

PAPER = ("experiment=attention_influence/main", "scale=paper")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def row(out: str, begins: str) -> list[str]:
    """The cells of the first row of a table that begins so."""
    line = next(line for line in out.splitlines() if line.startswith(f"│ {begins}"))
    return [cell.strip() for cell in line.strip("│").split("│")]


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


def test_the_papers_scale_is_planned_with_what_the_paper_names(airlab: Airlab, tmp_path: Path) -> None:
    answer = airlab("plan", *PAPER)
    assert answer.code == 0, answer.err
    assert "On 256 GPUs (32 hosts of 8), NVIDIA H100" in answer.out and "ZeRO stage 3" in answer.out
    name, stages, tokens, flops, hours, wall, *_ = row(answer.out, "training, ")
    assert (name, stages, tokens) == ("training, 6.98B parameters", "7", "7T")
    assert 6 * 7 * 6.98e21 < float(flops) < 1.2 * 6 * 7 * 6.98e21
    assert number(hours) == pytest.approx(float(flops) / (0.4 * 989e12) / 3600, rel=0.01)
    assert number(wall) == pytest.approx(number(hours) / 256, rel=0.01)
    name, stages, tokens, flops, hours, *_ = row(answer.out, "scoring, ")
    assert (name, stages, tokens) == ("scoring, 1.55B parameters", "1", "241B")
    assert number(hours) == pytest.approx(float(flops) / 536.3e12 / 3600, rel=0.01)
    assert "\n39 stages, 39 to run, 0 not\n" in answer.out
    assert not (tmp_path / "store").exists()


def test_assumed_rates_are_told_from_measured_ones(airlab: Airlab) -> None:
    out = airlab("plan", *PAPER).out
    assert re.search(r"^training, .*: assumed, never measured: 40% MFU", out, re.M)
    assert re.search(r"^scoring, .*: measured \(scoring-h100.json, model 1.3b", out, re.M)
    slow = airlab("plan", *PAPER, "planning.training_mfu=0.2").out
    assert number(row(slow, "training, ")[4]) == pytest.approx(
        2 * number(row(out, "training, ")[4]), rel=0.01
    )


def test_memory_is_shown_for_every_zero_stage_and_the_machines_own_is_marked(airlab: Airlab) -> None:
    out = airlab("plan", *PAPER).out
    states = [number(row(out, name)[1]) for name in ("no ZeRO", "ZeRO 1", "ZeRO 2", "ZeRO 3")]
    assert states == sorted(states, reverse=True)
    assert row(out, "ZeRO 3")[0] == "ZeRO 3 (this machine)"
    assert row(out, "training, ")[6] == row(out, "ZeRO 3")[3]
    assert "of the peaks that an H100 showed" in out


def test_what_recomputing_and_offloading_save_is_what_a_machine_with_them_takes(airlab: Airlab) -> None:
    out = airlab("plan", *PAPER, "machine.recompute=false").out
    update, recomputed, offloaded, host = map(number, row(out, "ZeRO 3")[3:7])
    assert update > recomputed > offloaded and host > 0 and row(out, "ZeRO 3")[7] == "no"
    again = airlab("plan", *PAPER).out
    assert number(row(again, "ZeRO 3")[3]) == recomputed and row(again, "ZeRO 3")[7] == "yes"
    chosen = airlab("plan", *PAPER, "machine.offload=all").out
    assert number(row(chosen, "ZeRO 3")[3]) == number(row(chosen, "training, ")[6]) == offloaded


def test_a_plan_counts_the_machines_hosts_unless_others_are_planned_with(airlab: Airlab) -> None:
    two = airlab("plan", "scale=h100", "machine=slurm-2x8").out
    assert "On 16 GPUs (2 hosts of 8)" in two and "Planned with" not in two
    other = airlab("plan", "scale=h100", "machine=slurm-2x8", "planning.hosts=4").out
    assert "On 32 GPUs (4 hosts of 8)" in other and "a run trains on machine.hosts=2" in other


def test_there_is_no_price_unless_one_is_given(airlab: Airlab) -> None:
    free, priced = airlab("plan", *PAPER).out, airlab("plan", *PAPER, "price=2").out
    assert "cost" not in free.replace("adds what it costs", "")
    assert number(row(priced, "all")[-1]) == pytest.approx(2 * number(row(priced, "all")[4]), rel=1e-4)


def test_hours_are_answered_with_what_fits(airlab: Airlab) -> None:
    out = airlab("plan", *PAPER, "gpu_hours=20000").out
    assert "what fits into 20,000 GPU-hours" in out
    for rule in ("all targets, fewer tokens", "one seed of 3 arms", "all targets, smaller ones"):
        assert number(row(out, rule)[-1]) <= 20_000


def test_a_small_scale_takes_its_tokens_from_the_pool(airlab: Airlab) -> None:
    out = airlab("plan", "scale=smoke", "machine=gpu1").out
    assert row(out, "corpus")[2] == "15.7k"  # 66,000 bytes
    assert row(out, "training, ")[2] == "229k"
    assert "ZeRO" in out and "(this machine)" in row(out, "no ZeRO")[0]


def test_models_that_are_trained_further_are_counted_with_their_own_shape(airlab: Airlab) -> None:
    continued = ("experiment=attention_influence/continued", "scale=h100", "machine=gpu1")
    out = airlab("plan", *continued).out
    name, stages, tokens, flops, hours, *_ = row(out, "training, ")
    assert (name, stages, tokens) == ("training, 135M parameters", "33", "692M")
    assert 6 * 134.5e6 * 692e6 < float(flops) < 1.2 * 6 * 134.5e6 * 692e6
    assert number(hours) == pytest.approx(float(flops) / 422e12 / 3600, rel=0.4)  # whichever size is nearest
    assert row(out, "evaluation")[1] == "34", "the model as it came is evaluated too"
    fit = airlab("plan", *continued, "gpu_hours=3").out
    assert "33 of 33 targets" in fit


def test_what_cannot_be_counted_is_named_and_in_no_sum(airlab: Airlab) -> None:
    out = airlab("plan", "experiment=attention_influence/heads", "scale=smoke", "machine=gpu1").out
    assert re.search(r"^Not counted, and in no sum: .*map_heads", out, re.M)
    assert row(out, "not counted")[3] == "unknown"


def test_a_hub_corpus_of_unknown_size_is_unknown(airlab: Airlab) -> None:
    hub = ("scale=paper", "machine=gpu1", "planning.corpus_tokens=null")
    assert row(airlab("plan", *hub).out, "scoring, ")[3:5] == ["unknown", "unknown"]
    answer = airlab("plan", *hub, "gpu_hours=9")
    assert answer.code == 2 and "give planning.corpus_tokens=NUMBER" in answer.sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("gpu_hours=5",), "choose a machine that has some, machine=gpu1"),
        (("machine=gpu1", "gpu_hours=-5"), "gpu_hours=-5 is not possible"),
        (("machine=gpu1", "gpu_hours=1e-9"), "are not enough"),
        (("machine=gpu1", "planning.training_mfu=1.5"), "planning.training_mfu=1.5 is not possible"),
        (("machine=gpu1", "planning.training_mfi=1"), "there is no setting 'planning.training_mfi'"),
        (("experiment=heads", "machine=gpu1", "gpu_hours=5"), "this experiment trains no targets"),
    ],
)
def test_mistakes_are_one_sentence(airlab: Airlab, arguments: tuple[str, ...], sentence: str) -> None:
    answer = airlab("plan", "scale=smoke", *arguments)
    assert answer.code == 2 and sentence in answer.sentence


@pytest.mark.parametrize("verb", ["run", "table"])
def test_what_only_a_plan_knows_is_no_setting_of_other_commands(airlab: Airlab, verb: str) -> None:
    answer = airlab(verb, "scale=smoke", "gpu_hours=5")
    assert answer.code == 2 and "gpu_hours" in answer.sentence


def test_the_settings_of_a_plan_are_those_that_an_experiment_is_not_told() -> None:
    assert set(PlanCommand.model_fields) == set(ONLY_PLANNED)
    file = Path(__file__).parents[3] / "configs" / "plan.yaml"
    assert set(yaml.safe_load(file.read_text())) - {"defaults"} == set(ONLY_PLANNED)


def test_planning_imports_neither_torch_nor_what_needs_a_hub(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from airlab.cli.main import dispatch\n"
        "assert dispatch(['plan', 'scale=paper', 'gpu_hours=20000']) == 0\n"
        "heavy = {'torch', 'transformers', 'deepspeed', 'lm_eval', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3],
        env={"AIRLAB_STORE": str(tmp_path), "PATH": "", "HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
