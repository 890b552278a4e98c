"""Every selector, found by looking into this folder: a new one is one new file."""

import importlib
import json
import pkgutil
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from airlab.errors import UserError
from airlab.selection.selectors.base import SelectorBase


def _kinds_of(module: str) -> dict[str, type[SelectorBase]]:
    classes = getattr(importlib.import_module(f"{__name__}.{module}"), "SELECTORS", ())
    return {get_args(cls.model_fields["kind"].annotation)[0]: cls for cls in classes}


def known_selectors() -> dict[str, type[SelectorBase]]:
    """Selector classes by kind, sorted."""
    found: dict[str, type[SelectorBase]] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        found |= _kinds_of(module)
    return dict(sorted(found.items()))


def make_selector(settings: Mapping[str, Any]) -> SelectorBase:
    """A selector from its configuration.

    Raises:
        UserError: an unknown kind (the known ones are listed), or a wrong setting.
    """
    known = known_selectors()
    kind = settings.get("kind")
    if kind not in known:
        raise UserError(f"there is no selector {kind!r}; known selectors are {', '.join(known)}.")
    try:
        # JSON mode, as where configurations are bound: lists become tuples, integers may stand for floats.
        return known[kind].model_validate_json(json.dumps(dict(settings)))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"selector {kind}: {'.'.join(map(str, first['loc']))}: {first['msg']}; "
            f"it takes {', '.join(known[kind].model_fields)}."
        ) from None
