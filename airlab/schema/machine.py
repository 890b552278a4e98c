"""How and where to run: never part of any result's identity."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from airlab.schema.base import Frozen


class Slurm(Frozen):
    """What a job asks a Slurm cluster for, on each host; null leaves it to the cluster."""

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
    """On each host, with a GPU each: training starts them through torchrun, and scoring deals its shards out
    to as many on this host."""
    hosts: PositiveInt = 1
    """Hosts that train together, this one first; all see the store. The other stages run on this one. Slurm's
    srun starts training on them, or ssh where `hostfile` names them."""
    hostfile: str | None = None
    """Hosts in the form of DeepSpeed's launcher, `name slots=8` a line, this one first; null leaves them to
    Slurm."""
    deepspeed_stage: Literal[0, 1, 2, 3] | None = None
    """ZeRO stage; null trains without DeepSpeed."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What training keeps in the host's memory instead of the GPU's: the optimizer's state, under ZeRO 1, 2
    and 3, or under ZeRO 3 also the weights. Slower, for models that fit in no other way."""
    recompute: bool = False
    """Compute every layer again in the backward pass instead of keeping what it needs: about a third more
    work for a fraction of the memory."""
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

    @model_validator(mode="after")
    def _check_offload(self) -> "Machine":
        if self.offload != "none" and not self.deepspeed_stage:
            raise ValueError(f"offload={self.offload} needs deepspeed_stage=1, 2 or 3")
        if self.offload == "all" and self.deepspeed_stage != 3:
            raise ValueError("offload=all needs deepspeed_stage=3; offload=optimizer is for 1 and 2")
        return self

    @property
    def world(self) -> int:
        """Training processes on all hosts together."""
        return self.hosts * self.processes
