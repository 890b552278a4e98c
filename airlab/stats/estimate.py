"""A number and how sure we are of it."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A value with an interval; `low` and `high` are None when the interval is unknown, never 0.

    `n_items` counts independent units over which items vary (clusters, where items have them),
    `n_runs` training seeds.
    """

    value: float
    low: float | None
    high: float | None
    level: float
    method: str
    n_items: int
    n_runs: int

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has both ends or none")

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None

    def text(self, digits: int = 3, *, sign: bool = False) -> str:
        """``0.512 [0.470, 0.553]``, or ``0.512 [unknown]``."""
        form = f"{'+' if sign else ''}.{digits}f"
        if self.low is None or self.high is None:
            return f"{_number(self.value, form)} [unknown]"
        return f"{_number(self.value, form)} [{_number(self.low, form)}, {_number(self.high, form)}]"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; an unknown end is null."""
        return asdict(self)


def _number(value: float, form: str) -> str:
    text = format(value, form)
    # A rounded negative zero would read as a direction that is not there.
    return format(0.0, form) if float(text) == 0 else text
