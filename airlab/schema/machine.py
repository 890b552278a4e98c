"""How and where to run: never part of any result's identity."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from airlab.schema.base import Frozen


class Slurm(Frozen):
    """What a job asks a Slurm cluster for, on one host; null leaves it to the cluster."""

    hours: PositiveFloat
    """Longest time of a job; one that is stopped goes on when the same script is submitted again."""
    cpus_per_process: PositiveInt = 8
    memory_gb: PositiveInt | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = ()
    """Shell lines before the command: modules to load, an environment to enter."""
    jobs_at_once: PositiveInt = 16
    """Of a sweep."""
    logs: str = "outputs/slurm"
    """Folder of what jobs print; Slurm does not make it."""


Tracker = Literal[
    "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"
]
"""What accelerate can show training curves in."""


class Machine(Frozen):
    """What the computer in front of us offers.

    Nothing in here may change a result beyond rounding; invariance tests hold it to that.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    tokens_per_batch: PositiveInt = 4096
    """Packed tokens in one scoring forward pass."""
    documents_per_shard: Annotated[int, Field(gt=0, multiple_of=256)] = 256
    """Documents scored between two saves, in whole row groups of the corpus. An interrupted run continues
    at the first shard that is not saved. The last forward pass of a shard is seldom full, so a shard should
    take many of them."""
    sequences_per_micro_batch: PositiveInt = 8
    """Training sequences in one forward pass; gradients accumulate to the configured batch."""
    processes: PositiveInt = 1
    """Training processes on this host; above one, training starts them through torchrun."""
    deepspeed_stage: Literal[0, 1, 2, 3] | None = None
    """ZeRO stage; null trains without DeepSpeed."""
    trackers: Literal["auto"] | tuple[Tracker, ...] = "auto"
    """Where training curves are shown; auto is TensorBoard if it is installed and nothing otherwise."""
    slurm: Slurm | None = None
    """How `airlab plan` writes job scripts for such machines; null for none."""

    @field_validator("trackers", mode="before")
    @classmethod
    def _check_trackers(cls, value: Any) -> Any:
        names = get_args(Tracker)
        if value == "auto":
            return value
        if isinstance(value, list | tuple) and all(name in names for name in value):
            return tuple(value)
        raise ValueError(f"give auto, [] for none, or a list out of {', '.join(names)}")
