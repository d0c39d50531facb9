"""Settings: read once from the environment into typed, immutable objects; a bad value fails at start.

pydantic validates, and the error names the variable. pydantic-settings would add 80 to 130 ms to the start of a
process, pydantic alone adds 50 to 75, and it reads from any mapping, not only from the process's own environment.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from stat import S_ISDIR
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar, get_type_hints
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, FilePath, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from botify.core.errors import SettingsError
from botify.core.files import write_durably
from botify.core.kafka.security import read_kafka_security, variable_of

T = TypeVar("T")


def read_environment(
    cls: type[T],
    variable_of: Callable[[str], str],
    environ: Mapping[str, str],
    given: Mapping[str, Any] = MappingProxyType({}),
) -> T:
    """Make a frozen dataclass from the variables of its fields, which its annotations validate; empty counts as unset.

    `given` has the values of fields without a variable. Raises `SettingsError`; for secrets its message has no value.
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


STACK_FILE = "stack.json"  # file in the data directory to which `botify up` writes the addresses of the embedded stack
REMEMBERED_FILE = "settings.json"  # file in the data directory with what `remember` keeps
MOST_SHARDS = 64  # of the learned models; a reader keeps a snapshot of each
WITHOUT_VARIABLE = ("kafka_security", "layout")  # fields that have no variable of one name


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Environment variables override the data directory's files, which override the defaults.

    A field's variable is its name in capitals, after `BOTIFY_` unless it begins with `kafka_`, `redis_` or
    `schema_registry_`. Fields with passwords are never shown in a repr; `redis_address` and `schema_registry_address`
    may be shown.

    - `home`: data directory of the embedded stack and the caches; without the variable `.botify` in the working
      directory or the nearest folder above that has one, up to the user's home directory.
    - `kafka_bootstrap_servers`: `host:port[,host:port]`.
    - `kafka_security`: librdkafka's `security.*`, `sasl.*` and `ssl.*` properties, from variables such as
      `KAFKA_SECURITY_PROTOCOL` or `KAFKA_SASL_PASSWORD` (`core/kafka/security.py`).
    - `redis_url`: `redis://`, `rediss://` or, for Redis Cluster, `redis+cluster://` and `rediss+cluster://`.
    - `redis_ssl_ca_location`: PEM file of the authority that signed Redis's certificate, in place of the system's.
    - `schema_registry_url`: a Confluent-compatible registry; without it the committed ids serve.
    - `topic_prefix`: first part of every topic name.
    - `partitions`, `replication_factor`: of a topic that does not exist yet.
    - `layout`: of the listens topic, empty for the first one; no variable, as programs ask the brokers (`live_layout`).
    - `session_timeout_s`: how long a worker or recommender may be silent before its partitions are reassigned.
    - `group_instance_id`: unique name of a worker or learner in its consumer group (static membership). If it is back
      within the session timeout, it has its partitions again, and no other is rebalanced. None leaves the group at the
      end, and others take over at once.
    - `on_missing_state`: `refuse` to continue if state is gone from Redis, or `rebuild` it from the topic.
    - `snapshot_listens`: the learner publishes its models at each multiple of this number of listens; None for less
      often the more it has learned.
    - `model_mb`: MB of a snapshot of each model of the learner, which forgets the least important tracks beyond it.
      With another value models are trained again.
    - `learner_shards`: partitions of the training topic, at most as many as the listens have. The same for all
      programs; to change it, see `botify verify --models --shards`.
    - `training`: whether workers publish training batches.
    - `experiments`: the file that declares the experiments, or `course`; None for no experiment.
    - `feedback`: the file of one's own kinds of feedback, and of rules (docs/v1.md); None for none.
    - `recommender`: of everybody who has none from an experiment; None for the `default` of the experiments file, or
      else `botify`.
    - `dataset`: the imported dataset whose users are served: they are then named by their external ids.
    - `metrics_host`, `metrics_port`: where a process serves `/metrics`, `/healthz` and `/readyz`; port 0 takes any free
      one, None serves nothing.
    - `log_format`: of a process, `text` or `json`.

    Examples
    --------
    >>> Settings.from_env({"BOTIFY_PARTITIONS": "4"}).partitions
    4
    >>> Settings.from_env({"BOTIFY_PARTITIONS": "none"})
    Traceback (most recent call last):
    botify.core.errors.SettingsError: BOTIFY_PARTITIONS: 'none' is not a whole number of 1 or more
    """

    home: AbsolutePath = Path(".botify")
    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_security: Mapping[str, str] = field(default_factory=dict, repr=False)
    redis_url: RedisUrl = field(default="redis://127.0.0.1:6379/0", repr=False)
    redis_ssl_ca_location: AbsoluteFile | None = None
    schema_registry_url: HttpUrl | None = field(default=None, repr=False)
    topic_prefix: str = "botify"
    partitions: Annotated[int, whole(1)] = 8
    layout: str = ""
    replication_factor: Annotated[int, whole(1)] = 1
    session_timeout_s: Annotated[int, whole(1)] = 10
    group_instance_id: str | None = None
    on_missing_state: Literal["refuse", "rebuild"] = "refuse"
    snapshot_listens: Annotated[int | None, whole(1)] = None
    model_mb: Annotated[int, whole(1, 256)] = 16
    learner_shards: Annotated[int, whole(1, MOST_SHARDS)] = 1
    training: Literal["on", "off"] = "on"
    experiments: AbsolutePath | None = None
    feedback: AbsoluteFile | None = None
    recommender: str | None = None
    dataset: str | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int | None, PORT] = None
    log_format: Literal["text", "json"] = "text"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the settings; raises `SettingsError` if a variable has a value that cannot be used."""
        env = os.environ if environ is None else environ
        home = find_home(env)
        remembered = {name: value for name, value in _written(home / REMEMBERED_FILE) if _variable_of(name) not in env}
        given = {"home": home, **remembered, **dict(_written(home / STACK_FILE))}
        settings = read_environment(cls, _variable_of, env, given | {"kafka_security": read_kafka_security(env)})
        if settings.redis_ssl_ca_location and not settings.redis_url.startswith("rediss"):
            raise SettingsError("REDIS_SSL_CA_LOCATION is set, but REDIS_URL does not begin with rediss: no TLS")
        return settings

    @property
    def redis_address(self) -> str:
        """The Redis URL as it may be shown: without user, password and options."""
        return _without_secrets(self.redis_url)

    @property
    def schema_registry_address(self) -> str:
        """The registry's URL as it may be shown; empty where there is none."""
        return _without_secrets(self.schema_registry_url or "")

    def with_(self, **changes: Any) -> Self:
        """Return a copy with some fields changed (tests and sub-processes)."""
        return replace(self, **changes)

    def to_env(self) -> dict[str, str]:
        """Return the variables that make `from_env` read this object again in a child process."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in WITHOUT_VARIABLE}
        # None is an empty variable, so that the child does not take what the data directory remembers
        env = {_variable_of(name): "" if value is None else str(value) for name, value in values.items()}
        return env | {variable_of(key): value for key, value in self.kafka_security.items()}


def _variable_of(name: str) -> str:
    """Return a field's variable: its name, after `BOTIFY_` unless it is about a server; empty where it has none."""
    if name in WITHOUT_VARIABLE:
        return ""
    return name.upper() if name.startswith(("kafka_", "redis_", "schema_registry_")) else f"BOTIFY_{name.upper()}"


