"""What the command line says, and the sizes that follow from it."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from airlab.schema.machine import Machine

_MACHINES = Path(__file__).resolve().parents[2] / "configs" / "machine"
_MACHINE = {"cpu": "cpu.yaml", "cuda": "gpu1.yaml"}


@dataclass(frozen=True)
class Options:
    """Settings of one invocation.

    Attributes:
        rehearsal: tiny models and few documents: whether everything runs, not how fast.
        model, heads, documents: real inputs; None where a section can do without or makes its own.
        count: documents of the sections on real text; None for each section's own number.
        rivals: which of `contenders.RIVALS` the engine sections time.
    """

    device: str
    rehearsal: bool
    model: Path | None
    heads: Path | None
    documents: Path | None
    count: int | None
    repeats: int
    rivals: tuple[str, ...]
    scratch: Path

    @classmethod
    def of(cls, given: argparse.Namespace, scratch: Path) -> "Options":
        """From the parsed command line.

        Args:
            scratch: an empty folder for what a section has to write on the way.
        """
        return cls(
            device=given.device,
            rehearsal=given.rehearse,
            model=given.model,
            heads=given.heads,
            documents=given.documents,
            count=given.count,
            repeats=given.repeats,
            rivals=tuple(given.rivals),
            scratch=scratch,
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations in the engine sections."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32

    @property
    def tokens_per_step(self) -> int:
        """Packed tokens of one forward pass."""
        return self.machine().tokens_per_batch

    @property
    def steps(self) -> int:
        """Steps that the engine sections' documents fill."""
        return 3 if self.rehearsal else 12

    @property
    def longest_document(self) -> int:
        """Tokens; documents of the engine sections are scaled to it, real ones cut."""
        return 512 if self.rehearsal else 4096

    @property
    def matmul_size(self) -> int:
        """Rows and columns of the matrices that measure the bound."""
        return 256 if self.rehearsal else 8192 if self.device == "cuda" else 2048

    @property
    def copy_mebibytes(self) -> int:
        """Size of the copy that measures the second bound."""
        return 8 if self.rehearsal else 4096 if self.device == "cuda" else 512

    def machine(self) -> Machine:
        """What users of `machine=cpu` and `machine=gpu1` get, in smaller steps for a rehearsal."""
        settings = yaml.safe_load((_MACHINES / _MACHINE[self.device]).read_text())
        return Machine(**settings | ({"tokens_per_batch": 1024} if self.rehearsal else {}))
