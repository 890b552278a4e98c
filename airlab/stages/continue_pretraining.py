"""A model that is there already, pretrained further on one arm's mixture."""

from dataclasses import dataclass
from typing import ClassVar

from airlab.schema.machine import Machine
from airlab.schema.training import Training
from airlab.stages.build_mixture import BuildMixture
from airlab.stages.pretrain import Pretrain
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class ContinuePretraining(Stage):
    """A checkpoint in the Hugging Face format, with its learning curve; resumes where it was stopped.

    Everything is as in `Pretrain` but where the weights begin. Nothing is drawn but the order of the
    documents, which is the mixture's.
    """

    VERSION: ClassVar[int] = 1

    model: Stage
    """Of the Llama architecture; its tokenizer is the mixture's."""
    mixture: BuildMixture
    training: Training

    @property
    def seed(self) -> int:
        """The mixture's."""
        return self.mixture.seed

    def slug(self) -> str:
        """Such as `seed-0`."""
        return f"seed-{self.seed}"

    def run(self, work: Workdir, machine: Machine) -> None:
        """Train in this process, or start as many as the machine asks for."""
        from airlab.training.launch import launch
        from airlab.training.pretrain import Job

        job = Job(
            mixture=work.input(self.mixture),
            tokenizer=work.input(self.model),
            output=work.folder,
            model=work.input(self.model),
            training=self.training,
            seed=self.seed,
            machine=machine,
            tracking=work.tracking,
        )
        work.note(**launch(job))


Trained = Pretrain | ContinuePretraining
"""What trains a target: from drawn weights, or a model that is there already."""
