"""One process, data parallelism or DeepSpeed behind the same few calls."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, GradientAccumulationPlugin, InitProcessGroupKwargs
from torch import nn

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.training import Training
from airlab.training.checkpoint import MOMENTS, WEIGHT, Checkpoint, key, trained_weights
from airlab.training.optimizer import adamw, set_learning_rate


class Engine:
    """A module and its optimizer, prepared by accelerate for the machine at hand.

    State goes in and out as whole tensors by weight name whatever the engine, so a run may be
    resumed on another number of processes or another ZeRO stage.
    """

    def __init__(
        self, module: nn.Module, training: Training, machine: Machine, resumed: Checkpoint | None
    ) -> None:
        """Raises UserError when the machine lacks the devices or the model is too small to be shared out,
        RuntimeError when the launcher started another number of processes or another engine than the machine
        asks for."""
        refuse_missing_devices(machine)
        _refuse_small(module, machine)
        self._training = training
        self._is_deepspeed = machine.deepspeed_stage is not None
        self._zero_stage = machine.deepspeed_stage or 0
        self._n_micro_batches = n_micro_batches(training, machine)
        accumulation = GradientAccumulationPlugin(num_steps=self._n_micro_batches, sync_with_dataloader=False)
        on_cpu = machine.device == "cpu"
        plugin = None if machine.deepspeed_stage is None else _deepspeed(training, machine)
        self.accelerator = Accelerator(
            # accelerate drops DeepSpeed without a word when it is told to use the CPU. With no GPU visible
            # to the processes (see `launch`) it ends up there by itself, if the backend is named.
            cpu=on_cpu and plugin is None,
            kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")] if on_cpu and plugin else [],
            mixed_precision="no",
            gradient_accumulation_plugin=accumulation,
            deepspeed_plugin=plugin,
        )
        if self.accelerator.num_processes != machine.world:
            raise RuntimeError(
                f"{self.accelerator.num_processes} training processes run, {machine.world} were asked for"
            )
        self._module = module
        plain = adamw(module, training, machine)
        if resumed is not None and self._zero_stage == 0:
            for weight_name, weight in self._trained:
                plain.state[weight] = {
                    "step": _step(plain, weight, resumed),
                    **{moment: resumed.tensor(moment, weight_name) for moment in MOMENTS},
                }
        self._wrapped, self._optimizer = self.accelerator.prepare(module, plain)
        if machine.deepspeed_stage is not None:
            _assert_deepspeed(self._wrapped, machine.deepspeed_stage, plain)
        if resumed is not None and self._zero_stage > 0:
            self._restore_sharded(resumed)

    @property
    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return trained_weights(self._module)

    @property
    def device(self) -> torch.device:
        """Where batches go."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return bool(self.accelerator.is_main_process)

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 matrix products if the training asks for them."""
        wanted = self._training.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=wanted)

    def backward(self, tensors: tuple[torch.Tensor, ...], n_targets: float) -> torch.Tensor:
        """Forward and backward of one micro-batch; returns its summed loss, detached.

        `n_targets` counts the predicted tokens of the whole batch over all processes, each by its
        weight. Gradients are averaged over processes and micro-batches by the engine, so both are
        multiplied in here: together the gradient is that of the mean over the batch, however it was cut.
        """
        with self.accelerator.accumulate(self._wrapped):
            with self.autocast():
                summed = self._wrapped(*(tensor.to(self.device, non_blocking=True) for tensor in tensors))
            share = self.accelerator.num_processes * self._n_micro_batches / n_targets
            if self._is_deepspeed:  # accelerate would also update here, too early to look at the gradient
                self._wrapped.set_gradient_accumulation_boundary(self.accelerator.sync_gradients)
                self._wrapped.backward(summed * share)
            else:
                self.accelerator.backward(summed * share)
        detached: torch.Tensor = summed.detach()
        return detached

    def set_learning_rate(self, learning_rate: float) -> None:
        """For the coming update."""
        set_learning_rate(self._optimizer, learning_rate)

    def clip(self) -> float:
        """Clip the gradient; returns its global norm before clipping. To be followed by `update`."""
        if self._zero_stage > 0:  # sharded gradients are clipped inside the update, which is done here
            self._wrapped.step()
            return float(self._wrapped.get_global_grad_norm())
        return float(nn.utils.clip_grad_norm_(self._module.parameters(), self._training.gradient_clip))

    def update(self) -> None:
        """The optimizer's update."""
        if self._zero_stage > 0:
            return
        if self._is_deepspeed:
            self._wrapped.step()
        else:
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """Element-wise sum over processes."""
        total: torch.Tensor = self.accelerator.reduce(values, reduction="sum")
        return total

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Whole float32 weights of what is trained, one after another; every process must take them all."""
        for name, weight in self._trained:
            yield name, self._whole(weight, WEIGHT)

    def states(self) -> Iterator[tuple[str, torch.Tensor]]:
        """What a checkpoint holds of the weights: each whole, then its moments; as for `weights`."""
        self._link_sharded_moments()
        for name, weight in self._trained:
            for kind in (WEIGHT, *MOMENTS):
                yield key(kind, name), self._whole(weight, kind)

    def gathered(self) -> AbstractContextManager[Any]:
        """All weights whole in every process, frozen ones too; what is changed inside is lost at the end."""
        if self._zero_stage < 3:
            return nullcontext()
        from deepspeed.runtime.zero import GatheredParameters

        gathered: AbstractContextManager[Any] = GatheredParameters(list(self._module.parameters()))
        return gathered

    def close(self) -> None:
        """Let go of the process group's model and optimizer."""
        self.accelerator.free_memory()
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()

    def _whole(self, weight: nn.Parameter, kind: str) -> torch.Tensor:
        if self._zero_stage == 0:
            whole = weight if kind == WEIGHT else self._optimizer.optimizer.state[weight][kind]
            return whole.detach()
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        gathered: torch.Tensor = (
            safe_get_full_fp32_param(weight)
            if kind == WEIGHT
            else safe_get_full_optimizer_state(weight, kind)
        )
        return gathered

    def _restore_sharded(self, resumed: Checkpoint) -> None:
        from deepspeed.utils import (
            safe_get_local_optimizer_state,
            safe_set_full_optimizer_state,
            safe_set_local_optimizer_state,
        )

        sharded = self._wrapped.optimizer
        shards = (
            sharded.fp32_partitioned_groups_flat
            if self._zero_stage == 3
            else sharded.single_partition_of_fp32_groups
        )
        for shard in shards:  # the optimizer makes its state in its first update; here it is needed before
            sharded.optimizer.state[shard] = {
                "step": _step(sharded.optimizer, shard, resumed),
                **{moment: torch.zeros_like(shard) for moment in MOMENTS},
            }
        self._link_sharded_moments()
        for name, weight in self._trained:
            for moment in MOMENTS:
                value = resumed.tensor(moment, name)
                if self._zero_stage == 3:  # given whole, DeepSpeed lacks the end of what does not divide
                    n = len(safe_get_local_optimizer_state(weight, moment))
                    own = _share(value, n, self.accelerator.process_index)
                    safe_set_local_optimizer_state(weight, own.to(self.device), moment)
                else:
                    safe_set_full_optimizer_state(weight, value.to(self.device), moment)

    def _link_sharded_moments(self) -> None:
        """ZeRO 1 and 2 know a weight's moments only after this.

        DeepSpeed does it by itself after the first parameter group's first update, when the later
        groups have no moments yet, and never again.
        """
        if self._zero_stage not in (1, 2):
            return
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        sharded = self._wrapped.optimizer
        for weights, shard in zip(sharded.bit16_groups, sharded.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(weights, shard, sharded.optimizer.state)


def refuse_missing_devices(machine: Machine) -> None:
    """Raise UserError when this host has fewer GPUs than processes that want one each."""
    if machine.device == "cpu":
        return
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found == 0:
        raise UserError("machine.device is cuda but no GPU is visible: choose machine=cpu.")
    if found < machine.processes:
        raise UserError(
            f"machine.processes is {machine.processes} and {found} GPUs are visible, one for each is needed: "
            f"choose machine.processes={found} or fewer, or look at CUDA_VISIBLE_DEVICES."
        )


def n_micro_batches(training: Training, machine: Machine) -> int:
    """Micro-batches per process and update.

    Raises UserError when the batch does not split evenly over the processes.
    """
    if training.batch_sequences % machine.world:
        raise UserError(
            f"A batch of {training.batch_sequences} sequences does not split over {machine.world} "
            "processes: choose machine.processes (and machine.hosts) so that it does."
        )
    per_process = training.batch_sequences // machine.world
    return -(-per_process // machine.sequences_per_micro_batch)


def _refuse_small(module: nn.Module, machine: Machine) -> None:
    """ZeRO gives every process a share of every weight, or of all; nobody's may be empty."""
    trained = trained_weights(module)
    name, elements = min(((name, weight.numel()) for name, weight in trained), key=lambda each: each[1])
    if machine.deepspeed_stage != 3:
        name, elements = "the model", sum(weight.numel() for _, weight in trained)
    if machine.deepspeed_stage and elements < machine.world:
        lower = "machine.deepspeed_stage=2 or " if machine.deepspeed_stage == 3 else ""
        raise UserError(
            f"The model is too small for ZeRO stage {machine.deepspeed_stage} on {machine.world} processes: "
            f"{name} has {elements} elements; choose {lower}fewer machine.processes."
        )


def _step(optimizer: torch.optim.Optimizer, weight: torch.Tensor, resumed: Checkpoint) -> torch.Tensor:
    """AdamW's count of updates, where its kind wants it."""
    on_device = optimizer.defaults.get("fused") or optimizer.defaults.get("capturable")
    return torch.tensor(float(resumed.n_steps_done), device=weight.device if on_device else "cpu")


def _share(whole: torch.Tensor, n: int, rank: int) -> torch.Tensor:
    """One process's `n` elements, the last filled up with zeros."""
    own = whole.flatten()[rank * n : (rank + 1) * n]
    return nn.functional.pad(own, (0, n - len(own)))


def _deepspeed(training: Training, machine: Machine) -> DeepSpeedPlugin:
    per_process = training.batch_sequences // machine.world
    sharding: dict[str, object] = {"stage": machine.deepspeed_stage}
    kept = {"device": "cpu", "pin_memory": machine.device == "cuda"}
    if machine.offload != "none":
        sharding["offload_optimizer"] = kept
    if machine.offload == "all":
        sharding["offload_param"] = kept
    config: dict[str, object] = {
        "train_micro_batch_size_per_gpu": min(per_process, machine.sequences_per_micro_batch),
        "gradient_accumulation_steps": n_micro_batches(training, machine),
        # Without sharding the gradient is clipped like anyone's; DeepSpeed would not tell its norm.
        "gradient_clipping": training.gradient_clip if machine.deepspeed_stage else 0.0,
        "zero_optimization": sharding,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # offloaded or not, the same AdamW trains
    }
    if training.precision == "bfloat16":  # DeepSpeed switches an outer autocast off inside its engine
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return DeepSpeedPlugin(hf_ds_config=config)


def _assert_deepspeed(wrapped: nn.Module, stage: int, optimizer: torch.optim.Optimizer) -> None:
    """A launcher that drops DeepSpeed silently is known; training something else is worse than stopping."""
    from deepspeed import DeepSpeedEngine

    if not isinstance(wrapped, DeepSpeedEngine) or wrapped.zero_optimization_stage() != stage:
        raise RuntimeError(f"the model was to be wrapped by DeepSpeed with ZeRO stage {stage} and was not")
    if stage and wrapped.optimizer.optimizer is not optimizer:
        raise RuntimeError(f"DeepSpeed trains with {type(wrapped.optimizer.optimizer)} instead of our AdamW")
