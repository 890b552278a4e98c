"""Reasoning traces: which columns hold them, how they are shown to a model, and where their steps end."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from airlab.schema.base import Frozen
from airlab.schema.text import HubDataset
from airlab.schema.worked_problems import WorkedProblems

Layout = Literal["messages", "pair", "thinking"]
Word = Annotated[str, Field(min_length=1)]

CUES: tuple[str, ...] = (
    "First", "Second", "Third", "Next", "Then", "Now", "So", "Therefore", "Thus", "Hence", "Wait", "Hmm",
    "But", "However", "Alternatively", "Let me", "Let's", "Finally", "In conclusion", "Final answer",
)  # fmt: skip
"""Words that usually begin a new thought in English traces."""


class NamedTraceColumns(Frozen):
    """Which columns of the user's data hold what; null means: find it by its usual name.

    Three layouts are known: `messages` (a list of turns, the last assistant turn is the response), `pair`
    (prompt and response) and `thinking` (question, thinking, attempt; as in the s1 data sets).
    """

    layout: Layout | None = None
    """Null: the first of thinking, messages and pair whose columns are there."""
    messages: str | None = None
    system: str | None = None
    """What stands before the conversation in any layout."""
    prompt: str | None = None
    thinking: str | None = None
    response: str | None = None
    """In a thinking trace, what the user is shown in the end."""
    answer: str | None = None
    """The final answer that a verifier compares with."""
    order: str | None = None
    """A rank, 1 the best, that the data's own curators gave."""
    id: str | None = None
    domain: str | None = None
    default_domain: str = Field(default="all", min_length=1)
    """Domain of every trace where there is no domain column."""
    thinking_open: str = "<think>\n"
    thinking_close: str = "\n</think>\n\n"
    """Response of a thinking trace: thinking_open, thinking, thinking_close, attempt."""
    unusable: Literal["refuse", "skip"] = "refuse"
    """What happens to a trace without an assistant turn or with an empty response."""

    @model_validator(mode="after")
    def _of_one_layout(self) -> Self:
        if self.messages and (self.prompt or self.thinking or self.response):
            raise ValueError("messages hold prompt and response: name either messages or the other columns")
        belongs = {"messages": ("messages",), "pair": ("prompt", "response"), "thinking": _OF_THINKING}
        for name in ("messages", *_OF_THINKING):
            if self.layout and getattr(self, name) and name not in belongs[self.layout]:
                raise ValueError(f"the layout '{self.layout}' has no column '{name}'")
        return self


_OF_THINKING = ("prompt", "thinking", "response")


class TraceColumns(NamedTraceColumns):
    """The columns alone, as part of what is read."""


class GeneratedTraces(Frozen):
    """Worked problems whose every step is of a known kind."""

    kind: Literal["generated"]
    problems: WorkedProblems


class LocalTraces(Frozen):
    """The user's own file or folder."""

    kind: Literal["local"]
    path: str
    columns: TraceColumns


class HubTraces(Frozen):
    """A data set on a hub at a pinned commit."""

    kind: Literal["hub"]
    hub: HubDataset
    columns: TraceColumns


TraceSource = Annotated[GeneratedTraces | LocalTraces | HubTraces, Field(discriminator="kind")]
"""Any traces that a configuration may name."""


class Rendering(Frozen):
    """How a trace becomes the one text that a model reads."""

    template: Literal["chat", "plain"] = "chat"
    """`chat`: the tokenizer's own chat template. `plain`: prompt, separator, response; without a prompt the
    response alone, read exactly as a document is."""
    separator: str = "\n\n"
    """Between prompt and response of a plain text."""
    special_text: Literal["skip", "token"] = "skip"
    """What happens in a chat where a message spells one of the tokenizer's special tokens: the trace is
    listed as skipped, or the text is read as that token, as the tokenizer's own call does."""


class Segmentation(Frozen):
    """Where a response is cut into steps; see `airlab.text.steps.cut`."""

    rule: Literal["whole", "blank_line", "newline", "sentence", "cue", "fixed_tokens", "given"] = "blank_line"
    """`whole`: one step. `given`: the ends that the data name."""
    cues: tuple[Word, ...] = CUES
    """Rule `cue`: words that begin a step where they begin a line or a sentence; numbers of steps and of
    lists always do."""
    tokens_per_step: PositiveInt = 64
    """Rule `fixed_tokens`: tokens of a step, more where it would end inside of what is never cut; the last
    may have fewer."""


class Aggregation(Frozen):
    """From the scores of a trace's steps to the score of the trace."""

    kind: Literal["trace", "token_mean", "step_mean", "maximum", "top_k_mean"] = "trace"
    """`trace`: relative increase of the whole response's loss, as of a document. The others are taken over
    the steps' own relative increases."""
    k: PositiveInt = 3
    """Rule `top_k_mean`: the mean of the k highest, or of all where there are fewer."""
    least_loss: NonNegativeFloat = 0.01
    """Nats a token that a step's base loss counts for at least: increases relative to nearly nothing say
    nothing."""
