"""The public API: what a notebook does, without servers."""

import re
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

import botify
from botify.client import Botify
from botify.core.errors import BotifyError
from botify.evaluation.evaluate import Job, replays
from botify.evaluation.figures import rows_of
from botify.evaluation.log import log_of_dataset
from botify.evaluation.protocols import Terms
from botify.ingest import sample
from botify.ingest.importing import Request, import_dataset
from botify.ingest.sample import write_sample
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world import World, WorldConfig
from botify.sim.world.generate import generate

ROOT = Path(__file__).parents[2]
ROWS = [("ann", "blue", 1000, 5), ("ann", "red", 2000, 1), ("bob", "blue", 3000, 4), ("bob", "green", 9000, 5)]


class Popular:
    def __init__(self, name: str = "popular") -> None:
        self.name = name
        self.values: Counter[str] = Counter()

    def learn_one(self, user: str, item: str, value: float) -> None:
        self.values[item] += 1

    def rank(self, user: str, k: int) -> list[str]:
        return [item for item, _ in self.values.most_common(k)]


@pytest.fixture(scope="module", autouse=True)
def few_users() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sample, "USERS", 120)
        yield


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> botify.Log:
    file = tmp_path_factory.mktemp("log") / "plays.csv"
    write_sample(file)
    return botify.load(file)


def import_sample(home: Path) -> Path:
    """Write the sample, and import it as `mine`."""
    file = home / "sample.csv"
    write_sample(file)
    roles = {name: name for name in ("user", "item", "time", "title", "artist")}
    import_dataset(home, "mine", Request("csv", str(file), roles))
    return file


@pytest.fixture(scope="module")
def world() -> World:
    return World("small", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=60, dimensions=8)), {})


def test_the_import_loads_nothing_that_takes_time() -> None:
    code = "import sys, botify; print(*sys.modules); print(*dir(botify)); botify.load; print('numpy' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    modules, names, then = printed.stdout.splitlines()
    assert not {"numpy", "pandas", "pyarrow", "httpx", "botify.core"} & set(modules.split())
    assert set(botify.__all__) <= set(names.split())
    assert then == "True"


def write(path: Path) -> Path:
    frame = pd.DataFrame(ROWS, columns=["uid", "track", "ts", "rating"])
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.set_axis(["user", "item", "time", "rating"], axis=1).to_json(path, orient="records", lines=True)
    else:
        frame = frame.set_axis(["UserId", "movie_id", "Timestamp", "rating"], axis=1)
        frame.to_csv(path.with_suffix(".csv"), sep=";", index=False, encoding="utf-8-sig")
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(path.with_suffix(".csv"), "folder/plays.csv")
            archive.writestr("README", "about")
    return path


