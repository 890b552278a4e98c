"""A target's training, kept at several moments."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.store.stage import Stage, Workdir

_MOMENTS = "moments.json"
_SMOOTHED = 8
"""Updates that a moment's training loss is averaged over, at most: single batches are noisy."""


@dataclass(frozen=True)
class Moment:
    """A kept model.

    Attributes:
        export: its folder in the trajectory's artifact.
        tokens: trained on so far.
        loss: nats a token, mean over the (up to) eight batches trained on last; of the untrained model, on
            the first batch.
    """

    export: str
    updates: int
    tokens: int
    loss: float


@dataclass(frozen=True)
class PretrainTrajectory(Stage):
    """What `Pretrain` does with the same fields, with the model kept untrained and after doubling tokens.

    `exports/UPDATES/` are folders in the Hugging Face format: before the first update, after a
    `2**halvings`-th of all updates (rounded down), after twice as many, and so on up to all. `moments.json`
    lists them. Resumes where it was stopped; the last export is `Pretrain`'s checkpoint.
    """

    VERSION: ClassVar[int] = 1
    mixture: Stage
    tokenizer: Stage
    model: TargetModel
    training: Training
    seed: int
    halvings: int

    def slug(self) -> str:
        """Such as `seed-0`."""
        return f"seed-{self.seed}"

    @property
    def n_moments(self) -> int:
        """How many models are kept."""
        return self.halvings + 2

    def run(self, work: Workdir, machine: Machine) -> None:
        """Train in this process, or start as many as the machine asks for."""
        from airlab.training.launch import launch
        from airlab.training.loop import CURVES
        from airlab.training.pretrain import EXPORTS, Job

        job = Job(
            mixture=work.input(self.mixture),
            tokenizer=work.input(self.tokenizer),
            output=work.folder,
            model=self.model,
            training=self.training,
            seed=self.seed,
            machine=machine,
            tracking=work.tracking,
            halvings=self.halvings,
        )
        work.note(**launch(job))
        curve = [json.loads(line) for line in (work.folder / CURVES).read_text().splitlines()]
        moments = [
            _moment(f"{EXPORTS}/{folder.name}", int(folder.name), curve)
            for folder in sorted((work.folder / EXPORTS).iterdir())
        ]
        with work.writing(_MOMENTS) as path:
            path.write_text(json.dumps([asdict(moment) for moment in moments], indent=1) + "\n")


def _moment(export: str, updates: int, curve: list[dict[str, float]]) -> Moment:
    tokens = int(curve[updates - 1]["tokens"]) if updates else 0
    last = curve[max(0, updates - _SMOOTHED) : max(1, updates)]
    return Moment(export, updates, tokens, sum(row["loss"] for row in last) / len(last))


def read_moments(folder: Path) -> list[Moment]:
    """The kept models of a finished trajectory or list, in the order of training."""
    return [Moment(**moment) for moment in json.loads((folder / _MOMENTS).read_text())]


@dataclass(frozen=True)
class TakeMoment(Stage):
    """One of a trajectory's models as a model folder of its own, for every stage that takes a model."""

    VERSION: ClassVar[int] = 1
    trajectory: PretrainTrajectory
    number: int
    """From 0, the untrained one, in the order of training."""

    def slug(self) -> str:
        return f"{self.trajectory.slug()}-{self.number}"

    def run(self, work: Workdir, machine: Machine) -> None:
        folder = work.input(self.trajectory)
        moment = read_moments(folder)[self.number]
        for path in sorted((folder / moment.export).iterdir()):
            with work.writing(path.name) as copy:
                shutil.copyfile(path, copy)
        work.note(updates=moment.updates, tokens=moment.tokens)


@dataclass(frozen=True)
class ListMoments(Stage):
    """A trajectory's `moments.json` without its models, for tables that outlive their weights."""

    VERSION: ClassVar[int] = 1
    trajectory: PretrainTrajectory

    def slug(self) -> str:
        """As the trajectory's."""
        return self.trajectory.slug()

    def run(self, work: Workdir, machine: Machine) -> None:
        """Copy the list."""
        with work.writing(_MOMENTS) as copy:
            shutil.copyfile(work.input(self.trajectory) / _MOMENTS, copy)
