"""Make an object of the user's own class, named `module:Class`."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any

from core.errors import BotifyError


def load_object(name: str, wanted: str, error: type[BotifyError], **arguments: Any) -> Any:
    """Import `module:Class`, from the working directory too, and call it with the values of the arguments, in order.

    Parameters
    ----------
    name : str
        `module:Class`.
    wanted : str
        What it should name, for the message.
    error : type of BotifyError
        What is raised where there is none.
    **arguments
        By the names that a message gives them.

    Raises
    ------
    BotifyError
        An `error`: the name has another form, there is no such thing, or it takes other arguments.

    Examples
    --------
    >>> load_object("collections:Counter", "a counter", BotifyError, letters="aab")["a"]
    2
    >>> load_object("collections:Counter", "a counter", BotifyError, letters="aab", seed=1)
    Traceback (most recent call last):
    core.errors.BotifyError: 'collections:Counter' does not take letters, seed: too many positional arguments
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        raise error(f"{name!r} is not {wanted}, or module:Class for one of your own")
    if "" not in sys.path:
        sys.path.append("")  # a console script does not look into the working directory by itself
    try:
        make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as cause:
        raise error(f"{name!r} cannot be imported: {cause}") from cause
    # before it is called: what goes wrong inside is the user's own, with its traceback
    try:
        inspect.signature(make).bind(*arguments.values())
    except (TypeError, ValueError) as cause:
        raise error(f"{name!r} does not take {', '.join(arguments)}: {cause}") from cause
    return make(*arguments.values())
