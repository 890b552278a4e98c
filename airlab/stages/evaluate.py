"""A checkpoint and a task suite -> per-item records."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from airlab.schema.evaluation import HarnessSpec
from airlab.schema.machine import Machine
from airlab.stages.build_tasks import BuildTasks
from airlab.stages.build_worked_tasks import BuildWorkedTasks
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.stage import Stage, Workdir

Tasks = BuildTasks | BuildWorkedTasks | HarnessSpec
"""Built from held-out text or problems, or the harness's own benchmarks (these need a hub)."""


def suite(work: Workdir, tasks: Tasks) -> Path | HarnessSpec:
    """What is to be evaluated: an input's tasks folder, or the harness's own benchmarks.

    Raises:
        UserError: benchmarks are asked for and there is no hub.
    """
    if not isinstance(tasks, HarnessSpec):
        return work.input(tasks) / "tasks"
    from airlab.evaluation.hub import require_hub

    if any(task.chat for task in tasks.tasks):
        require_hub("evaluation=air-paper downloads its benchmarks", "use evaluation=worked")
    else:
        require_hub()
    return tasks


@dataclass(frozen=True)
class Evaluate(Stage):
    """lm-eval in its own process over a saved checkpoint: ``records.parquet``."""

    VERSION: ClassVar[int] = 1

    checkpoint: Model
    """A folder in Hugging Face format (Pretrain, FineTune), or a model as it came."""
    tasks: Tasks
    seed: int
    """The seed the checkpoint was trained with, copied into every record."""
    batch_size: int = 8
    """Requests in one forward pass; likelihoods agree to 1e-4 between batch sizes, not to the last bit. A
    solution written greedily changes only where the two best next tokens are as near to each other."""

    def slug(self) -> str:
        return f"seed{self.seed}"

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.evaluation.client import evaluate

        asked = suite(work, self.tasks)
        with work.writing("records.parquet") as output:
            facts = evaluate(
                model_folder(work, self.checkpoint),
                asked,
                output,
                batch_size=self.batch_size,
                device=machine.device,
                seed=self.seed,
            )
        work.note(**facts)
