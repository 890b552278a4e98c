"""Fixed-length training sequences out of a token stream, with documents that do not see each other."""

from dataclasses import dataclass

import numpy as np
import torch

from airlab.selection.mixture import Mixture

NO_TARGET = -100


@dataclass(frozen=True)
class Batch:
    """Packed sequences, each tensor int64 [sequences, context]."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    """Restart at 0 where a document, or a sequence, begins: the attention mask follows from them."""
    labels: torch.Tensor
    """The next token; NO_TARGET only at the very end of the stream."""


class PackedSequences:
    """Sequence `i` holds tokens `i * context` to `(i + 1) * context` of the stream.

    Documents in the stream open with the end-of-text token. So the last token of a document
    predicts that the document ends, and the first real token of the next is predicted from the
    end-of-text token alone, which is how an evaluation harness conditions it too. The last token of
    a sequence predicts the first of the next one. A document cut by a sequence's border goes on at
    position 0 of the next sequence.
    """

    def __init__(self, mixture: Mixture) -> None:
        self.context = mixture.context
        self._tokens = mixture.tokens()
        self._starts = mixture.starts()
        self.n_sequences = len(self._tokens) // self.context

    def batch(self, sequences: np.ndarray) -> Batch:
        """The sequences with these indices (int64 [n])."""
        first = sequences.astype(np.int64)[:, None] * self.context
        at = first + np.arange(self.context, dtype=np.int64)
        document = self._starts[np.searchsorted(self._starts, at, side="right") - 1]
        positions = at - np.maximum(document, first)
        following = np.minimum(at + 1, len(self._tokens) - 1)
        labels = np.where(at + 1 < len(self._tokens), self._tokens[following].astype(np.int64), NO_TARGET)
        return Batch(
            input_ids=torch.from_numpy(self._tokens[at].astype(np.int64)),
            position_ids=torch.from_numpy(positions),
            labels=torch.from_numpy(labels),
        )

    def tensors(self, sequences: np.ndarray) -> tuple[torch.Tensor, ...]:
        """The same as `SummedLoss` takes them."""
        batch = self.batch(sequences)
        return batch.input_ids, batch.position_ids, batch.labels

    def n_targets(self, first: int, last: int) -> int:
        """Predicted tokens in the sequences from `first` up to, not including, `last`."""
        n_tokens = self.n_tokens(first, last)
        return n_tokens - 1 if last * self.context == len(self._tokens) else n_tokens

    def n_tokens(self, first: int, last: int) -> int:
        """Tokens in these sequences."""
        return (last - first) * self.context
