"""Models kept during training: the last is what Pretrain makes, and any stage can use any of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.selection.mixture import Mixture
from airlab.stages.pretrain_trajectory import ListMoments, PretrainTrajectory, TakeMoment, read_moments
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.training.packing import PackedSequences
from airlab.training.pretrain import exported_updates
from tests.unit.training.test_training_stages import arms

MACHINE = Machine(sequences_per_micro_batch=4)


def trajectory(halvings: int = 3) -> PretrainTrajectory:
    arm = arms()[0]
    return PretrainTrajectory(arm.mixture, arm.tokenizer, arm.model, arm.training, arm.seed, halvings)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("store"))
    kept = trajectory()
    Plan(made, [arms()[0], *(TakeMoment(kept, number) for number in range(kept.n_moments))]).run(MACHINE)
    return made


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in ("record.json", "curves.jsonl")
    }


def test_the_last_model_is_pretrains_checkpoint_bit_for_bit(store: Store) -> None:
    kept, arm = trajectory(), arms()[0]
    last = store.folder(kept) / read_moments(store.folder(kept))[-1].export
    assert bytes_of(last) == bytes_of(store.folder(arm))
    assert "model.safetensors" in bytes_of(last) and "tokenizer.json" in bytes_of(last)
    assert (store.folder(kept) / "curves.jsonl").read_bytes() == (
        store.folder(arm) / "curves.jsonl"
    ).read_bytes()
    assert not list(store.folder(kept).rglob("*.partial")) + list(store.folder(kept).glob("resume*"))


def test_tokens_double_from_the_untrained_model_to_the_last(store: Store) -> None:
    moments = read_moments(store.folder(trajectory()))
    assert [moment.updates for moment in moments] == [0, 5, 10, 20, 40]
    assert [moment.tokens for moment in moments] == [32 * 4 * n for n in (0, 5, 10, 20, 40)]
    assert moments[-1].loss < moments[0].loss


@pytest.mark.parametrize(
    ("n_steps", "halvings", "updates"),
    [(144, 4, (0, 9, 18, 36, 72, 144)), (9, 3, (0, 1, 2, 4, 9)), (1, 0, (0, 1)), (7, 0, (0, 7))],
)
def test_moments_are_halves_of_the_whole_and_different(
    n_steps: int, halvings: int, updates: tuple[int, ...]
) -> None:
    assert exported_updates(n_steps, halvings) == updates
    assert len(set(updates)) == len(updates)


def test_every_moment_is_the_model_that_the_curve_goes_on_from(store: Store) -> None:
    """The next batch's loss in the curve is that of the kept weights, so none is kept a step off."""
    kept = trajectory()
    folder = store.folder(kept)
    curve = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    packed = PackedSequences(Mixture.open(store.folder(kept.mixture)))
    for number, moment in enumerate(read_moments(folder)[:-1]):
        model = AutoModelForCausalLM.from_pretrained(store.folder(TakeMoment(kept, number)))
        batch = packed.batch(np.arange(4) + 4 * moment.updates)
        with torch.no_grad():
            logits = model(batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()).item()
        assert loss == pytest.approx(curve[moment.updates]["loss"], rel=1e-5), moment


def test_a_taken_moment_is_a_whole_model_folder(store: Store) -> None:
    kept = trajectory()
    for number, moment in enumerate(read_moments(store.folder(kept))):
        assert bytes_of(store.folder(TakeMoment(kept, number))) == bytes_of(
            store.folder(kept) / moment.export
        )


def test_the_list_says_the_same_and_outlives_the_models(store: Store) -> None:
    kept = trajectory()
    Plan(store, [ListMoments(kept)]).run(MACHINE)
    listed = store.folder(ListMoments(kept))
    assert read_moments(listed) == read_moments(store.folder(kept))
    assert not list(listed.rglob("*.safetensors"))


def test_too_few_updates_are_refused_before_training(store: Store) -> None:
    with pytest.raises(UserError, match="40 updates cannot be halved 6 times"):
        Plan(store, [trajectory(halvings=6)]).run(MACHINE)
    assert not list(store.part(trajectory(halvings=6)).glob("curves*"))
