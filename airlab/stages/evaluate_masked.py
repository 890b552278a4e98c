"""A model, heads to mask in it, and a task suite -> per-item records."""

from dataclasses import dataclass
from typing import ClassVar

from airlab.schema.evaluation import HarnessSpec
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.stages.build_tasks import BuildTasks
from airlab.stages.evaluate import suite
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir

_NO_SEED = 0
"""In the records' place for a training seed: the model was not trained here."""


@dataclass(frozen=True)
class EvaluateMasked(Stage):
    """lm-eval in its own process over a model with some heads masked, or none: ``records.parquet``.

    What AttentionInfluence's masking check (Table 6) measures. The record says which heads were masked.
    """

    VERSION: ClassVar[int] = 1

    model: Model
    heads: Stage | Files | None
    """A ranking, or a list of heads (see `airlab.heads.mask.read_mask`); None leaves the model intact."""
    masking: Masking | None
    """Which share of a ranking is masked, and how; None if there are no heads."""
    tasks: BuildTasks | HarnessSpec
    batch_size: int = 8
    """Requests in one forward pass; results agree to 1e-4 between batch sizes, not to the last bit."""

    def __post_init__(self) -> None:
        if (self.heads is None) != (self.masking is None):
            raise ValueError("heads and masking belong together: give both or neither")

    def slug(self) -> str:
        if self.heads is None:
            return "intact"
        if isinstance(self.heads, Files):
            return "heads"
        return f"{self.heads.name}-{self.heads.slug()}".rstrip("-")

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.evaluation.client import evaluate
        from airlab.heads.mask import read_mask

        asked = suite(work, self.tasks)
        mask = None
        if self.heads is not None and self.masking is not None:
            path = self.heads.path if isinstance(self.heads, Files) else work.input(self.heads) / "heads.json"
            mask = read_mask(path, self.masking.share_of_heads, self.masking.mode)
        with work.writing("records.parquet") as output:
            facts = evaluate(
                model_folder(work, self.model),
                asked,
                output,
                batch_size=self.batch_size,
                device=machine.device,
                seed=_NO_SEED,
                mask=mask,
            )
        work.note(**facts, masked_heads=[list(pair) for pair in mask.heads] if mask is not None else [])
