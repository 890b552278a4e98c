"""What stages take, added up in groups."""

from collections.abc import Iterable
from dataclasses import dataclass

from airlab.planning.rates import Rate

SECONDS = 3600.0


@dataclass(frozen=True)
class Cost:
    """Of one stage or a group of them.

    Attributes:
        group: what it is listed under.
        stages: how many it stands for.
        tokens: that pass through a model, or that are written; None where nothing says how many.
        flops: useful floating-point operations on GPUs; 0 for work that needs none, None if unknown.
        gpu_bytes: memory of one GPU at most; None where no GPU is used or nothing is known.
        disk_bytes: left on disk when all is done, or needed meanwhile; None if unknown.
        rate: how fast a GPU does it; None where no GPU is used.
    """

    group: str
    stages: int = 1
    tokens: float | None = 0.0
    flops: float | None = 0.0
    gpu_bytes: float | None = None
    disk_bytes: float | None = 0.0
    rate: Rate | None = None

    @property
    def gpu_hours(self) -> float | None:
        """Hours of one GPU; more GPUs share them."""
        if self.flops is None:
            return None
        return self.flops / self.rate.flops_per_s / SECONDS if self.rate else 0.0


def grouped(costs: Iterable[Cost]) -> tuple[Cost, ...]:
    """One cost for every group and rate, in the order in which they begin."""
    groups: dict[tuple[str, Rate | None], list[Cost]] = {}
    for cost in costs:
        groups.setdefault((cost.group, cost.rate), []).append(cost)
    return tuple(_sum(name, rate, members) for (name, rate), members in groups.items())


def _sum(name: str, rate: Rate | None, costs: list[Cost]) -> Cost:
    return Cost(
        group=name,
        stages=sum(cost.stages for cost in costs),
        tokens=total(cost.tokens for cost in costs),
        flops=total(cost.flops for cost in costs),
        gpu_bytes=max((cost.gpu_bytes for cost in costs if cost.gpu_bytes is not None), default=None),
        disk_bytes=total(cost.disk_bytes for cost in costs),
        rate=rate,
    )


def total(values: Iterable[float | None]) -> float | None:
    """The sum; unknown if any part of it is."""
    known = list(values)
    return (
        None if any(value is None for value in known) else sum(value for value in known if value is not None)
    )
