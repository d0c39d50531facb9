"""Names of users and tracks, and their numbers."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from botify.core.settings import Settings
from botify.schemas.external_ids import NEWCOMERS_FROM, UserIdError, UserIds, chosen, datasets_directory, track_named
from botify.schemas.validation import MAX_USER


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    directory = datasets_directory(tmp_path) / "mine"
    directory.mkdir(parents=True)
    pq.write_table(pa.table({"id": [0, 1, 2], "external_id": ["alice", "7", "a/b"]}), directory / "users.parquet")
    return Settings(home=tmp_path, dataset="mine")


def test_users_of_a_dataset_have_the_numbers_of_its_table(settings: Settings) -> None:
    users = UserIds.of(settings)
    assert [users.number_of(name) for name in ("alice", "7", "a/b")] == [0, 1, 2]


def test_newcomers_have_numbers_of_their_own_in_every_process(settings: Settings) -> None:
    names = [f"newcomer {number}" for number in range(1000)]
    numbers = [UserIds([]).number_of(name) for name in names]
    for other in (UserIds.of(settings), UserIds(["someone else"])):
        assert [other.number_of(name) for name in names[:3]] == numbers[:3]
    assert len(set(numbers)) == 1000
    assert NEWCOMERS_FROM <= min(numbers) <= max(numbers) <= MAX_USER


def test_a_name_has_the_number_that_it_has_or_the_first_that_is_free() -> None:
    first, second, third = UserIds().candidates("alice")
    assert chosen("alice", {first: None, second: None, third: None}) == first
    assert chosen("alice", {first: "bob", second: None, third: "carol"}) == second
    assert chosen("alice", {first: None, second: "alice", third: None}) == second  # who had the first one is erased
    with pytest.raises(UserIdError, match="call this listener otherwise"):
        chosen("alice", {first: "bob", second: "carol", third: "dave"})
    for users in (UserIds(), UserIds(["alice"])):
        with pytest.raises(UserIdError, match="must not be empty"):
            users.number_of("")


@pytest.mark.parametrize("name", ["missing", "../mine", "", "."])
def test_a_dataset_that_is_not_there_is_named(settings: Settings, name: str) -> None:
    with pytest.raises(UserIdError, match=r"is not in .*botify data list"):
        UserIds.of(settings.with_(dataset=name))


@pytest.mark.parametrize("name", ["-1", "me", "1.0", str(MAX_USER + 1), "²", "a/b"])
def test_without_a_dataset_digits_are_the_number_and_all_else_is_a_name(name: str) -> None:
    users = UserIds()
    assert users.number_of(name) == UserIds([]).number_of(name) >= NEWCOMERS_FROM
    assert users.known_as(name) == name
    assert (users.number_of(str(MAX_USER)), users.known_as("007")) == (MAX_USER, 7)
    assert UserIds([]).known_as("7") == "7"


@pytest.mark.parametrize(
    ("text", "track"), [("0", 0), ("-1", "-1"), ("²", "²"), ('"', '"'), ('""', ""), ('"7', '"7'), ("AC/DC", "AC/DC")]
)
def test_what_a_text_names(text: str, track: int | str) -> None:
    assert track_named(text) == track
