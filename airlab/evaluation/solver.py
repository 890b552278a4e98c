"""The model behind tasks that are turns of a conversation. Imported only in the worker process.

lm-eval's own model class shows a chat and divides its tokens a little differently from how traces are shown
in training, and keeps every row until the last of its batch has ended. This one asks exactly as training did.
"""

from typing import Any

from airlab.errors import UserError
from airlab.evaluation.prompts import Prompts
from airlab.evaluation.reader import Likelihood, Reader
from airlab.models.generate import generate
from airlab.schema.traces import Rendering
from airlab.text.traces import Message


class Solver(Reader):
    """A checkpoint that is asked as its traces were.

    Greedy, and stopped by the token that ends a turn. The company in a batch changes a token only where the
    two best are as near as rounding.
    """

    def __init__(self, rendering: Rendering, **settings: Any) -> None:
        super().__init__(**settings)
        self.prompts = Prompts(self.tokenizer, rendering)
        self.truncated: set[str] = set()
        """Contexts whose answer had to be cut off."""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The text before an answer; the last turn, if it is the assistant's, is the answer's beginning."""
        turns = [Message(**turn) for turn in chat_history]  # type: ignore[arg-type]
        if add_generation_prompt:
            return self.prompts.text(turns)
        return self.prompts.text(turns[:-1], turns[-1].content)

    def tok_encode(self, string: str, *_: Any, **__: Any) -> list[int]:
        """Tokens as in training, whatever the harness would add."""
        return self.prompts.ids(string)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        return self.prompts.divided(context + continuation, len(context))

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers."""
        contexts = [request.args[0] for request in requests]
        (max_new_tokens,) = {request.args[1]["max_gen_toks"] for request in requests}
        asked = [self.tok_encode(context) for context in contexts]
        self._check(max(map(len, asked)) + max_new_tokens, f"with max_new_tokens={max_new_tokens}")
        written = generate(
            self.model,
            asked,
            ends=self.prompts.ends,
            max_new_tokens=max_new_tokens,
            batch_size=int(self.batch_size),
        )
        self.truncated |= {c for c, answer in zip(contexts, written, strict=True) if not answer.ended}
        return [self.tokenizer.decode(answer.ids, skip_special_tokens=True) for answer in written]

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], *_: Any, **__: Any
    ) -> list[Likelihood]:
        longest = max(len(context) + len(continuation) for _text, context, continuation in requests)
        self._check(longest, "with its solution")
        return super()._loglikelihood_tokens(requests)

    def _check(self, longest: int, what: str) -> None:
        # The last token is only predicted, never read.
        if longest - 1 > self.max_length:
            raise UserError(
                f"the evaluation has a problem of {longest} tokens {what} and the model's context is "
                f"{self.max_length}: lower evaluation.max_new_tokens, or ask shorter problems"
            )
