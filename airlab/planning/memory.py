"""How much memory training takes, by arithmetic.

Bytes of one process, which has one GPU, of N. ZeRO stage 1 shares out the optimizer, 2 the gradients too, 3
the weights too (Rajbhandari et al. 2020, section 5):

    stage 0   weights + gradients + optimizer
    stage 1   weights + gradients + optimizer / N
    stage 2   weights + (gradients + optimizer) / N
    stage 3   (weights + gradients + optimizer) / N + what is gathered of the weights at a time

The activations' formula was read off what autograd saves (a test counts it again); peaks on a GPU, with its
allocator and its kernels' workspaces, have not been compared with any of this yet.
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
"""As in training, which computes the others' logits again in the backward pass."""

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


def activation_bytes(shape: TargetModel, *, bfloat16: bool, packed: bool = True) -> float:
    """What the backward pass needs of one token in one layer.

    With hidden size h, inner size f, H heads, key/value width k and context n:

                                     float32                        bfloat16 (autocast)
        packed documents     40 h + 16 f + 4 n + 4 H + 8     34 h + 8 f + 2 n + 4 H + 8
        one document         32 h + 8 k + 16 f + 4 H + 8     30 h + 4 k + 8 f + 4 H + 8

    The residual stream and the norms are float32 in both. Packed documents need a mask, whose n columns
    every layer keeps, and with a mask the keys and values are repeated for every query head.
    """
    h, f = shape.hidden_size, shape.intermediate_size
    bits16 = 2 if bfloat16 else 4
    if packed:
        attention = (34 if bfloat16 else 40) * h + bits16 * shape.context
    else:
        kv_width = h // shape.heads * shape.kv_heads
        attention = (30 if bfloat16 else 32) * h + 2 * bits16 * kv_width
    return attention + 4 * bits16 * f + 4 * shape.heads + 8


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes while a target is trained, on one GPU but for the last.

    Attributes:
        states: weights, gradients, optimizer.
        casts: bfloat16 copies of all layers' matrices, which the backward pass needs.
        activations: of one micro-batch.
        logits: of one part of it.
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
    each_layer = tokens * activation_bytes(shape, bfloat16=bfloat16)
    casts = 2.0 * (shape.layers * matrix_weights(shape) + vocabulary * shape.hidden_size) * bfloat16
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
    rows = min(tokens, max(1, LOGITS_AT_ONCE // vocabulary))
    return TrainingMemory(
        states=states.gpu,
        casts=casts,
        activations=activations,
        logits=float(_BYTES_OF_A_LOGIT * rows * vocabulary),
        checkpoint=4.0 * shape.hidden_size * max(vocabulary, shape.intermediate_size) if stage else 0.0,
        host=states.host,
    )


def gibibytes(size: float) -> float:
    """Bytes as GiB."""
    return size / math.pow(2, 30)
