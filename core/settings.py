"""Settings: read once from the environment into typed, immutable objects; a bad value fails at start.

pydantic validates, and the error names the variable. pydantic-settings would add 80 to 130 ms to the start of a
process, pydantic alone adds 50 to 75, and it reads from any mapping, not only from the process's own environment.
"""

from __future__ import annotations

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


STACK_FILE = "stack.json"
"""File in the data directory to which `botify up` writes the addresses of the embedded stack."""
REMEMBERED_FILE = "settings.json"
"""File in the data directory with what `remember` keeps."""
MOST_SHARDS = 64
"""Of the learned models; a reader keeps a snapshot of each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Environment variables override the data directory's files, which override the defaults.

    Attributes
    ----------
    home : Path
        Data directory of the embedded stack and the caches; without the variable `.botify` in the working directory or
        the nearest folder above that has one, up to the user's home directory (`BOTIFY_HOME`).
    kafka_bootstrap_servers : str
        `host:port[,host:port]` (`KAFKA_BOOTSTRAP_SERVERS`).
    kafka_security : Mapping[str, str]
        librdkafka's `security.*`, `sasl.*` and `ssl.*` properties, from variables such as `KAFKA_SECURITY_PROTOCOL` or
        `KAFKA_SASL_PASSWORD` (`core/kafka/security.py`); never shown in a repr.
    redis_url : str
        `redis://`, `rediss://` or, for Redis Cluster, `redis+cluster://` / `rediss+cluster://`, with user and password
        where needed (`REDIS_URL`); never shown in a repr, see `redis_address`.
    redis_ssl_ca_location : Path | None
        PEM file of the authority that signed Redis's certificate; without it the system's are trusted
        (`REDIS_SSL_CA_LOCATION`).
    schema_registry_url : str | None
        A Confluent-compatible registry, with user and password where needed; without it the committed ids serve
        (`SCHEMA_REGISTRY_URL`); never shown in a repr, see `schema_registry_address`.
    topic_prefix : str
        First part of every topic name (`BOTIFY_TOPIC_PREFIX`); tests use their own.
    partitions : int
        Partitions of a topic that does not exist yet (`BOTIFY_PARTITIONS`).
    layout : str
        Layout of the listens topic, empty for the first one. Programs find it at the brokers (`live_layout`), so it is
        not set by hand (`BOTIFY_LAYOUT`).
    replication_factor : int
        Replicas of a topic that does not exist yet (`BOTIFY_REPLICATION_FACTOR`).
    session_timeout_s : int
        How long a worker or recommender may be silent before its partitions are reassigned
        (`BOTIFY_SESSION_TIMEOUT_S`).
    group_instance_id : str | None
        Name of a worker or learner in its consumer group (static membership): the same after a restart, and unique. If
        it is back within the session timeout, it has its partitions again, and no other is rebalanced. None leaves the
        group at the end, and others take over at once (`BOTIFY_GROUP_INSTANCE_ID`).
    on_missing_state : str
        What a worker does if state is gone from Redis: `refuse` to continue, or `rebuild` it from the topic
        (`BOTIFY_ON_MISSING_STATE`).
    snapshot_listens : int | None
        The learner publishes its models at each multiple of so many listens; None for less often the more it has
        learned (`BOTIFY_SNAPSHOT_LISTENS`).
    model_mb : int
        Room in MB of a snapshot of each model of the learner (`BOTIFY_MODEL_MB`): of more tracks it forgets the least
        important ones. With another value models are trained again.
    learner_shards : int
        In how many shards learners learn: the partitions of the training topic (`BOTIFY_LEARNER_SHARDS`). At most as
        many as the listens have. The same for all programs; to change it, see `botify replay models --shards`.
    training : str
        Whether workers publish training batches: `on` or `off` (`BOTIFY_TRAINING`).
    experiments : Path | None
        The file that declares the experiments, or `course`; None for no experiment (`BOTIFY_EXPERIMENTS`).
    recommender : str | None
        The recommender of everybody who has none from an experiment; None for the `default` of the experiments file, or
        else `next_track` (`BOTIFY_RECOMMENDER`).
    dataset : str | None
        The imported dataset whose users are served: they are then named by their external ids (`BOTIFY_DATASET`).
    metrics_host : str
        Where a process serves `/metrics`, `/healthz` and `/readyz` (`BOTIFY_METRICS_HOST`).
    metrics_port : int | None
        The port of that; 0 takes any free one, None serves nothing (`BOTIFY_METRICS_PORT`).
    log_format : str
        How a process writes its log: `text` or `json` (`BOTIFY_LOG_FORMAT`).

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
        """The Redis URL as it may be shown: without user, password and options.

        Examples
        --------
        >>> Settings(redis_url="rediss://botify:secret@cache:6380/0").redis_address
        'rediss://***@cache:6380/0'
        """
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
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "kafka_security"}
        # None is an empty variable, so that the child does not take what the data directory remembers
        env = {_variable_of(name): "" if value is None else str(value) for name, value in values.items()}
        return env | {variable_of(key): value for key, value in self.kafka_security.items()}


def _variable_of(name: str) -> str:
    """Return a field's variable: its name, after `BOTIFY_` unless it is about a server."""
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
