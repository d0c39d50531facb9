"""Read a typed, immutable object from environment variables: pydantic validates, the error names the variable.

pydantic-settings would add 80 to 130 ms to the start of a process, pydantic alone adds 50 to 75, and it reads from any
mapping, not only from the process's own environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_type_hints
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, FilePath, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from botify.core.errors import SettingsError

T = TypeVar("T")


def read_environment(
    cls: type[T],
    variable_of: Callable[[str], str],
    environ: Mapping[str, str],
    given: Mapping[str, Any] = MappingProxyType({}),
) -> T:
    """Make a dataclass from the variables of its fields; an empty variable counts as unset.

    Parameters
    ----------
    cls : type
        A frozen dataclass; its annotations validate the values.
    variable_of : callable
        Maps a field's name to its variable.
    environ : mapping
        The variables.
    given : mapping
        Values of fields that have no variable.

    Raises
    ------
    SettingsError
        A variable is not valid; for secrets the message leaves the value out.
    """
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    values = {name: raw for name in names if (raw := environ.get(variable_of(name)))}
    try:
        validated: T = _adapter(cls).validate_python({**given, **values})  # type: ignore[arg-type]  # classes can be hashed
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        # without its cause: pydantic's error shows values, and some are secrets
        raise SettingsError(f"{variable_of(name)}: {_reason(cls, name, first)}") from None
    return validated


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _reason(cls: type, name: str, error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])
        case "literal_error":
            choices = error["ctx"]["expected"].replace("'", "").replace(" or ", " nor ")
            return f"{error['input']!r} is neither {choices}"
        case "path_not_file":
            return f"file {error['input']} does not exist"
    hint = get_type_hints(cls, include_extras=True)[name]
    wanted = [one.description for one in getattr(hint, "__metadata__", ()) if isinstance(one, FieldInfo)]
    return f"{error['input']!r} is not {wanted[0]}" if wanted else str(error["msg"])


def whole(lowest: int, highest: int | None = None) -> Any:
    """Return the bounds of a whole number, for `Annotated[int, whole(1)]`."""
    bounds = f"of {lowest} or more" if highest is None else f"from {lowest} to {highest}"
    return Field(ge=lowest, le=highest, description=f"a whole number {bounds}")


PORT = Field(ge=0, le=65_535, description="a port, a whole number of 0 to 65535")
"""A port; 0 lets the system choose."""


def _url(*schemes: str, form: str) -> AfterValidator:
    """Return a check that all URL parsers read an address alike; messages leave out the value, which has a password."""

    def check(raw: str) -> str:
        if not raw.startswith(schemes):
            raise ValueError(f"the address must start with one of {', '.join(schemes)}")
        url = urlsplit(raw)
        try:
            readable = url.port != 0 and "@" not in url.path + url.query + url.fragment
        except ValueError:
            readable = False
        if not readable:
            raise ValueError(f"not {form}; percent-encode / ? # @ : in it")
        return raw

    return AfterValidator(check)


RedisUrl = Annotated[
    str,
    _url("redis://", "rediss://", "redis+cluster://", "rediss+cluster://", form="scheme://user:password@host:port/db"),
]
HttpUrl = Annotated[str, _url("http://", "https://", form="https://user:password@host:port/path")]
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
AbsoluteFile = Annotated[FilePath, AfterValidator(Path.absolute)]
