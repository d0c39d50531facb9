"""Load a class of the user's own, named `module:Class`."""

import inspect
import pkgutil
import sys
from typing import Any

from botify.core.errors import LoadError


def load_object(name: str, wanted: str, **arguments: Any) -> Any:
    """Import `module:Class` (or `module:Class.method`), from the working directory too, and call it.

    `wanted` completes the message "... is not ...". The values are passed by position; their names are for the message.
    Raises `LoadError` if the name has another form, cannot be imported, or takes other arguments.
    """
    _, colon, attribute = name.partition(":")
    if not (colon and attribute):
        raise LoadError(f"{name!r} is not {wanted}, or module:Class for one of your own")
    if "" not in sys.path:
        sys.path.append("")  # a console script does not search the working directory by itself
    try:
        make = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise LoadError(f"{name!r} cannot be imported: {error}") from error
    # checked before the call: an error inside is the user's, with its traceback
    try:
        inspect.signature(make).bind(*arguments.values())
    except (TypeError, ValueError) as error:
        raise LoadError(f"{name!r} does not take {', '.join(arguments)}: {error}") from error
    return make(*arguments.values())
