"""Every stage there is, by its word in the store."""

import importlib
import inspect
import pkgutil

import airlab.stages
from airlab.store.stage import Stage, word_of


def known_stages() -> frozenset[str]:
    """The words of all stages in this package."""
    modules = (
        importlib.import_module(info.name)
        for info in pkgutil.iter_modules(airlab.stages.__path__, "airlab.stages.")
    )
    found = (value for module in modules for value in vars(module).values() if isinstance(value, type))
    return frozenset(
        word_of(kind)
        for kind in found
        if issubclass(kind, Stage) and kind is not Stage and not inspect.isabstract(kind)
    )
