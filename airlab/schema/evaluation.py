"""What is measured on a trained target: tasks built from held-out text, or the harness's own benchmarks."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from airlab.schema.base import Frozen
from airlab.schema.traces import Rendering, Word
from airlab.schema.worked_problems import Split

LOWER = False
HIGHER = True

METRICS: dict[str, bool] = {
    "bits_per_byte": LOWER,
    "answer_nats": LOWER,
    "acc": HIGHER,
    "acc_norm": HIGHER,
    "margin": HIGHER,
    "exact_match": HIGHER,
    "truncated": LOWER,
}
"""Metric of a local task -> whether higher is better. `airlab.evaluation.harness` states each one's unit."""

CHOICE_METRICS = ("acc", "acc_norm", "answer_nats", "margin")
LIKELIHOOD_METRICS = ("answer_nats", "acc")
WORKED_METRICS = {
    "solved": ("exact_match", "truncated"),
    "worked": ("answer_nats",),
    "final": ("answer_nats",),
}
"""What is asked about worked problems -> its metrics, the first of which is the one to compare by."""


class PlannedTask(Frozen):
    """A task that a specification will make: known before any text is read."""

    name: str
    metrics: tuple[str, ...]


class BitsPerByte(Frozen):
    """Held-out text, one task a domain (``bits_per_byte_<domain>``): the lowest-noise metric there is."""

    kind: Literal["bits_per_byte"] = "bits_per_byte"
    items: PositiveInt = 60
    domains: tuple[str, ...] = Field(min_length=1)
    max_bytes: PositiveInt = 512
    """Documents are cut into pieces of this length at character boundaries, from their beginning; later
    pieces are taken only when there are fewer documents than items."""
    min_bytes: PositiveInt = 256
    """Shorter pieces are not taken, so that items weigh alike."""

    def planned(self) -> tuple[PlannedTask, ...]:
        """One task a domain."""
        return tuple(
            PlannedTask(name=f"bits_per_byte_{domain}", metrics=("bits_per_byte",)) for domain in self.domains
        )


class KeyRetrieval(Frozen):
    """Return the value of a key that stands in the context: what retrieval heads do."""

    kind: Literal["key_retrieval"] = "key_retrieval"
    items: PositiveInt = 60
    pairs: Annotated[int, Field(ge=2)] = 6
    """Key/value lines in the context; the choices are all their values, so chance is 1/pairs."""

    def planned(self) -> tuple[PlannedTask, ...]:
        """A single task."""
        return (PlannedTask(name=self.kind, metrics=CHOICE_METRICS),)


class Copying(Frozen):
    """A random word sequence twice: how likely is the second copy."""

    kind: Literal["copying"] = "copying"
    items: PositiveInt = 60
    words: PositiveInt = 24

    def planned(self) -> tuple[PlannedTask, ...]:
        """A single task."""
        return (PlannedTask(name=self.kind, metrics=LIKELIHOOD_METRICS),)


class Reasoning(Frozen):
    """Verified problems: the worked answer given the question, the final answer given question and steps."""

    kind: Literal["reasoning"] = "reasoning"
    items: PositiveInt = 60
    domain: str = "reasoning"
    max_bytes: PositiveInt = 600
    """Longer problems are not taken: a question cut in two cannot be answered."""

    def planned(self) -> tuple[PlannedTask, ...]:
        """Two tasks over the same documents."""
        return (
            PlannedTask(name="reasoning_worked", metrics=LIKELIHOOD_METRICS),
            PlannedTask(name="reasoning_final", metrics=LIKELIHOOD_METRICS),
        )


class Choices(Frozen):
    """A multiple-choice set of held-out documents; wrong choices come from others of the same domain."""

    kind: Literal["next_passage", "next_step", "title", "definition", "docstring"]
    items: PositiveInt = 60
    domains: tuple[str, ...] = Field(min_length=1)
    sources: tuple[str, ...] | None = None
    """Only documents of these sources (package names); null takes every source of the domains."""
    choices: Annotated[int, Field(ge=2)] = 4
    prompt_bytes: PositiveInt = 200
    choice_bytes: PositiveInt = 100

    def planned(self) -> tuple[PlannedTask, ...]:
        """A single task."""
        return (PlannedTask(name=self.kind, metrics=CHOICE_METRICS),)


LocalTask = Annotated[BitsPerByte | KeyRetrieval | Copying | Reasoning | Choices, Field(discriminator="kind")]


