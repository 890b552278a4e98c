"""Text that a model writes: transformers' own, whatever stands beside it in the batch."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from airlab.errors import UserError
from airlab.models.generate import NAME, Choose, Written, generate, load_writer, sampled
from tests.conftest import FAMILIES, VOCABULARY, random_model
from tests.unit.cli.model_folders import random_folder

ENDS = frozenset({2, 5, 6, 7})
MOST = 10
LENGTHS = (5, 17, 3, 30, 9, 12, 5)
KINDS = ("llama", "llama-multi-head", "gpt2", "mistral-sliding", "gemma3-two-ropes", "deepseek-v2")
"""With grouped heads and without, learned positions, windows, latent keys."""


def prompts() -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(8, VOCABULARY, length).tolist() for length in LENGTHS]


def writer(family: str) -> Any:
    model = random_model(*FAMILIES[family])
    model.set_attn_implementation("sdpa")
    return model


def written(model: Any, batch_size: int, choose: Choose | None = None) -> list[Written]:
    return generate(model, prompts(), ends=ENDS, max_new_tokens=MOST, batch_size=batch_size, choose=choose)


def by_transformers(model: Any, prompt: list[int]) -> Written:
    ids = model.generate(
        torch.tensor([prompt]),
        max_new_tokens=MOST,
        do_sample=False,
        eos_token_id=sorted(ENDS),
        pad_token_id=0,
    )[0, len(prompt) :].tolist()
    ended = ids[-1] in ENDS
    return Written(ids[:-1] if ended else ids, ended)


@pytest.mark.parametrize("family", KINDS)
def test_greedy_answers_are_those_of_transformers_one_prompt_at_a_time(family: str) -> None:
    model = writer(family)
    expected = [by_transformers(model, prompt) for prompt in prompts()]
    for batch_size in (1, 4, 7):
        assert written(model, batch_size) == expected
    assert model.config._attn_implementation == "sdpa"


def test_answers_end_at_different_times_and_by_different_causes() -> None:
    """Otherwise the tests above say nothing about rows that leave the batch."""
    found = written(writer("llama"), 7)
    assert {answer.ended for answer in found} == {True, False}
    assert len({len(answer.ids) for answer in found if answer.ended}) >= 3
    assert all(len(answer.ids) == MOST for answer in found if not answer.ended)
    assert not ENDS & {token for answer in found for token in answer.ids}


def watched(monkeypatch: pytest.MonkeyPatch, model: Any, tell: Callable[[torch.Tensor], Any]) -> list[Any]:
    """What is told of the input ids of every call of the model."""
    told: list[Any] = []
    forward = model.forward

    def watching(*args: Any, **settings: Any) -> Any:
        told.append(tell(settings["input_ids"]))
        return forward(*args, **settings)

    monkeypatch.setattr(model, "forward", watching)
    return told


def test_rows_that_have_ended_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = writer("llama")
    rows = watched(monkeypatch, model, len)
    answers = written(model, 7)
    assert rows[0] == 7 and rows == sorted(rows, reverse=True)
    assert rows[-1] == sum(not answer.ended for answer in answers)


def test_attention_of_one_query_is_computed_by_ours_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    model = writer("llama")
    seen = watched(monkeypatch, model, lambda _: model.config._attn_implementation)
    written(model, 7)
    assert set(seen) == {NAME}
    model.set_attn_implementation("eager")  # a model's own way is left alone
    seen.clear()
    written(model, 7)
    assert set(seen) == {"eager"}


def draws(model: Any, batch_size: int, seed: int = 0) -> list[Written]:
    randomness = [np.random.default_rng([seed, number]) for number in range(len(LENGTHS))]
    return written(model, batch_size, sampled(randomness, 1.5, 0.9))


def test_what_is_drawn_does_not_depend_on_the_batch() -> None:
    model = writer("llama")
    one = draws(model, 1)
    assert draws(model, 3) == draws(model, 7) == one
    assert one != draws(model, 1, seed=1) and one != written(model, 1)


LOGITS = np.log(np.array([0.05, 0.5, 0.15, 0.3], dtype=np.float32)) + 3


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, {0: 0.05, 1: 0.5, 2: 0.15, 3: 0.3}),
        (1.0, 0.6, {1: 0.625, 3: 0.375}),
        (1.0, 0.01, {1: 1.0}),
        (0.5, 1.0, {0: 0.0025 / 0.365, 1: 0.25 / 0.365, 2: 0.0225 / 0.365, 3: 0.09 / 0.365}),
    ],
)
def test_tokens_are_drawn_by_their_probability(
    temperature: float, top_p: float, expected: dict[int, float]
) -> None:
    choose = sampled([np.random.default_rng(0)], temperature, top_p)
    counts = Counter(choose(0, LOGITS) for _ in range(4000))
    assert set(counts) == set(expected)
    for token, share in expected.items():
        assert counts[token] / 4000 == pytest.approx(
            share, abs=4 * np.sqrt(share * (1 - share) / 4000) + 1e-9
        )


def test_a_writer_whose_weights_are_not_all_there_is_refused(tmp_path: Path) -> None:
    folder = random_folder(tmp_path / "model")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 3', '"num_hidden_layers": 4'))
    with pytest.raises(UserError, match=r"its files lack model\.layers\.3"):
        load_writer(folder, device="cpu", dtype=torch.float32)
