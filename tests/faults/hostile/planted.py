"""A pickle whose harm can be seen: loading it makes a file."""

from pathlib import Path


class Evil:
    """Makes `mark` when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)
