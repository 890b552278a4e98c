"""The packed pass over a fixed number of tokens, recorded once as a CUDA graph and replayed.

A pass launches several hundred kernels, which costs a CPU about as long as a small model takes to
run them; a graph launches them at once. And since every pass has the same shape, the same kernels
compute it: what a sequence is packed with does not change its losses, not even by rounding.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch

from airlab.kernels.varlen_attention import QUERY_BLOCKS, query_tiles
from airlab.models.attention import Layout
from airlab.models.load import CausalLM
from airlab.models.packed import Reference, positions_of, run_layout
from airlab.progress import announce
from airlab.scoring.projection import position_losses

_FILLER = 128
"""Tokens of the sequences that fill up a pass: short ones, because attention is quadratic."""


class RecordedPass:
    """Base and reference losses of packed sequences, always `tokens` tokens at once.

    Attributes:
        tokens: of one pass, fillers included.
        sequences: the most that fit into one pass, however short they are.
    """

    def __init__(self, lm: CausalLM, reference: Reference, tokens: int) -> None:
        self.tokens = -(-tokens // _FILLER) * _FILLER
        self.sequences = self.tokens // _FILLER
        self._tokens = torch.zeros(self.tokens, dtype=torch.int64, device=lm.device)
        self._positions = torch.zeros_like(self._tokens)
        self._tiles = {
            block: torch.zeros(
                self.tokens // block + self.sequences + 1, 3, dtype=torch.int32, device=lm.device
            )
            for block in QUERY_BLOCKS
        }
        layout = Layout((self.tokens,), reference.heads, reference.mode, tiles=self._tiles)
        projection = lm.model.get_output_embeddings()

        def compute() -> torch.Tensor:
            states = run_layout(lm, self._tokens, self._positions, layout, two_rows=True)
            return position_losses(projection, states, self._tokens.roll(-1))

        self._compute = compute
        self._graph: torch.cuda.CUDAGraph | None = None
        with torch.inference_mode():
            stream = torch.cuda.Stream(lm.device)
            # The buffers above are zeroed on the current stream: before that they hold anything, and a token
            # that does not exist ends the process.
            stream.wait_stream(torch.cuda.current_stream(lm.device))
            with torch.cuda.stream(stream):
                for _ in range(2):  # the first run compiles, and nothing may compile while recording
                    compute()
                waits = _waits(compute)
            stream.synchronize()
            if waits:
                announce(
                    "this model makes the CPU wait for the GPU within a pass: scoring without recording it"
                )
                return
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=stream):
                self._columns = compute()

    @torch.inference_mode()
    def __call__(self, sequences: Sequence[np.ndarray]) -> tuple[list[int], torch.Tensor, torch.cuda.Event]:
        """Start a pass.

        Returns:
            The sequences' lengths, what will be `position_losses` of the packed tokens in host
            memory, and the event after which it is.
        """
        lengths = [len(s) for s in sequences]
        full, rest = divmod(self.tokens - sum(lengths), _FILLER)
        filled = lengths + [_FILLER] * full + [rest] * (rest > 0)
        tokens = np.zeros(self.tokens, dtype=np.int64)
        tokens[: sum(lengths)] = np.concatenate(sequences)
        for target, values in (
            (self._tokens, tokens),
            (self._positions, positions_of(filled)),
            *((self._tiles[block], query_tiles(filled, block)) for block in QUERY_BLOCKS),
        ):
            # Tiles left over from a pass with more of them must not run again.
            target[len(values) :].zero_()
            target[: len(values)].copy_(torch.from_numpy(values).pin_memory(), non_blocking=True)
        if self._graph is None:
            columns = self._compute()
        else:
            self._graph.replay()
            columns = self._columns
        columns = columns.to("cpu", non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return lengths, columns, done


def _waits(compute: Callable[[], object]) -> bool:
    """Whether a pass makes the host wait, as routing tokens to experts may: that cannot be recorded."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        compute()
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


@lru_cache(maxsize=1)
def recorded_pass(lm: CausalLM, reference: Reference, tokens: int) -> RecordedPass:
    """The recording of the last model, mask and size asked for."""
    return RecordedPass(lm, reference, tokens)