class TaskSpec(Frozen):
    """Tasks built from a corpus's held-out documents, run by lm-eval without a network."""

    kind: Literal["local"] = "local"
    tasks: tuple[LocalTask, ...] = Field(min_length=1)
    minimum_items: PositiveInt = 20
    """A task the held-out text cannot fill to this many items is refused, never quietly made smaller."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "TaskSpec":
        names = [task.name for task in self.planned()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two tasks of the evaluation have the same name: {', '.join(twice)}")
        return self

    def planned(self) -> tuple[PlannedTask, ...]:
        """Every task this makes, in order."""
        return tuple(planned for task in self.tasks for planned in task.planned())


HELD_OUT: tuple[Split, ...] = ("heldout", "harder", "unseen")
"""Splits of a corpus of worked problems that no trace of the pool is from."""


class WorkedTaskSpec(Frozen):
    """Worked problems that the pool does not have: to be solved in free text, and how likely solutions are.

    A column a level for held-out problems, and one each, over all levels alike, for harder problems and for
    those of generators that the pool does not have.
    """

    kind: Literal["worked"] = "worked"
    levels: tuple[Word, ...] = Field(default=("school", "formulas", "university"), min_length=1)
    """The corpus's levels; those that are left out are not asked."""
    harder: bool = True
    """Problems beyond the pool's difficulty."""
    unseen: bool = True
    """Problems of other generators than the pool's."""
    solved_items: PositiveInt = 60
    """Problems a column that the model solves by itself, greedily: what takes the time."""
    likelihood_items: PositiveInt = 60
    """Problems a column whose given solution, and given answer after its steps, are read."""
    max_new_tokens: PositiveInt = 384
    """Tokens of a model's solution. One that has not ended by then is wrong, and is counted."""
    rendering: Rendering = Rendering()
    """How problems are shown: as the traces that the model was trained on were."""
    minimum_items: PositiveInt = 20
    """A column that the corpus cannot fill to this many items is refused, never quietly made smaller."""

    @model_validator(mode="after")
    def _consistent(self) -> "WorkedTaskSpec":
        if len({*self.levels, *HELD_OUT}) < len(self.levels) + len(HELD_OUT):
            raise ValueError("levels must differ, and none may be called heldout, harder or unseen")
        if min(self.solved_items, self.likelihood_items) < self.minimum_items:
            raise ValueError("solved_items and likelihood_items must not be below minimum_items")
        return self

    def columns(self) -> tuple[str, ...]:
        """What problems are told apart by: the levels, `harder` and `unseen`."""
        return (*self.levels, *(["harder"] if self.harder else []), *(["unseen"] if self.unseen else []))

    def planned(self) -> tuple[PlannedTask, ...]:
        """`solved_<column>` for all columns, then `worked_<column>`, then `final_<column>`."""
        return tuple(
            PlannedTask(name=f"{asked}_{column}", metrics=metrics)
            for asked, metrics in WORKED_METRICS.items()
            for column in self.columns()
        )


class Sampling(Frozen):
    """Several sampled answers a question, instead of one greedy answer."""

    samples: PositiveInt
    temperature: PositiveFloat
    top_p: Annotated[float, Field(gt=0, le=1)]


class HarnessTask(Frozen):
    """One benchmark by its lm-eval name (a task or a group)."""

    name: str
    """The table's column, e.g. ``ARC-C``."""
    harness_name: str
    shots: Annotated[int, Field(ge=0)]
    metric: str
    filter: str = "none"
    """lm-eval's answer filter, e.g. ``flexible-extract``."""
    sampling: Sampling | None = None
    chat: bool = False
    """Whether the question goes through the tokenizer's chat template."""
    max_new_tokens: PositiveInt | None = None
    """Tokens of a greedy answer; null leaves it to the benchmark."""
    judge: Literal["own", "last_boxed"] = "own"
    """`last_boxed`: the answer stands in the last ``\\boxed{}``, as the harness's AIME tasks judge."""

    @model_validator(mode="after")
    def _one_way_to_answer(self) -> "HarnessTask":
        if self.sampling is not None and self.max_new_tokens is not None:
            raise ValueError(f"{self.name}: max_new_tokens is for greedy answers; leave it or sampling out")
        return self


class HarnessSpec(Frozen):
    """The harness's own benchmarks; their data come from a hub."""

    kind: Literal["harness"] = "harness"
    tasks: tuple[HarnessTask, ...] = Field(min_length=1)
    allow_code_execution: bool = False
    """HumanEval runs the programs a model wrote; without this it is refused."""

    def planned(self) -> tuple[PlannedTask, ...]:
        """Every benchmark, in order."""
        return tuple(PlannedTask(name=task.name, metrics=(task.metric,)) for task in self.tasks)


EvaluationSpec = Annotated[TaskSpec | HarnessSpec, Field(discriminator="kind")]
"""What ``configs/evaluation/*.yaml`` binds to."""

TraceEvaluation = Annotated[WorkedTaskSpec | HarnessSpec, Field(discriminator="kind")]
"""What an experiment on traces takes of ``configs/evaluation/*.yaml``."""
