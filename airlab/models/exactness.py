"""Whether the packed pass is exact for a model, found by measuring the model itself.

No list of families: every property that packing and masking rely on is compared with what
transformers computes by its own attention, on a few dozen tokens, before anything is scored.
What each step would catch:

- layer by layer, in float32: soft-capped logits, sinks, biases, another scale, another layout of
  heads, layers outside the attention interface, masks that are not causal;
- masks asked for positions as far apart as the context: windows and chunks that a short sequence
  does not reach;
- gradients across documents: convolutions, recurrences and whatever else mixes neighbours. They
  are exactly zero without a leak, so no tolerance blurs this one;
- positions at the end of the context in another document: frequencies that follow the longest
  document of a batch;
- logits against the output projection: scaled, capped or shifted logits;
- the packed two-row pass against each sequence alone: positions that do not restart, and states
  that the doubling of rows misses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from airlab.errors import UserError
from airlab.models import attention
from airlab.models.device import to_device
from airlab.models.load import CausalLM
from airlab.models.packed import Reference, hidden_states, positions_of

_LENGTHS = (7, 1, 21, 11)
"""Tokens of the packed sequences: ragged, one of a single token, one longer than a tiny window."""

_PROBED = 2
"""The sequence whose gradients are looked at; it has neighbours on both sides."""

_LAYER_TOLERANCE = 1e-3
"""Relative error of one attention call in float32. Rounding gives about 1e-6; this leaves room for
kernels that multiply in TensorFloat32, whatever the type of the weights."""

_TOLERANCE = {torch.float32: 2e-3, torch.float16: 5e-2, torch.bfloat16: 2e-1}
"""Error of the median token's last hidden state, relative to how much states differ between tokens.
Between two correct bfloat16 passes it is 0.01 to 0.05 with random weights that make rounding worse
than training does, and the median does not see single tokens that a router sends to another expert.
Positions or heads gone wrong give 0.5 or more; everything subtler is found in float32 or exactly."""

_FARTHEST = 1 << 20
"""Masks are compared up to this distance."""

_HARMLESS = ("position_ids", "cache_position")
"""Tensors that models hand through to attention functions, which have no use for them."""

_WITNESS = "airlab_witness"


@dataclass
class _Call:
    """One layer's attention, as the model asked for it."""

    module: torch.nn.Module
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    settings: dict[str, Any]

    @property
    def layer(self) -> int:
        return int(self.module.layer_idx)  # type: ignore[arg-type]


@dataclass
class _Record:
    """What a pass under the witness saw, and the heads it makes uniform (layer → heads)."""

    uniform: dict[int, torch.Tensor] = field(default_factory=dict)
    calls: list[_Call] = field(default_factory=list)
    masks: list[tuple[torch.Tensor, Callable[..., torch.Tensor]]] = field(default_factory=list)


_RECORD: ContextVar[_Record | None] = ContextVar("airlab_witness_record", default=None)


def _own_attention(module: torch.nn.Module) -> Callable[..., tuple[torch.Tensor, Any]]:
    """The plain attention function that a model's own source file defines."""
    return type(module).forward.__globals__["eager_attention_forward"]


def _visible(mask: torch.Tensor) -> torch.Tensor:
    """Where an additive mask lets a query look, whatever it adds there."""
    return mask > torch.finfo(mask.dtype).min / 2


def _uniform(call: _Call) -> torch.Tensor:
    """The mean of the values that each token can see, for every head: [B, T, H, D]."""
    if call.mask is None:
        raise UserError("they run attention without a mask")
    visible = _visible(call.mask).to(call.value.dtype)
    groups = call.query.shape[1] // call.value.shape[1]
    means = (visible / visible.sum(-1, keepdim=True)) @ call.value.repeat_interleave(groups, dim=1)
    return means.transpose(1, 2)


def _witness_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, Any]:
    """The model's own attention, written down; heads of `_Record.uniform` by explicit weights."""
    record = _RECORD.get()
    assert record is not None
    call = _Call(module, query, key, value, attention_mask, settings)
    record.calls.append(call)
    output, weights = _own_attention(module)(module, query, key, value, attention_mask, **settings)
    if call.layer in record.uniform:
        chosen = torch.zeros(query.shape[1], dtype=torch.bool, device=query.device)
        chosen[record.uniform[call.layer]] = True
        output = torch.where(chosen[:, None], _uniform(call), output)
    return output, weights


