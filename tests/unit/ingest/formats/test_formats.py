"""Invariant: each source is read in the layout in which it is published, damaged rows included."""

import gzip
import io
import json
import tarfile
import zipfile
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from botify.ingest.dataset import KINDS, Dataset, DatasetError
from botify.ingest.formats import FORMATS
from botify.ingest.importing import Request, import_dataset

LASTFM = Path(__file__).parents[5] / "shared/real-data/lastfm.txt"


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def run(tmp_path: Path, source: str, path: Path | str, **columns: str) -> Dataset:
    return import_dataset(tmp_path / "home", "d", Request(source, str(path), columns), force=True)


def events(dataset: Dataset) -> list[tuple[Any, ...]]:
    """User, item, time in seconds, value and kind of each event, with external ids."""
    found = dataset.events()
    users = [dataset.external_users[user] for user in found.users]
    items = [dataset.external_items[item] for item in found.items]
    numbers = (found.times_ms / 1000).tolist(), found.fractions.astype(float).round(3).tolist()
    return list(zip(users, items, *numbers, [KINDS[kind] for kind in found.kinds], strict=True))


def about(dataset: Dataset, external: str) -> tuple[Any, ...]:
    catalogue = dataset.catalogue()
    at = catalogue.external_ids.index(external)
    return catalogue.titles[at], catalogue.artists[at], catalogue.genres[at], catalogue.releases[at]


def reasons(dataset: Dataset) -> list[tuple[int, str]]:
    """Why each row was rejected."""
    return [(row["row"], row["reason"]) for row in dataset.rejected().to_pylist()]


def test_lastfm_1k(tmp_path: Path) -> None:
    plays = (
        "user_1\t2009-05-04T23:08:57Z\tmb-a\tDeep Dish\tmb-t\tFuck Me Im Famous\n"
        'user_1\t2009-05-04T13:54:10Z\t\t坂本龍一\t\tCom"position\n'
        "user_2\tnever\t\tX\t\tY\n"
        "user_2\t2009-05-04T13:54:10Z\t\tX\t\t\n"
    )
    name = "lastfm-dataset-1K/userid-timestamp-artid-artname-traid-traname.tsv"
    archive = tmp_path / "lastfm-dataset-1K.tar.gz"
    folder = write(tmp_path, {"lastfm-dataset-1K/README.txt": "read me", name: plays})
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "lastfm-dataset-1K", "lastfm-dataset-1K")
    dataset = run(tmp_path, "lastfm-1k", archive)
    assert events(dataset) == [
        ("user_1", '坂本龍一 – Com"position', 1241445250.0, 1.0, "play"),
        ("user_1", "mb-t", 1241478537.0, 1.0, "play"),
    ]
    assert about(dataset, "mb-t") == ("Fuck Me Im Famous", "Deep Dish", (), None)
    assert [reason for _, reason in reasons(dataset)] == ["time is neither a number nor ISO 8601", "item is empty"]
    assert dataset.card.files == [name.rpartition("/")[2]]


def test_hetrec_lastfm(tmp_path: Path) -> None:
    tags = (
        "userID\tartistID\ttagID\ttimestamp\n2\t52\t13\t1238536800000\n"
        "2\t52\t15\t1238536800000\n3\t52\t1\t-428720400000\n"
    )
    artists = "id\tname\turl\tpictureURL\n52\tMorcheeba\thttp://x\thttp://y\n7\tNobody\t\t\n"
    folder = write(tmp_path / "h", {"user_taggedartists-timestamps.dat": tags, "artists.dat": artists})
    dataset = run(tmp_path, "hetrec-lastfm", folder)
    assert events(dataset) == [("2", "52", 1238536800.0, 1.0, "play")]
    assert about(dataset, "52") == ("Morcheeba", "Morcheeba", (), None)
    assert dataset.card.catalogue == 2
    copy, early = "another tag of the same user, artist and time", "time is not between 1970 and 2200"
    assert reasons(dataset) == [(3, copy), (4, early)]


