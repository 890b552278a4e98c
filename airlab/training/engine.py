"""One process, data parallelism or DeepSpeed behind the same few calls."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, GradientAccumulationPlugin, InitProcessGroupKwargs
from torch import nn

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.training import Training
from airlab.training.checkpoint import MOMENTS, Checkpoint, trained_weights
from airlab.training.optimizer import adamw, set_learning_rate


class Engine:
    """A module and its optimizer, prepared by accelerate for the machine at hand.

    State goes in and out as whole tensors by weight name whatever the engine, so a run may be
    resumed on another number of processes or another ZeRO stage.
    """

    def __init__(
        self, module: nn.Module, training: Training, machine: Machine, resumed: Checkpoint | None
    ) -> None:
        """Raises UserError when the machine lacks the device, RuntimeError when the launcher started
        another number of processes or another engine than the machine asks for."""
        if machine.device == "cuda" and not torch.cuda.is_available():
            raise UserError("machine.device is cuda but no GPU is visible: choose machine=cpu.")
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
        if self.accelerator.num_processes != machine.processes:
            raise RuntimeError(
                f"{self.accelerator.num_processes} training processes run, {machine.processes} were asked for"
            )
        self._module = module
        plain = adamw(module, training)
        if resumed is not None and self._zero_stage == 0:
            for weight_name, weight in self._trained:
                plain.state[weight] = _adamw_state(resumed, weight_name)
        self._wrapped, self._optimizer = self.accelerator.prepare(module, plain)
        if machine.deepspeed_stage is not None:
            _assert_deepspeed(self._wrapped, machine.deepspeed_stage)
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
                summed = self._wrapped(*(tensor.to(self.device) for tensor in tensors))
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

    def weights(self) -> dict[str, torch.Tensor]:
        """Whole float32 weights of what is trained, by name; every process must call it."""
        if self._zero_stage == 0:
            return {name: weight.detach() for name, weight in self._trained}
        from deepspeed.utils import safe_get_full_fp32_param

        return {name: safe_get_full_fp32_param(weight) for name, weight in self._trained}

    def gathered(self) -> AbstractContextManager[Any]:
        """All weights whole in every process, frozen ones too; what is changed inside is lost at the end."""
        if self._zero_stage < 3:
            return nullcontext()
        from deepspeed.runtime.zero import GatheredParameters

        gathered: AbstractContextManager[Any] = GatheredParameters(list(self._module.parameters()))
        return gathered

    def moments(self) -> dict[str, dict[str, torch.Tensor]]:
        """AdamW's moments, whole, by moment and weight; every process must call it."""
        if self._zero_stage == 0:
            state = self._optimizer.optimizer.state
            return {
                moment: {name: state[weight][moment] for name, weight in self._trained} for moment in MOMENTS
            }
        from deepspeed.utils import safe_get_full_optimizer_state

        self._link_sharded_moments()
        return {
            moment: {name: safe_get_full_optimizer_state(weight, moment) for name, weight in self._trained}
            for moment in MOMENTS
        }

    def close(self) -> None:
        """Let go of the process group's model and optimizer."""
        self.accelerator.free_memory()
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()

    def _restore_sharded(self, resumed: Checkpoint) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        sharded = self._wrapped.optimizer
        shards = (
            sharded.fp32_partitioned_groups_flat
            if self._zero_stage == 3
            else sharded.single_partition_of_fp32_groups
        )
        for shard in shards:  # the optimizer makes its state in its first update; here it is needed before
            sharded.optimizer.state[shard] = {
                "step": torch.tensor(float(resumed.n_steps_done)),
                **{moment: torch.zeros_like(shard) for moment in MOMENTS},
            }
        self._link_sharded_moments()
        for name, weight in self._trained:
            for moment in MOMENTS:
                value = resumed.moments[moment][name].to(self.device)
                safe_set_full_optimizer_state(weight, value, moment)

    def _link_sharded_moments(self) -> None:
        """ZeRO 1 and 2 know a weight's moments only after this.

        DeepSpeed does it by itself after the first parameter group's first update, when the later
        groups have no moments yet, and never again.
        """
        if self._zero_stage == 3:
            return
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        sharded = self._wrapped.optimizer
        for weights, shard in zip(sharded.bit16_groups, sharded.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(weights, shard, sharded.optimizer.state)


def n_micro_batches(training: Training, machine: Machine) -> int:
    """Micro-batches per process and update.

    Raises UserError when the batch does not split evenly over the processes.
    """
    if training.batch_sequences % machine.processes:
        raise UserError(
            f"A batch of {training.batch_sequences} sequences does not split over {machine.processes} "
            "processes: choose machine.processes so that it does."
        )
    per_process = training.batch_sequences // machine.processes
    return -(-per_process // machine.sequences_per_micro_batch)


def _adamw_state(resumed: Checkpoint, weight_name: str) -> dict[str, torch.Tensor]:
    return {
        "step": torch.tensor(float(resumed.n_steps_done)),
        **{moment: resumed.moments[moment][weight_name].clone() for moment in MOMENTS},
    }


def _deepspeed(training: Training, machine: Machine) -> DeepSpeedPlugin:
    per_process = training.batch_sequences // machine.processes
    config: dict[str, object] = {
        "train_micro_batch_size_per_gpu": min(per_process, machine.sequences_per_micro_batch),
        "gradient_accumulation_steps": n_micro_batches(training, machine),
        # Without sharding the gradient is clipped like anyone's; DeepSpeed would not tell its norm.
        "gradient_clipping": training.gradient_clip if machine.deepspeed_stage else 0.0,
        "zero_optimization": {"stage": machine.deepspeed_stage},
        "zero_allow_untested_optimizer": True,
    }
    if training.precision == "bfloat16":  # DeepSpeed switches an outer autocast off inside its engine
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return DeepSpeedPlugin(hf_ds_config=config)


def _assert_deepspeed(wrapped: nn.Module, stage: int) -> None:
    """A launcher that drops DeepSpeed silently is known; training something else is worse than stopping."""
    from deepspeed import DeepSpeedEngine

    if not isinstance(wrapped, DeepSpeedEngine) or wrapped.zero_optimization_stage() != stage:
        raise RuntimeError(f"the model was to be wrapped by DeepSpeed with ZeRO stage {stage} and was not")