def _without_secrets(url: str) -> str:
    return re.sub(r"//[^/]*@", "//***@", url.partition("?")[0])


def find_home(environ: Mapping[str, str]) -> Path:
    """Return `BOTIFY_HOME`, or the nearest `.botify` in the working directory or above.

    A folder of another user is not looked at: who can write to a shared one would choose the servers of all below it.
    """
    if given := environ.get("BOTIFY_HOME"):
        return Path(given).absolute()
    here, highest = Path.cwd(), Path(environ.get("HOME") or "/").resolve()
    for folder in (here, *here.parents):
        if _is_own_directory(folder / ".botify"):
            return folder / ".botify"
        if folder == highest:
            break
    return here / ".botify"


def _is_own_directory(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def remember(home: Path, **values: str | None) -> None:
    """Keep settings in a data directory, where all commands take them; None forgets one."""
    kept = {name: value for name, value in {**dict(_written(home / REMEMBERED_FILE)), **values}.items() if value}
    home.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"settings": kept}, indent=2) + "\n"
    write_durably(home / REMEMBERED_FILE, lambda new: new.write_text(text, encoding="utf-8"))


def _written(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a file; none if there is no file."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON ({error}); remove it and run `botify up`") from error
    known = {f.name for f in fields(Settings)}
    yield from ((name, value) for name, value in written.get("settings", {}).items() if name in known)
