"""The example that reads state shows what the workers have folded."""

from botify.core.settings import Settings
from botify.schemas.topics import Topics
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from examples.read_state import describe
from tests.integration.streams.listens import fold_live
from tests.support import make_listens, produce, write_catalogue


def test_listeners_and_popular_tracks_are_described(settings: Settings) -> None:
    write_catalogue(settings, 50)
    listens = make_listens(300, users=20, tracks=50, seed=1)
    produce(settings, Topics.of(settings).listens.name, listens)
    fold_live(settings)
    reader = StateReader(connect(settings), settings)
    lines = describe(reader, [3, 999], top=2)
    of_three = [listen for listen in listens if listen.user == 3]
    assert lines[0].startswith(f"listener 3: {len(of_three)} listens in ")
    assert lines[0].endswith(f"last {of_three[-1].fraction:.0%} of track {of_three[-1].track}")
    assert lines[1] == "listener 999: no listens"
    assert [line.split(":")[0] for line in lines[2:]] == [
        f"{rank}. track {track}" for rank, track in enumerate(reader.top_tracks("1d", 2)[0].tolist(), start=1)
    ]
