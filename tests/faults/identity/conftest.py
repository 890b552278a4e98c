"""Commands as users have them."""

from tests.unit.cli.conftest import airlab, heads, model, refused

__all__ = ["airlab", "heads", "model", "refused"]
