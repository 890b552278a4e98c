"""How fast a GPU works: measured where a committed benchmark says so, else assumed and called so."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from airlab.errors import UserError

_ENGINE = "engine-"
_PRODUCT = "{}, airlab's switches, for seconds"


@dataclass(frozen=True)
class Rate:
    """Useful floating-point operations a second of one GPU, and where the number comes from."""

    flops_per_s: float
    measured: bool
    told: str


@dataclass(frozen=True)
class ScoringSubject:
    """A model whose scoring was timed.

    Attributes:
        flops_per_token: useful operations of base and reference model together.
        tokens_per_s: documents' tokens through both.
        bytes_per_token: GPU memory that grows with the tokens of a forward pass.
    """

    name: str
    hidden_size: int
    flops_per_token: float
    tokens_per_s: float
    bytes_per_token: float


@dataclass(frozen=True)
class TrainingSubject:
    """A target whose training in bfloat16 was timed on one GPU.

    Attributes:
        flops_per_token: useful operations, see `airlab.planning.work`.
    """

    name: str
    flops_per_token: float
    tokens_per_s: float


@dataclass(frozen=True)
class Measured:
    """What the committed benchmarks say about one kind of GPU.

    Attributes:
        float32_share: rate of a matrix product in float32, as a share of bfloat16's.
    """

    gpu: str
    source: str
    subjects: tuple[ScoringSubject, ...]
    float32_share: float
    training_source: str
    targets: tuple[TrainingSubject, ...]

    def scoring(self, flops_per_token: float, *, bfloat16: bool) -> Rate:
        """The rate of the subject that is nearest in operations a token."""
        subject = self.nearest(flops_per_token)
        flops = subject.flops_per_token * subject.tokens_per_s
        told = f"{self.source}, model {subject.name} on one {self.gpu}: {flops / 1e12:.0f} TFLOP/s"
        if bfloat16:
            return Rate(flops, True, f"measured ({told})")
        told += f", times the measured {self.float32_share:.3f} between matrix products"
        return Rate(flops * self.float32_share, False, f"assumed in float32 ({told})")

    def nearest(self, flops_per_token: float) -> ScoringSubject:
        """The subject that is nearest in operations a token, as a ratio."""
        return min(self.subjects, key=lambda one: abs(math.log(one.flops_per_token / flops_per_token)))

    def training(self, flops_per_token: float) -> Rate | None:
        """In bfloat16 on one GPU, of the target that is nearest in operations a token.

        None where it has less than half or more than twice as many: of others nothing was measured.
        """
        near = min(self.targets, key=lambda one: abs(math.log(one.flops_per_token / flops_per_token)))
        if not 0.5 <= near.flops_per_token / flops_per_token <= 2:
            return None
        flops = near.flops_per_token * near.tokens_per_s
        told = f"{self.training_source}, target {near.name} on one {self.gpu}: {flops / 1e12:.0f} TFLOP/s"
        return Rate(flops, True, f"measured ({told})")

    def assumed(self, mfu: float, peak_tflops: float, *, bfloat16: bool) -> Rate:
        """A share of the peak, for what was never timed; a GPU's float32 is slower as measured."""
        flops = mfu * peak_tflops * 1e12 * (1.0 if bfloat16 else self.float32_share)
        precision = "bfloat16" if bfloat16 else "float32"
        return Rate(
            flops, False, f"assumed, never measured: {mfu:.0%} MFU in {precision}, {flops / 1e12:.0f} TFLOP/s"
        )


def read_measured(path: Path, training: Path) -> Measured:
    """The committed results of `benchmarks/scoring.py` and `benchmarks/training.py` on a GPU.

    Raises:
        UserError: a file is missing or of another form.
    """
    try:
        timed = json.loads(training.read_text(encoding="utf-8"))["sections"]
        sections = json.loads(path.read_text(encoding="utf-8"))["sections"]
        products = sections["bound"]["facts"]["flops"]
        # A size has a section of its own, whose first row is airlab's.
        targets = tuple(
            TrainingSubject(name, row["flops_per_token"]["causal"], row["tokens_per_second"])
            for name, row in ((name, section["rows"][0]) for name, section in timed.items())
            if name == row["contender"]["shape"]
        )
        if not targets:
            raise KeyError("no size was timed")
        return Measured(
            gpu=sections["bound"]["provenance"]["gpus"][0],
            source=path.name,
            subjects=tuple(
                _subject(section["facts"])
                for name, section in sections.items()
                if name.startswith(_ENGINE) and "airlab" in section["facts"]["rows"]
            ),
            float32_share=products[_PRODUCT.format("float32")] / products[_PRODUCT.format("bfloat16")],
            training_source=training.name,
            targets=targets,
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            f"the measured rates in {path} or {training} cannot be read ({type(error).__name__}: {error}); "
            "run benchmarks/scoring.py and benchmarks/training.py on a GPU, or reinstall airlab."
        ) from error


def _subject(facts: dict[str, object]) -> ScoringSubject:
    rows, subject = facts["rows"], facts["subject"]
    assert isinstance(rows, dict) and isinstance(subject, dict)
    full, half = rows["airlab"], rows["airlab-32768"]
    return ScoringSubject(
        name=subject["name"],
        hidden_size=subject["hidden"],
        flops_per_token=float(str(facts["flops_per_token"])),
        tokens_per_s=full["tokens_per_second"],
        bytes_per_token=(full["peak_gib"] - half["peak_gib"]) * 2**30 / (65_536 - 32_768),
    )
