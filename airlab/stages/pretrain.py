"""A target model trained from scratch on one arm's mixture."""

from dataclasses import dataclass
from typing import ClassVar

from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class Pretrain(Stage):
    """A checkpoint in the Hugging Face format, with its learning curve; resumes where it was stopped."""

    VERSION: ClassVar[int] = 1

    mixture: Stage
    tokenizer: Stage
    model: TargetModel
    training: Training
    seed: int

    def slug(self) -> str:
        """Such as `seed-0`."""
        return f"seed-{self.seed}"

    def run(self, work: Workdir, machine: Machine) -> None:
        """Train in this process, or start as many as the machine asks for."""
        from airlab.training.launch import launch
        from airlab.training.pretrain import Job

        job = Job(
            mixture=work.input(self.mixture),
            tokenizer=work.input(self.tokenizer),
            output=work.folder,
            model=self.model,
            training=self.training,
            seed=self.seed,
            machine=machine,
            tracking=work.tracking,
        )
        work.note(**launch(job))
