"""A model that writes answers to the prompts of traces, and which of them are kept."""

from collections.abc import Callable, Sequence
from pathlib import Path

from airlab.evaluation.prompts import Prompts
from airlab.models.device import DTYPES, use_device
from airlab.models.generate import generate, load_writer, sampled
from airlab.models.geometry import Geometry
from airlab.randomness import generator
from airlab.schema.machine import Machine
from airlab.schema.traces import Rendering
from airlab.schema.writing import Writing
from airlab.text.documents import Skipped
from airlab.text.traces import Trace
from airlab.text.worked.answers import is_right


class Teacher:
    """A loaded model and how it is asked."""

    def __init__(self, folder: Path, rendering: Rendering, writing: Writing, machine: Machine) -> None:
        """Raises UserError, see `load_writer`."""
        self._model, self._tokenizer, self._source = load_writer(
            folder, device=use_device(machine), dtype=DTYPES[writing.precision]
        )
        self._prompts = Prompts(self._tokenizer, rendering)
        self._writing = writing
        self._context = Geometry.of(self._model.config).context
        self._tokens_at_once = machine.tokens_per_batch

    def answers(
        self, traces: Sequence[Trace], advance: Callable[[int], None]
    ) -> tuple[list[Trace], list[Skipped]]:
        """The answers that are kept, in the traces' order, and those that are not, with the reason.

        Raises:
            UserError: the chat template cannot show a prompt, see `airlab.text.rendering.render`.
        """
        asked: list[tuple[Trace, str, list[int]]] = []
        skipped: list[Skipped] = []
        for trace in traces:
            prompt = self._prompt(trace)
            for unit_id in self._names(trace):
                if isinstance(prompt, str):
                    skipped.append(Skipped(unit_id, trace.domain, prompt))
                    advance(1)
                else:
                    asked.append((trace, unit_id, prompt))
        if not asked:
            return [], skipped
        temperature = self._writing.temperature
        own = [generator(self._writing.seed, "written answer", unit_id) for _, unit_id, _ in asked]
        written = generate(
            self._model,
            [prompt for _, _, prompt in asked],
            ends=self._prompts.ends,
            max_new_tokens=self._writing.max_new_tokens,
            batch_size=max(1, self._tokens_at_once // max(len(prompt) for _, _, prompt in asked)),
            choose=None if temperature is None else sampled(own, temperature, self._writing.top_p),
            advance=advance,
        )
        kept: list[Trace] = []
        said: set[tuple[str, str]] = set()
        for (trace, unit_id, _), answer in zip(asked, written, strict=True):
            text = self._tokenizer.decode(answer.ids, skip_special_tokens=True).strip()
            reason = self._reason(trace, text, answer.ended)
            if reason is None and (trace.unit_id, text) in said:
                reason = "the same answer once more"
            said.add((trace.unit_id, text))
            if reason is None:
                kept.append(
                    Trace(
                        unit_id, trace.domain, trace.messages, text, source=self._source, answer=trace.answer
                    )
                )
            else:
                skipped.append(Skipped(unit_id, trace.domain, reason))
        return kept, skipped

    def _names(self, trace: Trace) -> list[str]:
        if self._writing.samples == 1:
            return [trace.unit_id]
        return [f"{trace.unit_id}~{number}" for number in range(self._writing.samples)]

    def _prompt(self, trace: Trace) -> list[int] | str:
        """Its tokens, or why it is not asked."""
        if self._writing.keep == "right" and trace.answer is None:
            return "no answer to compare with"
        if (reason := self._prompts.unusable(trace.messages)) is not None:
            return reason
        ids = self._prompts.ids(self._prompts.text(trace.messages))
        if not ids:
            return "no prompt"
        if len(ids) + self._writing.max_new_tokens > self._context:
            return f"longer than {self._context} tokens with an answer"
        return ids

    def _reason(self, trace: Trace, text: str, ended: bool) -> str | None:
        """Why an answer is not kept."""
        if not ended:
            return f"cut off at {self._writing.max_new_tokens} tokens"
        if not text:
            return "an empty answer"
        if self._writing.keep == "right" and not is_right(text, trace.answer or ""):
            return "a wrong answer"
        return None
