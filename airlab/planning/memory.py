"""How much memory training takes, by arithmetic.

Bytes of one process, which has one GPU, of N. ZeRO stage 1 shares out the optimizer, 2 the gradients too, 3
the weights too (Rajbhandari et al. 2020, section 5):

    stage 0   weights + gradients + optimizer
    stage 1   weights + gradients + optimizer / N
    stage 2   weights + (gradients + optimizer) / N
    stage 3   (weights + gradients + optimizer) / N + what is gathered of the weights at a time

The activations' formulas were read off what autograd saves (tests count it again). Peaks measured on an H100
with 124M and 360M parameters (`benchmarks/training.py`) are up to 7 % higher: allocators keep some memory
apart, and the backward pass of a layer has gradients of its own.
"""

import math
from dataclasses import dataclass
from typing import Literal

from airlab.planning.work import matrix_weights
from airlab.schema.training import TargetModel

Stage = Literal[0, 1, 2, 3]
Offload = Literal["none", "optimizer", "all"]
"""As in `airlab.schema.machine`."""

LIVE_PARAMETERS = 1_000_000_000
"""Weights that DeepSpeed keeps gathered at most under stage 3 (`stage3_max_live_parameters`)."""

LOGITS_AT_ONCE = 1 << 26
"""Of the library's forward pass; the others are computed again in the backward pass."""

ROWS_AT_ONCE = 8192
"""Positions whose logits the fused loss holds."""

_BYTES_OF_A_LOGIT = 16
"""Logits, the same in float32, their logarithmic softmax, and the gradient."""


@dataclass(frozen=True)
class BytesPerParameter:
    """What training holds of every parameter, in bytes, before anything is shared out.

    Attributes:
        weights: as the model computes with them.
        gradients: of those weights, with every copy that is made of them.
        optimizer: Adam's two moments, and the optimizer's own copy of the weights where it keeps one.
    """

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimizer


PLAIN = BytesPerParameter(weights=4, gradients=4, optimizer=8)
"""airlab without sharding: float32 throughout, whatever the precision of the matrix products."""

SHARDED = BytesPerParameter(weights=4, gradients=4, optimizer=12)
"""airlab under ZeRO 1, 2 and 3: DeepSpeed keeps a float32 copy of its part of the weights."""


def bytes_per_parameter(stage: Stage | None) -> BytesPerParameter:
    """What airlab's training holds; None trains without DeepSpeed."""
    return SHARDED if stage else PLAIN


@dataclass(frozen=True)
class ModelStates:
    """Bytes of weights, gradients and optimizer, on a GPU and in its host's memory."""

    gpu: float
    host: float


def model_states(
    parameters: int,
    each: BytesPerParameter,
    *,
    stage: Stage,
    processes: int,
    processes_per_host: int = 1,
    offload: Offload = "none",
    gathered: int = 0,
) -> ModelStates:
    """Weights, gradients and optimizer (the formulas at the top).

    Offloading moves the optimizer, and the gradients it reads, to the host; under stage 3 also the weights
    if asked for. What is moved is shared out over processes exactly as it was.

    Args:
        gathered: parameters that are whole on every GPU at a time, stage 3 only.
    """
    over = [processes if stage >= least else 1 for least in (3, 2, 1)]
    weights, gradients, optimizer = (
        parameters * bytes_each / n
        for bytes_each, n in zip((each.weights, each.gradients, each.optimizer), over, strict=True)
    )
    gpu, moved = weights + gradients + optimizer, 0.0
    if offload != "none":
        moved = gradients + optimizer
    if offload == "all" and stage == 3:
        moved += weights
    whole = each.weights * gathered if stage == 3 else 0.0
    return ModelStates(gpu=gpu - moved + whole, host=moved * processes_per_host)


