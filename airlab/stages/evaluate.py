"""A checkpoint and a task suite -> per-item records."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from airlab.schema.evaluation import HarnessSpec
from airlab.schema.machine import Machine
from airlab.stages.build_tasks import BuildTasks
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class Evaluate(Stage):
    """lm-eval in its own process over a saved checkpoint: ``records.parquet``."""

    VERSION: ClassVar[int] = 1

    checkpoint: Stage
    """A folder in Hugging Face format (Pretrain)."""
    tasks: BuildTasks | HarnessSpec
    """Tasks built from held-out text, or the harness's own benchmarks (these need a hub)."""
    seed: int
    """The seed the checkpoint was trained with, copied into every record."""
    batch_size: int = 8
    """Requests in one forward pass; results agree to 1e-4 between batch sizes, not to the last bit."""

    def slug(self) -> str:
        return f"seed{self.seed}"

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.evaluation.client import evaluate
        from airlab.evaluation.hub import require_hub

        suite: Path | HarnessSpec
        if isinstance(self.tasks, HarnessSpec):
            require_hub()
            suite = self.tasks
        else:
            suite = work.input(self.tasks) / "tasks"
        with work.writing("records.parquet") as output:
            facts = evaluate(
                work.input(self.checkpoint),
                suite,
                output,
                batch_size=self.batch_size,
                device=machine.device,
                seed=self.seed,
            )
        work.note(**facts)
