"""Commands as users have them, with models whose numbers go wrong."""

from tests.unit.cli.conftest import airlab, heads, model, refused

__all__ = ["airlab", "heads", "model", "refused"]