def _witness_mask(*args: Any, **kwargs: Any) -> torch.Tensor:
    """transformers' plain mask, cut at the sequences' borders; remembers the rule it was made by."""
    record = _RECORD.get()
    assert record is not None
    mask = eager_mask(*args, **kwargs)
    if mask.shape[-1] == sum(_LENGTHS):
        # Most models let transformers find the borders by the positions; some forget to.
        sequence = torch.arange(len(_LENGTHS)).repeat_interleave(torch.tensor(_LENGTHS)).to(mask.device)
        mask = mask.masked_fill(sequence[:, None] != sequence, torch.finfo(mask.dtype).min)
    record.masks.append((mask, kwargs["mask_function"]))
    return mask


AttentionInterface.register(_WITNESS, _witness_attention)
AttentionMaskInterface.register(_WITNESS, _witness_mask)


@contextmanager
def _attention_by(lm: CausalLM, name: str) -> Iterator[None]:
    """Let the model compute attention by another function inside the block, with nothing compiled.

    The packed pass it is held against does run compiled layers, where there are any.
    """
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation(name)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        lm.model.set_attn_implementation(before)


@contextmanager
def _witness(lm: CausalLM, uniform: dict[int, torch.Tensor] | None = None) -> Iterator[_Record]:
    record = _Record(uniform or {})
    token = _RECORD.set(record)
    try:
        with _attention_by(lm, _WITNESS):
            yield record
    finally:
        _RECORD.reset(token)


