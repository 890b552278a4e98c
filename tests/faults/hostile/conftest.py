"""The command line, as in the tests of the commands."""

from tests.unit.cli.conftest import airlab, heads, model, refused

__all__ = ["airlab", "heads", "model", "refused"]
