"""Import a class of the user's own by `module:Class`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from sim.errors import SimulationError


def load_class(name: str, wanted: str) -> Callable[..., Any]:
    """Import `module:Class`, from the working directory too.

    Raises
    ------
    SimulationError
        The name has another form, or there is no such thing.

    Examples
    --------
    >>> load_class("collections:Counter", "a counter")("aab")["a"]
    2
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        raise SimulationError(f"{name!r} is not {wanted}, or module:Class for one of your own")
    if "" not in sys.path:
        sys.path.append("")  # a console script does not look into the working directory by itself
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SimulationError(f"{name!r} cannot be imported: {error}") from error
    return found
