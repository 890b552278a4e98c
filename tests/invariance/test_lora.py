"""With LoRA nothing but adapters is trained, on any machine, and the exported model has them in it."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from airlab.schema.fine_tuning import FineTuning, Lora
from airlab.schema.machine import Machine
from airlab.training import loop
from airlab.training.fine_tune import TuningJob, fine_tune
from airlab.training.launch import launch
from airlab.training.unfinished import RESUME
from tests.unit.training.made_training import MadeScores, built, model_folder, training

BATCH = 8
RECIPE = FineTuning(epochs=2, batch_sequences=BATCH, learning_rate=1e-2, lora=Lora(rank=4, alpha=8))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    model = model_folder(folder / "model")
    (folder / "data").symlink_to(built(training(model, MadeScores(uniform=False)), folder / "store"))
    facts = fine_tune(a_job(folder, "whole", Machine(sequences_per_micro_batch=BATCH)))
    (folder / "facts.json").write_text(json.dumps(facts))
    return folder


def a_job(root: Path, name: str, machine: Machine) -> TuningJob:
    (root / name).mkdir()
    return TuningJob(
        model=root / "model",
        data=root / "data",
        output=root / name,
        recipe=RECIPE,
        seed=0,
        machine=machine,
        checkpoint_every_s=0.0,
    )


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "curves.jsonl").read_text().splitlines()]


def test_only_linear_maps_change_and_by_the_adapters_rank(root: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (root / "model", root / "whole"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj" in name}
    for name in changed:
        delta = (after[name] - before[name]).double()
        singular = torch.linalg.svdvals(delta)
        assert singular[4] < 1e-4 * singular[0], name
    assert losses(root / "whole")[-1] < 0.9 * losses(root / "whole")[0], "nothing was learned"


def test_the_facts_say_what_was_trained(root: Path) -> None:
    facts = json.loads((root / "facts.json").read_text())
    adapter = load_file(root / "whole" / "adapter" / "adapter_model.safetensors")
    whole = load_file(root / "model" / "model.safetensors")
    assert facts["n_trained_parameters"] == sum(weight.numel() for weight in adapter.values())
    assert facts["n_parameters"] - facts["n_trained_parameters"] == sum(w.numel() for w in whole.values())


def test_the_adapter_over_the_model_is_the_exported_model(root: Path) -> None:
    ids = torch.arange(2, 40)[None]
    base = AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(root / "whole", dtype=torch.float32)
    with torch.no_grad():
        plain = base(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(base, root / "whole" / "adapter")(input_ids=ids).logits
        exported = merged(input_ids=ids).logits
    torch.testing.assert_close(adapted, exported, rtol=1e-4, atol=1e-4)
    assert float((adapted - plain).abs().max()) > 0.1
    settings = (root / "whole" / "adapter" / "adapter_config.json").read_text()
    assert str(root) not in settings


def test_interrupted_adapters_go_on_bit_for_bit_and_checkpoints_hold_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job(root, "interrupted", Machine(sequences_per_micro_batch=BATCH))
    write = loop.write_checkpoint

    def write_and_stop(folder: Path, n_steps_done: int, *what: Any) -> None:
        write(folder, n_steps_done, *what)
        if n_steps_done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", write_and_stop)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(job)
    with safe_open(next((job.output / RESUME).glob("*.safetensors")), framework="np") as file:
        held = [name for name in file.keys() if name.startswith("weight/")]  # noqa: SIM118 (not a mapping)
    assert held and all("lora_" in name for name in held)
    assert fine_tune(job)["resumed_at_step"] == 2
    for name in ("model.safetensors", "curves.jsonl", "adapter/adapter_model.safetensors"):
        assert (job.output / name).read_bytes() == (root / "whole" / name).read_bytes(), name


def test_two_processes_with_sharded_weights_train_like_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    job = a_job(root, "sharded", Machine(sequences_per_micro_batch=4, processes=2, deepspeed_stage=3))
    facts = launch(job)
    assert facts == json.loads((root / "facts.json").read_text())
    np.testing.assert_allclose(losses(job.output), losses(root / "whole"), rtol=1e-4)
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        one, two = (load_file(folder / name) for folder in (root / "whole", job.output))
        assert one.keys() == two.keys()
        for weight in one:
            torch.testing.assert_close(one[weight], two[weight], rtol=1e-2, atol=1e-3)
