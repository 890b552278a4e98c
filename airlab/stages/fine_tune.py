"""A model fine-tuned on reasoning traces."""

from dataclasses import dataclass
from typing import ClassVar

from airlab.schema.fine_tuning import FineTuning
from airlab.schema.machine import Machine
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class FineTune(Stage):
    """A checkpoint in the Hugging Face format, with its learning curve; resumes where it was stopped.

    Every weight is trained. The loss of an update is the weighted sum of its tokens' losses divided by the
    sum of their weights, over all processes and micro-batches.
    """

    VERSION: ClassVar[int] = 1

    model: Model
    data: Stage
    """What `BuildTraining` makes."""
    recipe: FineTuning
    seed: int
    """Of the traces' order."""

    def slug(self) -> str:
        """Such as `softmax-0`."""
        return f"{self.data.slug()}-{self.seed}"

    def run(self, work: Workdir, machine: Machine) -> None:
        """Train in this process, or start as many as the machine asks for."""
        from airlab.training.fine_tune import TuningJob
        from airlab.training.launch import launch

        job = TuningJob(
            model=model_folder(work, self.model),
            data=work.input(self.data),
            output=work.folder,
            recipe=self.recipe,
            seed=self.seed,
            machine=machine,
        )
        work.note(**launch(job))