@pytest.mark.parametrize("name", ["a.csv", "b.parquet", "c.jsonl", "d.zip"])
def test_files_are_read_by_their_endings_and_columns_by_their_names(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = botify.load(write(tmp_path / name))
    assert (repr(loaded), len(loaded)) == (f"{name}: 4 events of 2 users and 3 items", 4)
    events = loaded.events.assign(time=lambda frame: frame["time"].astype("int64") // 10**6)
    wanted = [(user, item, (stars - 1) / 4, time) for user, item, time, stars in ROWS]
    assert list(events[["user", "item", "value", "time"]].itertuples(index=False, name=None)) == wanted
    assert set(loaded.items.index) == {"blue", "red", "green"}
    assert capfd.readouterr() == ("", "")


def test_columns_of_other_names_are_told_and_rejected_rows_kept(tmp_path: Path) -> None:
    file = tmp_path / "plays.csv"
    file.write_text("who,what,duration\nann,blue,3\n,red,4\n")
    with pytest.raises(BotifyError, match=r"has the columns who, what, duration, and none is called item or user"):
        botify.load(file)
    loaded = botify.load(file, columns={"user": "who", "item": "what"})
    assert "1 rows rejected" in repr(loaded)
    assert loaded.rejected["row"].tolist() == [3]
    assert "time" not in loaded.events


def test_a_name_is_an_imported_dataset_and_a_format_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    pd.testing.assert_frame_equal(botify.load(import_sample(tmp_path)).events, botify.load("mine").events)
    with pytest.raises(BotifyError, match=r"yours: no such file, and no imported dataset of this name \(there: mine\)"):
        botify.load("yours")
    (tmp_path / "seq").write_text("ann blue red\n")
    with pytest.raises(BotifyError, match="does not say what it is; give source=, one of csv"):
        botify.load(tmp_path / "seq")
    assert len(botify.load(tmp_path / "seq", source="sequences")) == 2


def test_a_ranker_is_copied_and_asked_for_enough(log: botify.Log) -> None:
    one = Popular()
    found = log.evaluate([one, Popular("again")], seeds=2, protocol="leave-last-out")
    assert not one.values
    assert found.recall["popular"] == found.recall["again"]
    assert found.loc["again", ["gain", "gain_lower", "gain_upper"]].tolist() == [0, 0, 0]
    rows = found.iloc[0]
    assert rows.recall_lower < rows.recall < rows.recall_upper


def test_names_have_the_figures_of_the_command(tmp_path: Path, log: botify.Log) -> None:
    import_sample(tmp_path)
    columns, positive = log_of_dataset(tmp_path, "mine")
    terms = Terms("leave-last-out", 5, positive)
    outcomes = {name: replays(Job(name, columns, terms, range(2))) for name in ("next_track", "ease")}
    row, ease = rows_of(outcomes, "next_track", columns.users)
    found = log.evaluate(["botify", "ease"], protocol="leave-last-out", k=5, seeds=2)
    assert found.loc["botify", ["recall", "NDCG", "coverage"]].tolist() == [
        row.metrics["recall"].mean, row.metrics["NDCG"].mean, row.figures["coverage"],
    ]  # fmt: skip
    assert found.loc["ease", ["gain", "gain_lower", "gain_upper"]].tolist() == [*ease.differences["recall"]]
    half = found.recall_upper["botify"] - found.recall["botify"]
    assert half == pytest.approx(1.959964 * row.metrics["recall"].error)
    assert found.note["ease"] == "untuned"


def test_rankers_that_break_the_rules_are_named(log: botify.Log) -> None:
    class Wrong(Popular):
        def rank(self, user: str, k: int) -> list[str]:
            return ["nothing"]

    with pytest.raises(BotifyError, match="Wrong ranked 'nothing', no item of the log"):
        log.evaluate([Wrong()])
    with pytest.raises(BotifyError, match="each with a `name` of its own"):
        log.evaluate([Popular(), Popular()])
    with pytest.raises(BotifyError, match="recommender 'nobody' is not known; there are random, toppop"):
        log.evaluate([Popular(), "nobody"])


def test_recommenders_are_played_on_the_same_sessions(world: World) -> None:
    found = botify.simulate(["random", Popular(), "sticky_artist"], world, sessions=200)
    assert found.loc["random", ["effect", "effect_lower", "effect_upper"]].tolist() == [0, 0, 0]
    assert found.sessions.tolist() == [200] * 3
    assert ((found.time_lower < found.time) & (found.time < found.time_upper)).all()
    effects = 100 * (found.time / found.time["random"] - 1)
    np.testing.assert_allclose(found.effect, effects)
    again = botify.simulate([Popular(), "random"], world, sessions=200)
    assert again.time.to_dict() == {name: found.time[name] for name in ("popular", "random")}


def test_a_ranker_plays_what_it_ranks_first_and_the_session_has_not_heard(world: World) -> None:
    class Lowest(Popular):
        def rank(self, user: str, k: int) -> list[str]:
            return [str(track) for track in range(k)]

    class Agent:
        def __init__(self) -> None:
            self.sessions = defaultdict[int, set[int]](set)

        def recommend(self, listens: FinishedListens) -> Any:
            for user, track in zip(listens.users.tolist(), listens.tracks.tolist(), strict=True):
                self.sessions[user].add(track)
            heard = [self.sessions[user] for user in listens.users.tolist()]
            return np.array([min(set(range(len(tracks) + 1)) - tracks) for tracks in heard])

        def finish(self, listens: FinishedListens) -> None:
            for user in listens.users.tolist():
                self.sessions.pop(user, None)

    done = play_world(world, Agent(), RunOptions(sessions=100, seed=1, start_ms=0))
    found = botify.simulate([Lowest()], world, sessions=100).iloc[0]
    assert found.time == pytest.approx(done.time / done.sessions)
    assert found.tracks == pytest.approx(done.listens / done.sessions)


@pytest.mark.parametrize("name", ["nobody", "contextual", "ease"])
def test_what_cannot_be_played_is_refused(name: str, world: World) -> None:
    with pytest.raises(BotifyError, match=f"recommender '{name}' is not played here; there are random, toppop"):
        botify.simulate([name], world)


def test_recommendations_of_a_service_are_a_frame() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.url.path, request.url.params["explain"]) == ("/v1/users/alice/recommendations", "true")
        reason = {"policy": "next_track", "score": 0.5, "text": "because you heard Red"}
        item = {"item": "blue", "number": 1, "title": "Blue", "artist": "Ann", "propensity": 0.25}
        items = [{**item, "reason": reason}, {**item, "item": "red", "reason": None}]
        about = {"id": "r1", "user": "alice", "policy": "next_track", "propensity": 1.0, "experiments": {}}
        return httpx.Response(200, json={**about, "fallback": False, "items": items})

    service = botify.connect("http://gateway", token="secret")  # noqa: S106
    service.client = Botify("http://gateway", transport=httpx.MockTransport(answer))
    found = service.recommend("alice", 2)
    assert found.loc[1, ["item", "title", "score", "reason"]].tolist() == ["blue", "Blue", 0.5, "because you heard Red"]
    assert found.index.tolist() == [1, 2]
    assert found.loc[2, "reason"] is None or pd.isna(found.loc[2, "reason"])
    assert found.attrs == {"id": "r1", "policy": "next_track", "fallback": False}


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample(tmp_path / "plays.csv")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/library.md").read_text(encoding="utf-8"), re.DOTALL)
    assert ["connect" in block for block in blocks] == [False, False, True]
    run: dict[str, Any] = {}
    for block in blocks[:2]:
        exec(block, run)  # noqa: S102 - the page is ours
    judged = run["log"].evaluate([run["Follows"](), "toppop"], protocol="leave-last-out")
    assert judged.recall_lower["Follows"] > judged.recall_upper["toppop"]