def _states(lm: CausalLM, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Last hidden states [T, hidden] of one row of tokens, under the attention that is set."""
    decoder = lm.model.get_decoder()
    return decoder(
        input_ids=tokens[None], position_ids=positions[None], attention_mask=None, use_cache=False
    ).last_hidden_state[0]


def _relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Norm of the difference over the norm; infinite where either has a NaN."""
    error = (ours.float() - theirs.float()).norm() / theirs.float().norm().clamp_min(1e-30)
    return float(error) if bool(error.isfinite()) else float("inf")


def _state_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """See `_TOLERANCE`; the worst of the packed sequences that have more than a few tokens."""
    ours, theirs = ours.float(), theirs.float()
    spread = (theirs - theirs.mean(0)).norm(dim=-1).mean().clamp_min(1e-30)
    errors = (ours - theirs).norm(dim=-1) / spread
    worst = torch.stack([piece.median() for piece in errors.split(_LENGTHS) if len(piece) > 5]).max()
    return float(worst) if bool(errors.isfinite().all()) else float("inf")


def _gradients_and_logits(
    lm: CausalLM, tokens: torch.Tensor, positions: torch.Tensor
) -> tuple[_Record, torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """A packed pass of the whole model by transformers' own attention and masks.

    Returns:
        what the witness saw; last hidden states [T, hidden]; logits [T, vocabulary]; the size of
        each token's influence on one token inside the probed sequence [T]; where that token is.
    """
    seen: dict[str, torch.Tensor] = {}

    def embedded(module: torch.nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        seen["embeddings"] = output.detach().requires_grad_()
        return seen["embeddings"]

    def decoded(module: torch.nn.Module, args: Any, output: Any) -> None:
        seen["states"] = output.last_hidden_state[0]

    probe = sum(_LENGTHS[:_PROBED]) + _LENGTHS[_PROBED] // 2
    hooks = [
        lm.model.get_input_embeddings().register_forward_hook(embedded),
        lm.model.get_decoder().register_forward_hook(decoded),
    ]
    try:
        with _witness(lm) as record, torch.inference_mode(False), torch.enable_grad():
            logits = lm.model(
                input_ids=tokens.clone()[None],
                position_ids=positions.clone()[None],
                attention_mask=None,
                use_cache=False,
            ).logits[0]
            state = seen["states"][probe].float()
            draw = torch.randn(state.shape[-1], generator=torch.Generator().manual_seed(0))
            (gradient,) = torch.autograd.grad((state * draw.to(state.device)).sum(), seen["embeddings"])
    finally:
        for hook in hooks:
            hook.remove()
    for call in record.calls:
        call.query, call.key, call.value = call.query.detach(), call.key.detach(), call.value.detach()
    influence = gradient.reshape(len(tokens), -1).abs().amax(-1)
    return record, seen["states"].detach(), logits.detach(), influence, probe


def _check_interface(lm: CausalLM, record: _Record) -> None:
    shape = lm.geometry
    seen = sorted(call.layer for call in record.calls)
    if seen != list(range(shape.layers)):
        raise UserError(
            f"they compute attention in {len(set(seen))} of {shape.layers} layers through transformers' "
            "attention interface, and heads of the others cannot be masked"
        )
    for call in record.calls:
        for kind, found, said in (
            ("query", call.query.shape[1], shape.heads),
            ("key", call.key.shape[1], shape.kv_heads),
        ):
            if found != said:
                raise UserError(
                    f"they have {found} {kind} heads in layer {call.layer} and {said} in their configuration"
                )
        for name, value in call.settings.items():
            # A selection of keys, for one, may begin to matter only at lengths that are not tried here.
            if isinstance(value, torch.Tensor) and name not in _HARMLESS:
                raise UserError(f"they hand {name} to attention, which packing does not model")


def _check_layers(record: _Record) -> None:
    """Our attention against the model's own on the very same queries, keys and values."""
    ours_of = AttentionInterface()[attention.NAME]
    for call in record.calls:
        query, key, value = (t.float() for t in (call.query, call.key, call.value))
        mask = call.mask
        if mask is not None:
            mask = mask.float().masked_fill(~_visible(mask), torch.finfo(torch.float32).min)
        plain = _Call(call.module, query, key, value, mask, call.settings)
        theirs, _ = _own_attention(call.module)(call.module, query, key, value, mask, **call.settings)
        masked = torch.arange(0, query.shape[1], 2, device=query.device)
        kept = torch.arange(1, query.shape[1], 2, device=query.device)
        with attention.attention_layout(attention.Layout(_LENGTHS, {call.layer: masked})):
            both = [t.repeat(2, 1, 1, 1) for t in (query, key, value)]
            ours, _ = ours_of(call.module, *both, None, **call.settings)
        expected = _uniform(plain)
        for what, error in (
            ("attention", _relative(ours[0], theirs[0])),
            ("masked attention", _relative(ours[1, :, masked], expected[0, :, masked])),
            ("attention beside masked heads", _relative(ours[1, :, kept], theirs[0, :, kept])),
        ):
            if error > _LAYER_TOLERANCE:
                raise UserError(
                    f"their {what} in layer {call.layer} differs from airlab's by a share of {error:.2g}"
                )


def _check_masks(lm: CausalLM, record: _Record) -> None:
    """The rules behind the masks of one sequence, at distances that no short sequence reaches."""
    rules = {mask.data_ptr(): rule for mask, rule in record.masks}
    last = min(lm.geometry.context, _FARTHEST) - 1
    zero = torch.zeros((), dtype=torch.int64, device=lm.device)
    known: set[tuple[int, int | None]] = set()
    for call in record.calls:
        window = call.settings.get("sliding_window")
        rule = rules.get(call.mask.data_ptr()) if call.mask is not None else None
        if rule is None:
            raise UserError(f"they make a mask of their own in layer {call.layer}")
        if (id(rule), window) in known:
            continue
        known.add((id(rule), window))
        for row in (last // 2, last):
            column = torch.arange(row + 1, device=lm.device)
            visible = rule(zero, zero, zero + row, column).expand(row + 1)
            expected = column > row - window if window is not None else torch.ones_like(visible)
            if not torch.equal(visible, expected):
                raise UserError(
                    f"they let token {row} see {int(visible.sum())} tokens in layer {call.layer}, where "
                    f"packing shows it {int(expected.sum())}"
                )


def _check_positions(
    lm: CausalLM, tokens: torch.Tensor, positions: torch.Tensor, record: _Record, longest: int
) -> None:
    """Queries and keys of a document must not change when its neighbour's positions do."""
    first = _LENGTHS[0]
    moved = positions.clone()
    moved[:first] += max(longest, first) - first
    with _witness(lm) as after:
        _states(lm, tokens, moved)
    with _witness(lm):
        _states(lm, tokens[-2:], positions[:2])  # sets frequencies that follow the longest batch back
    tolerance = _TOLERANCE.get(lm.model.dtype, 2e-3) / 5  # same shapes and kernels: next to no rounding
    for a, b in zip(record.calls, after.calls, strict=True):
        for before, now in ((a.query, b.query), (a.key, b.key)):
            if _relative(now[:, :, first:], before[:, :, first:]) > tolerance:
                limit = getattr(lm.model.config, "original_max_position_embeddings", None) or (
                    getattr(lm.model.config, "rope_parameters", None) or {}
                ).get("original_max_position_embeddings")
                raise UserError(
                    "they change the position embeddings of a document with the longest one beside it"
                    + (f" where that exceeds {limit} tokens" if limit else "")
                )


def _check_rows(lm: CausalLM, tokens: torch.Tensor, positions: torch.Tensor) -> None:
    """The pass that scoring uses, in the model's own type, against transformers' own."""
    tolerance = _TOLERANCE.get(lm.model.dtype, 2e-3)
    with _attention_by(lm, "eager"):
        alone = torch.cat(
            [
                _states(lm, t, p)
                for t, p in zip(tokens.split(_LENGTHS), positions.split(_LENGTHS), strict=True)
            ]
        )
    layers, heads = lm.geometry.layers, torch.arange(0, lm.geometry.heads, 2, device=lm.device)
    for first in sorted({0, layers // 2}):
        masked = {first: heads, layers - 1: heads}
        ours = hidden_states(lm, tokens, _LENGTHS, Reference(masked))
        with _witness(lm, masked):
            reference = _states(lm, tokens, positions)
        for what, error in (
            ("packed documents", _state_error(ours[0], alone)),
            ("masked heads", _state_error(ours[1], reference)),
        ):
            if error > tolerance:
                raise UserError(f"they compute other states for {what} than alone, by a share of {error:.2g}")


class _NoNumbers(UserError):
    """What is wrong is not how a family computes but what this model holds."""


def _not_numbers(lm: CausalLM) -> _NoNumbers:
    """Names a weight that is not finite, where there is one."""
    for name, weight in lm.model.named_parameters():
        if not bool(weight.isfinite().all()):
            return _NoNumbers(
                f"this model computes no numbers: its weight {name} holds NaN or infinity; download it "
                "again or use another model."
            )
    return _NoNumbers(
        "this model computes no numbers: its activations overflow "
        f"{str(lm.model.dtype).removeprefix('torch.')}; use another model."
    )


def _check(lm: CausalLM, longest: int) -> None:
    count = sum(_LENGTHS)
    # Spread over the vocabulary; the numbers mean nothing.
    tokens = (torch.arange(count, device=lm.device) * 7919 + 13) % lm.geometry.vocabulary
    positions = to_device(positions_of(_LENGTHS), lm.device)
    record, states, logits, influence, probe = _gradients_and_logits(lm, tokens, positions)
    _check_interface(lm, record)
    if not bool(logits.isfinite().all()):
        raise _not_numbers(lm)
    ours = lm.model.get_output_embeddings()(states)
    if ours.shape != logits.shape or _relative(ours, logits) > _LAYER_TOLERANCE:
        raise UserError("they change their logits after the output projection, which scoring does not model")
    start = sum(_LENGTHS[:_PROBED])
    if bool(influence[:start].any()) or bool(influence[probe + 1 :].any()):
        raise UserError(
            "they mix tokens outside causal attention (by a convolution, a recurrence or a mask), so packed "
            "documents would leak into each other"
        )
    _check_layers(record)
    with _witness(lm) as alone:
        _states(lm, tokens[: _LENGTHS[0]], positions[: _LENGTHS[0]])
    _check_masks(lm, alone)
    _check_positions(lm, tokens, positions, record, longest)
    _check_rows(lm, tokens, positions)


@torch.inference_mode()
def check_exactness(lm: CausalLM, longest: int | None = None) -> None:
    """Refuse a model for which packing documents and masking heads would not be exact.

    Takes about a dozen passes over 40 tokens.

    Args:
        longest: tokens of the longest sequence that will be packed; by default the model's context.

    Raises:
        UserError: the model family is not computed exactly; says what differs. Or its weights or what it
            makes of them are no numbers.
    """
    family = type(lm.model).__name__
    try:
        _check(lm, min(longest or lm.geometry.context, lm.geometry.context))
    except (torch.OutOfMemoryError, _NoNumbers):
        raise
    except Exception as error:  # a model may fail in any way where it is not what packing takes it for
        why = str(error).split("\n")[0]
        if not isinstance(error, UserError):
            why = f"they fail when packed ({type(error).__name__}: {why})"
        raise UserError(
            f"models of type {family} cannot be scored exactly: {why}; use another model family."
        ) from error
