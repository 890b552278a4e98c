"""A model fine-tuned on reasoning traces."""

from dataclasses import dataclass
from typing import ClassVar

from airlab.errors import UserError
from airlab.schema.fine_tuning import FineTuning
from airlab.schema.machine import Machine
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class FineTune(Stage):
    """A checkpoint in the Hugging Face format, with its learning curve; resumes where it was stopped.

    The loss of an update is the weighted sum of its tokens' losses divided by the sum of their weights, over
    all processes and micro-batches. With `recipe.lora` only adapters are trained; the checkpoint holds the
    model with these merged into it, and they lie apart in `adapter/`.
    """

    VERSION: ClassVar[int] = 1

    model: Model
    """Also what was pretrained or fine-tuned here; without a chat template its data are rendered plain."""
    data: Stage
    """What `BuildTraining` makes."""
    recipe: FineTuning
    seed: int
    """Of the traces' order and of the adapters' first weights."""
    teacher: Stage | None
    """What `CacheTeacher` makes of these traces, weighted and selected or not; for `recipe.distillation`."""

    def __post_init__(self) -> None:
        """Raises UserError where there is a teacher and nothing to learn from it, or the reverse."""
        if (self.recipe.distillation is None) != (self.teacher is None):
            raise UserError(
                "a recipe with distillation needs a teacher, and one without has no use for it: give both or "
                "neither."
            )

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
            teacher=None if self.teacher is None else work.input(self.teacher),
            output=work.folder,
            recipe=self.recipe,
            seed=self.seed,
            machine=machine,
            tracking=work.tracking,
        )
        work.note(**launch(job))
