"""`botify topics` and `botify inspect` on real servers."""

import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from botify.core.errors import SettingsError
from botify.core.settings import Settings
from botify.schemas.external_ids import datasets_directory
from botify.schemas.topics import Topics, create_topics
from botify.services.errors import StateError
from botify.services.gateway import GatewayOptions
from tests.commands import as_json, botify
from tests.support import all_folded, deployed, eventually, make_listens, make_tracks, produce, running, write_catalogue

LISTENS = make_listens(300, users=20, tracks=50, seed=1)
OF_3 = [listen for listen in LISTENS if listen.user == 3]


@pytest.fixture(scope="module")
def folded(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = deployed(servers, tmp_path_factory.mktemp("folded"))
    write_catalogue(settings, 50)
    produce(settings, Topics.of(settings).listens.name, LISTENS)
    with running(settings, "botify.streams.worker"):
        eventually(all_folded(settings))
    return settings


def test_topics_are_made_and_listed(settings: Settings) -> None:
    produce(settings, Topics.of(settings).listens.name, make_listens(7, users=3, tracks=3))
    listed = botify(settings, "topics", "create")
    for topic in Topics.of(settings).all():
        lines = [line for line in listed.output.splitlines() if topic.name in line]
        assert len(lines) == 1, listed.output
        assert lines[0].split()[-2:] == [str(topic.partitions or 4), "7" if "listens" in topic.name else "0"]
    missing = as_json(settings.with_(topic_prefix=f"{settings.topic_prefix}-no"), "topics", "create")
    assert {one["records"] for one in missing} == {0}


def test_a_tenant_has_topics_and_a_file(settings: Settings) -> None:
    name, other = f"t-{uuid.uuid4().hex[:8]}", f"t-{uuid.uuid4().hex[:8]}"
    botify(settings, "topics", "create", "--tenant", name, "--rate", "50")
    file = settings.home / "tenants" / f"{name}.env"
    assert file.stat().st_mode & 0o777 == 0o600
    env = dict(line.split("=", 1) for line in file.read_text().splitlines())
    theirs, options = Settings.from_env({**settings.to_env(), **env}), GatewayOptions.from_env(env)
    assert theirs == settings.with_(topic_prefix=name)
    assert (options.rate_per_s, options.port, len(options.token or "")) == (50, 8001, 64)
    assert create_topics(theirs) == [], "all topics are there"
    botify(settings, "topics", "create", "--tenant", other)
    listed = as_json(settings, "topics", "create", "--tenants")
    assert {one["tenant"]: (one["prefix"], one["port"]) for one in listed} == {name: (name, 8001), other: (other, 8002)}
    assert (options.token or "") not in botify(settings, "topics", "create", "--tenants").output
    (settings.home / "tenants" / f"{other}.env").unlink()
    for arguments, why in (
        ([name], "there is a tenant"), ([other], "is the prefix of something else"), (["No!"], "a name is a word"),
        (["t-new", "--port", "8001"], f"port 8001 is that of tenant {name}"),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=why):
            botify(settings, "topics", "create", "--tenant", *arguments)


def test_a_listener_is_shown_with_the_last_listens_as_a_table_and_as_json(folded: Settings) -> None:
    user = as_json(folded, "inspect", "3")
    assert (user["listens"], user["number"]) == (len(OF_3), 3)
    newest = user["last_listens"][0]
    assert (newest["track"], newest["title"]) == (OF_3[-1].track, f"track {OF_3[-1].track}")
    popular = as_json(folded, "inspect", "--count", "5")
    assert [one["listens"] for one in popular] == sorted((one["listens"] for one in popular), reverse=True)
    topics = {one["topic"]: one for one in as_json(folded, "topics", "create")}
    assert topics[Topics.of(folded).listens.name]["records"] == 300
    shown = botify(folded, "inspect", "3")
    assert f"listener 3: {len(OF_3)} listens" in shown.output
    assert OF_3[-1].session_id in shown.output
    rows = [line for line in shown.output.splitlines() if line.startswith("│")]
    assert f"track {OF_3[-1].track}" in rows[0]
    assert f"{OF_3[-1].fraction:.0%}" in rows[0]
    assert len(rows) == len(OF_3)


def test_external_ids_are_shown_and_accepted(folded: Settings) -> None:
    tracks = [track._replace(external_id=f"spotify:{track.track}") for track in make_tracks(50)]
    produce(folded, Topics.of(folded).catalogue.name, tracks)
    directory = datasets_directory(folded.home) / "mine"
    directory.mkdir(parents=True)
    users = pa.table({"id": range(20), "external_id": [f"u{n}" for n in range(20)]})
    pq.write_table(users, directory / "users.parquet")
    shown = botify(folded.with_(dataset="mine"), "inspect", "u3").output
    assert f"listener u3 (number 3): {len(OF_3)} listens" in shown
    assert f"spotify:{OF_3[-1].track} " in next(line for line in shown.splitlines() if line.startswith("│"))
    assert "spotify:" in botify(folded, "inspect").output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["inspect", "4711"], "listener 4711 has no listens"),
        (["inspect"], "has no listens yet; `botify sim` simulates some"),
        (["inspect", "--half-life", "2d"], "half-life '2d' is not one of 1h, 1d, 30d"),
    ],
)
def test_what_cannot_be_shown_says_why(settings: Settings, arguments: list[str], why: str) -> None:
    with pytest.raises(StateError, match=why):
        botify(settings, *arguments)