def listen(**changes: Any) -> str:
    metadata = {"artist_name": "Nick Drake", "track_name": "Pink Moon", "release_name": "Pink Moon"}
    plain = {"user_name": "ada", "timestamp": 5, "recording_msid": "ms", "track_metadata": metadata}
    return json.dumps(plain | changes)


def test_listenbrainz(tmp_path: Path) -> None:
    mapped = {"artist_name": "A", "track_name": "T", "mbid_mapping": {"recording_mbid": "mb"}}
    wrong = ["{", listen(user_name=None), listen(recording_msid="")]
    lines = [listen(), listen(listened_at=4, track_metadata=mapped), *wrong]
    dump = {"dump/listens/2023/1.listens": "\n".join(lines), "dump/COPYING": "CC0"}
    dataset = run(tmp_path, "listenbrainz", write(tmp_path / "lb", dump))
    assert events(dataset) == [("ada", "mb", 4.0, 1.0, "play"), ("ada", "ms", 5.0, 1.0, "play")]
    assert about(dataset, "ms") == ("Pink Moon", "Nick Drake", (), "Pink Moon")
    assert reasons(dataset) == [(3, "not JSON"), (4, "user is empty"), (5, "item is empty")]


ML_100K_ITEM = (
    "1|Toy Story (1995)|01-Jan-1995||http://x|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n2|Amélie|||y|" + "|".join("0" * 19)
)
LAYOUTS: dict[str, dict[str, str | bytes]] = {
    "100k": {"ml-100k/u.data": "196\t1\t3\t881250949\n1\t2\t9\t5\n", "ml-100k/u.item": ML_100K_ITEM.encode("latin-1")},
    "1m": {
        "ml-1m/ratings.dat": "196::1::3::881250949\n1::2::9::5\n",
        "ml-1m/movies.dat": "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Amélie (2001)::Drama\n".encode(
            "latin-1"
        ),
    },
    "25m": {
        "ml-25m/ratings.csv": "userId,movieId,rating,timestamp\n196,1,3.0,881250949\n1,2,9,5\n",
        "ml-25m/movies.csv": "movieId,title,genres\n1,\"Toy Story (1995)\",Animation|Children's|Comedy\n"
        "2,Amélie (2001),(no genres listed)\n",
    },
    "recbole": {
        "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t1\t3\t881250949\n1\t2\t9\t5\n",
        "ml.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story (1995)\t1995\tAnimation Children's Comedy\n2\tAmélie\t\t\n",
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_movielens(layout: str, zipped: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "ml", LAYOUTS[layout])
    if zipped:
        with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
            for name in LAYOUTS[layout]:
                archive.write(path / name, name)
        path = tmp_path / "ml.zip"
    dataset = run(tmp_path, "movielens", path)
    assert events(dataset) == [("196", "1", 881250949.0, 0.5, "rating")]
    genres = ["Animation", "Children's", "Comedy"]
    title, _, found, release = about(dataset, "1")
    assert (title, list(found)) == ("Toy Story (1995)", genres)
    assert "1995" in str(release)
    (track,) = [track for track in dataset.catalogue().tracks() if track.year == 1995]
    assert (track.genre, track.genres) == ("Animation", genres)
    assert str(about(dataset, "2")[0]).startswith("Amélie")
    assert [reason for _, reason in reasons(dataset)] == ["rating is not between 0 and 5"]


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def flat(**more: Any) -> dict[str, Any]:
    return {
        "uid": pa.array([100, 100, None], pa.uint32()),
        "timestamp": pa.array([0, 5, 10], pa.uint32()),
        "item_id": pa.array([7, 8, 9], pa.uint32()),
        "is_organic": pa.array([1, 0, 1], pa.uint8()),
        **more,
    }


def test_yambda(tmp_path: Path) -> None:
    played, lengths = pa.array([150, 30, 100], pa.uint16()), pa.array([200] * 3, pa.uint32())
    heard = flat(played_ratio_pct=played, track_length_seconds=lengths)
    files = {f"flat/50m/{kind}.parquet": parquet(**flat()) for kind in ("likes", "unlikes", "dislikes")}
    files |= {"flat/50m/listens.parquet": parquet(**heard)}
    files |= {"artist_item_mapping.parquet": parquet(artist_id=[1, 2], item_id=[7, 8])}
    dataset = run(tmp_path, "yambda", write(tmp_path / "y", files))
    assert events(dataset) == [
        ("100", "7", 0.0, 1.0, "play"), ("100", "7", 0.0, 1.0, "like"), ("100", "7", 0.0, 0.25, "unlike"),
        ("100", "7", 0.0, 0.0, "dislike"), ("100", "8", 5.0, 0.3, "skip"), ("100", "8", 5.0, 1.0, "like"),
        ("100", "8", 5.0, 0.25, "unlike"), ("100", "8", 5.0, 0.0, "dislike"),
    ]  # fmt: skip
    assert dataset.events().organic.tolist() == [1] * 4 + [0] * 4
    assert about(dataset, "8")[1] == "2"
    assert reasons(dataset) == [(3, "user is empty")] * 4  # one in each file


def test_yambda_in_one_file(tmp_path: Path) -> None:
    more = {"event_type": pa.array(["listen", "undislike", "dance"]).dictionary_encode(),
            "played_ratio_pct": pa.array([40, None, None], pa.uint16())}  # fmt: skip
    columns = flat(**more) | {"uid": pa.array([1, 1, 1], pa.uint32())}
    dataset = run(tmp_path, "yambda", write(tmp_path / "y", {"multi_event.parquet": parquet(**columns)}))
    assert events(dataset) == [("1", "7", 0.0, 0.4, "skip"), ("1", "8", 5.0, 0.5, "undislike")]
    assert [reason[:13] for _, reason in reasons(dataset)] == ["event is none"]


def test_yambda_in_its_other_layout_is_refused(tmp_path: Path) -> None:
    file = parquet(uid=[1], item_id=[[1, 2]], timestamp=[[5, 6]])
    with pytest.raises(DatasetError, match="sequential layout; import the flat one"):
        run(tmp_path, "yambda", write(tmp_path / "y", {"listens.parquet": file}))


TRACK = '{"track": 6, "artist": "A", "title": "T", "album": "L", "mood": "calm", "year": 2007, "country": "US"}\n'


def test_botify(tmp_path: Path) -> None:
    clock = count(1_600_000_000_000, 1000)

    def line(message: str, user: int, track: int, time: float, recommendation: int | None = None) -> str:
        said = {"message": message, "timestamp": next(clock), "user": user, "track": track, "time": time}
        return json.dumps({**said, "recommendation": recommendation})

    log = [line("next", 1, 5, 1.0, 6), line("next", 2, 5, 0.2, 7), line("last", 1, 6, 0.4), line("next", 1, 6, 1.0, 9),
           line("dance", 1, 6, 1.0), line("last", 2, 7, 7.0), '{"message": "last", "user": [1]}']  # fmt: skip
    files = {"log.json": "\n".join(log), "tracks.json": TRACK}
    dataset = run(tmp_path, "botify", write(tmp_path / "b", files))
    start = 1_600_000_000.0
    (track,) = [track for track in dataset.catalogue().tracks() if track.external_id == "6"]
    assert (track.mood, track.year, track.country) == ("calm", 2007, "US")
    assert events(dataset) == [
        ("1", "5", start, 1.0, "play"), ("2", "5", start + 1, 0.2, "skip"), ("1", "6", start + 2, 0.4, "skip"),
        ("1", "6", start + 3, 1.0, "play"),
    ]  # fmt: skip
    assert dataset.events().organic.tolist() == [1, 1, 0, 1]
    first, _, second, third = dataset.events().sessions.tolist()
    assert first == second != third
    assert about(dataset, "6") == ("T", "A", (), "L")
    assert reasons(dataset) == [
        (5, "message is neither next nor last"),
        (6, "played is more than 1, and no duration is mapped"),
        (7, "user or track is missing"),
    ]


def test_last_fm_as_sequences(tmp_path: Path) -> None:
    if not LASTFM.exists():
        pytest.skip(f"{LASTFM} is not there")
    card = run(tmp_path, "sequences", LASTFM).card
    assert (card.events, card.users, card.items, card.rejected, card.repeats) == (52_551, 1_090, 3_646, 0, 0.0)


def test_json_lines_with_nested_fields(tmp_path: Path) -> None:
    lines = ['{"who": {"id": 7}, "what": "x", "when": "2020-01-01T00:00:00Z", "how": "LIKES"}', "[1]", "[" * 100_000]
    path = write(tmp_path / "j", {"a.jsonl.gz": gzip.compress("\n".join(lines).encode())})
    dataset = run(tmp_path, "jsonl", path, user="who.id", item="what", time="when", event="how")
    assert events(dataset) == [("7", "x", 1577836800.0, 1.0, "like")]
    assert reasons(dataset) == [(2, "not a JSON object"), (3, "not JSON")]
    with pytest.raises(DatasetError, match=r"--map item=track: no line of a\.jsonl has a field 'track'"):
        run(tmp_path, "jsonl", path, user="who.id", item="track")


def test_parquet_with_times_and_numbers(tmp_path: Path) -> None:
    times, lengths = pa.array([1_577_836_800_000_000] * 2, pa.timestamp("us", "UTC")), pa.array([180] * 2, pa.int32())
    columns = {"user": [1, 2], "item": ["x", None], "time": times, "played": [90.0, 1.0], "duration": lengths,
               "organic": [True, False], "session": ["q", "r"]}  # fmt: skip
    file = parquet(**{f"its {role}": column for role, column in columns.items()})
    mapped = {role: f"its {role}" for role in columns}
    dataset = run(tmp_path, "parquet", write(tmp_path / "p", {"a.parquet": file}), **mapped)
    assert events(dataset) == [("1", "x", 1577836800.0, 0.5, "play")]
    assert dataset.events().organic.tolist() == [1]
    assert reasons(dataset) == [(2, "item is empty")]
    assert json.loads(dataset.rejected()["raw"][0].as_py())["its user"] == 2


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if not one.mapped and name != "sequences"])
def test_a_folder_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"is it another format\?|one file is imported"):
        run(tmp_path, name, write(tmp_path / "x", {"a.bin": "x", "b.bin": "y"}))


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    files = {"50m/likes.parquet": parquet(**flat()), "500m/likes.parquet": parquet(**flat())}
    with pytest.raises(DatasetError, match=r"2 files are called likes.parquet \(500m/likes.*name the folder of one"):
        run(tmp_path, "yambda", write(tmp_path / "flat", files))


CUT = gzip.compress(b"u,i\na,x\n", mtime=0)[:-9]
DAMAGED = {"a.zip": b"PK no", "a.csv.gz": CUT, "a.parquet": b"PAR1 no", "a.tar": b"no"}


@pytest.mark.parametrize(("name", "content"), DAMAGED.items())
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "x", {name: content}) / name
    source = "parquet" if name.endswith("parquet") else "csv"
    with pytest.raises(DatasetError, match=name.removesuffix(".gz")):
        run(tmp_path, source, path, user="u", item="i")


def test_a_place_inside_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/u.data", "1\t1\t1\t1\n")
    with pytest.raises(DatasetError, match="has no 'y' inside"):
        run(tmp_path, "movielens", f"{tmp_path / 'a.zip'}!y")
    assert run(tmp_path, "movielens", f"{tmp_path / 'a.zip'}!x").card.events == 1