def activation_bytes(shape: TargetModel, *, bfloat16: bool, fused: bool = False) -> float:
    """What the backward pass needs of one token in one layer, of packed documents.

    With hidden size h, inner size f, H heads, key/value width k and context n:

        library, float32                40 h + 16 f + 4 n + 4 H + 8
        library, bfloat16 (autocast)    34 h +  8 f + 2 n + 4 H + 8
        fused, bfloat16                 14 h +  6 f + 6 k + 4 H + 8

    The library needs a mask for packed documents, whose n columns every layer keeps; with a mask the keys and
    values are repeated for every query head. Its residual stream and norms are float32.

    Args:
        fused: as `airlab.training.gpu_target` computes it.
    """
    h, f, rest = shape.hidden_size, shape.intermediate_size, 4 * shape.heads + 8
    if fused:
        return 14 * h + 6 * f + 6 * (h // shape.heads * shape.kv_heads) + rest
    if bfloat16:
        return 34 * h + 8 * f + 2 * shape.context + rest
    return 40 * h + 16 * f + 4 * shape.context + rest


def _loss_bytes(shape: TargetModel, vocabulary: int, tokens: int, *, fused: bool) -> float:
    """Of the logits that exist together, and of what is made of them."""
    if not fused:
        return float(_BYTES_OF_A_LOGIT * vocabulary * min(tokens, max(1, LOGITS_AT_ONCE // vocabulary)))
    # The projection in bfloat16, its gradient, and one part's share of that; the states' gradient.
    gradients = (2 + 4 + 2) * vocabulary * shape.hidden_size + 2 * tokens * shape.hidden_size
    return float(2 * vocabulary * min(tokens, ROWS_AT_ONCE) + gradients)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes while a target is trained, on one GPU but for the last.

    Attributes:
        states: weights, gradients, optimizer.
        casts: bfloat16 copies of all layers' matrices, which the backward pass needs.
        activations: of one micro-batch.
        logits: of one part of it, and the gradients that are made of them.
        checkpoint: the largest weight, whole, as every process has one after another for a checkpoint.
        host: in the memory of one host, of what is offloaded.
    """

    states: float
    casts: float
    activations: float
    logits: float
    checkpoint: float
    host: float

    @property
    def step(self) -> float:
        """While an update is computed."""
        return self.states + self.casts + self.activations + self.logits

    @property
    def saving(self) -> float:
        """While a checkpoint is gathered."""
        return self.states + self.checkpoint

    @property
    def peak(self) -> float:
        """The larger of the two."""
        return max(self.step, self.saving)


def training_memory(
    shape: TargetModel,
    vocabulary: int,
    *,
    sequences: int,
    stage: Stage | None,
    processes: int,
    bfloat16: bool,
    recompute: bool = False,
    processes_per_host: int = 1,
    offload: Offload = "none",
) -> TrainingMemory:
    """What one GPU holds while it trains a target on packed documents.

    Args:
        sequences: of one micro-batch.
        stage: ZeRO's; None without DeepSpeed.
        recompute: every layer is computed again in the backward pass: only its input is kept.
    """
    parameters = shape.n_parameters(vocabulary)
    tokens = sequences * shape.context
    fused = bfloat16 and stage != 3
    each_layer = tokens * activation_bytes(shape, bfloat16=bfloat16, fused=fused)
    casts = 2.0 * shape.layers * matrix_weights(shape) * bfloat16
    activations = shape.layers * each_layer
    if recompute:
        activations = each_layer + shape.layers * tokens * 4 * shape.hidden_size
        casts /= shape.layers
    states = model_states(
        parameters,
        bytes_per_parameter(stage),
        stage=stage or 0,
        processes=processes,
        processes_per_host=processes_per_host,
        offload=offload,
        gathered=min(parameters, LIVE_PARAMETERS),
    )
    return TrainingMemory(
        states=states.gpu,
        casts=casts,
        activations=activations,
        logits=_loss_bytes(shape, vocabulary, tokens, fused=fused),
        checkpoint=4.0 * shape.hidden_size * max(vocabulary, shape.intermediate_size) if stage else 0.0,
        host=states.host,
    )


def gibibytes(size: float) -> float:
    """Bytes as GiB."""
    return size / math.pow(2, 30)
