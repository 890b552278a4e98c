"""Operations: the benchmark's count, the usual rule of thumb, and a multiplication counted by hand."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airlab.planning.work import forward_flops, matrix_weights, probing_flops, scoring_flops, training_flops
from airlab.schema.training import TargetModel

SHAPE = TargetModel(
    vocabulary=49152, hidden_size=576, layers=30, heads=9, kv_heads=3, intermediate_size=1536, context=2048,
    tie_embeddings=True,
)  # fmt: skip


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's own count, which measured rates refer to."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    from scorebench.arithmetic import useful_flops

    yield useful_flops
    for name in [name for name in sys.modules if name.split(".")[0] == "scorebench"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("first_masked", [0, 17, 30])
def test_scoring_is_counted_as_the_benchmark_counts_it(counted: Any, first_masked: int) -> None:
    config = SimpleNamespace(
        hidden_size=576, intermediate_size=1536, vocab_size=49152, num_attention_heads=9,
        num_key_value_heads=3, num_hidden_layers=30,
    )  # fmt: skip
    n = 2048
    planned = n * scoring_flops(SHAPE, 49152, n, first_masked)
    last = 2 * 2.0 * 576 * 49152  # nothing is predicted after the last token
    assert planned - last == pytest.approx(counted(config, [n], first_masked), rel=1e-12)


def test_matrices_and_vectors_are_all_parameters() -> None:
    norms = SHAPE.layers * 2 * 576 + 576
    assert SHAPE.layers * matrix_weights(SHAPE) + norms + 49152 * 576 == SHAPE.n_parameters(49152)


def test_training_takes_six_operations_a_parameter_and_token_but_for_attention() -> None:
    short = SHAPE.model_copy(update={"context": 1})
    weights = short.layers * matrix_weights(short) + 49152 * 576
    assert training_flops(short, 49152) == pytest.approx(6 * weights + 12 * 576 * 30)
    assert training_flops(SHAPE, 49152) - training_flops(short, 49152) == 3 * 30 * 4 * 576 * 2047 / 2


def test_probes_need_no_output_projection() -> None:
    assert forward_flops(SHAPE, 49152, 900) - probing_flops(SHAPE, 900) == 2 * 576 * 49152
