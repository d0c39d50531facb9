"""Import a source: read and check its rows, number its ids, sort its events, and put the dataset into its place.

Each step writes files next to the dataset and then a mark. An import that was killed begins at the step that has no
mark; every step is a function of its input alone, so the dataset has the same bytes.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from botify.core.files import held, sync, write_durably
from botify.ingest.columns import ABOUT, ABOUT_SCHEMA, STAGED_SCHEMA, convert
from botify.ingest.dataset import (
    CARD,
    FORMAT,
    ITEMS,
    KINDS,
    REJECTED,
    REJECTED_SCHEMA,
    Card,
    Dataset,
    DatasetError,
    dataset_directory,
    open_dataset,
    write_card,
)
from botify.ingest.formats import Format, find_format
from botify.ingest.inputs import BLOCK_BYTES, UNREADABLE, Source
from botify.ingest.sorting import STAGED_EVENTS, STAGED_ITEMS, Sorter, Tally, content_hash
from botify.schemas.external_ids import USERS

ROLES = ("user", "item", "time", "played", "duration", "rating", "event", "session", "organic", *ABOUT)
"""What `--map` can name."""
SHARED_RULES = (
    "users and items are numbered by the rank of a keyed hash of their ids, so that a number tells no order",
    "events are sorted by time; those of one time keep the order of the source",
)


Progress = Callable[[str, int, int], None]  # told what is done now, how much of it, and of how much


@dataclass(frozen=True, slots=True)
class Request:
    """What is imported."""

    source: str  # name of the format
    path: str
    columns: Mapping[str, str] = field(default_factory=dict)  # what `--map` says: role to column
    scale: tuple[float, float] = (1.0, 5.0)  # ratings that stand for 0 and 1


def parse_map(text: str) -> dict[str, str]:
    """Read `user=…,item=…`; raises `DatasetError` if it has another form, or a role that there is not."""
    columns = {}
    for pair in text.split(","):
        role, equals, column = pair.partition("=")
        if not equals or not column:
            raise DatasetError(f"--map {pair!r} is not ROLE=COLUMN; for example user=uid,item=track,time=ts")
        if role.strip() not in ROLES:
            raise DatasetError(f"--map {pair!r}: {role.strip()!r} is none of {', '.join(ROLES)}")
        columns[role.strip()] = column.strip()
    return columns


def import_dataset(
    home: Path,
    name: str,
    request: Request,
    *,
    force: bool = False,
    progress: Progress = lambda what, done, total: None,
    block_bytes: int = BLOCK_BYTES,
) -> Dataset:
    """Import a source as a dataset, or finish an import that was killed.

    Raises `DatasetError` if the name is taken, another import writes it, or the source cannot be read.
    """
    format_ = find_format(request.source)
    _check_columns(format_, request)
    target = dataset_directory(home, name)
    if (target / CARD).exists() and not force:
        raise DatasetError(f"dataset {name!r} exists ({target}); --force replaces it")
    source = Source(request.path, request.columns, block_bytes)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.parent / f".{name}.importing"
    busy = DatasetError(f"another import writes dataset {name!r}; wait for it or stop it")
    with held(work.with_name(f"{work.name}.lock"), busy):
        _continue_or_begin(work, request, source)
        try:
            rows = _step(work, "stage", lambda: _read(work, source, format_, request, progress))
        except DatasetError:
            shutil.rmtree(work)
            raise
        _step(work, "sorted", lambda: _sort(work, name, request, format_, rows, progress))
        _put_in_place(work / "dataset", target)
        shutil.rmtree(work, ignore_errors=True)
    return open_dataset(home, name)


def _check_columns(format_: Format, request: Request) -> None:
    columns = request.columns
    if not format_.mapped:
        if columns:
            raise DatasetError(f"{request.source} has a layout of its own; omit --map")
        return
    missing = [role for role in ("user", "item") if role not in columns]
    if missing:
        raise DatasetError(f"--map does not say which column is the {missing[0]}; for example user=uid,item=track")
    if "duration" in columns and "played" not in columns:
        raise DatasetError("--map duration=… is the track's length; map played=… too, what was heard in the same unit")


def _continue_or_begin(work: Path, request: Request, source: Source) -> None:
    """Keep what an import of the same files has done; remove what another left."""
    about = {"format": FORMAT, **asdict(request), "size": source.size, "changed": _last_change(source.file)}
    mark = work / "request.json"
    text = json.dumps(about, sort_keys=True)
    with suppress(OSError):
        if mark.read_text(encoding="utf-8") == text:
            return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    mark.write_text(text, encoding="utf-8")


def _last_change(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return max(file.stat().st_mtime_ns for file in files if file.is_file())


def _step(work: Path, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a step that has no mark yet; return what it has counted."""
    mark = work / f"{name}.done"
    with suppress(OSError, ValueError):
        counted: dict[str, Any] = json.loads(mark.read_text(encoding="utf-8"))
        return counted
    counted = run()
    for path in work.rglob("*"):
        sync(path)
    write_durably(mark, lambda unfinished: unfinished.write_text(json.dumps(counted), encoding="utf-8"))
    return counted


def _fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory


def _read(work: Path, source: Source, format_: Format, request: Request, progress: Progress) -> dict[str, Any]:
    """Stage the rows that can be events."""
    staged, dataset = _fresh(work / "staged"), _fresh(work / "dataset")
    accepted = events = timed = rejected = 0
    try:
        with (
            pq.ParquetWriter(staged / STAGED_EVENTS, STAGED_SCHEMA, compression="lz4") as event_file,
            pq.ParquetWriter(staged / STAGED_ITEMS, ABOUT_SCHEMA, compression="lz4") as item_file,
            pq.ParquetWriter(dataset / REJECTED, REJECTED_SCHEMA, compression="zstd") as rejected_file,
        ):
            for rows in format_.read(source):
                chunk = convert(rows, accepted, request.scale)
                accepted += chunk.accepted
                events += len(chunk.events)
                timed += len(chunk.events) - chunk.events["time_ms"].null_count
                rejected += len(chunk.rejected)
                for file, table in zip((event_file, item_file, rejected_file), chunk[:3], strict=True):
                    if len(table):
                        file.write_table(table)
                progress("reading", source.bytes_read, source.size)
    except UNREADABLE as error:
        raise DatasetError(f"{source.path} cannot be read to its end: {error}; is it damaged?") from error
    if not events:
        why = f": all {rejected:,} rows were rejected, {_first_reason(dataset)}" if rejected else ""
        raise DatasetError(f"{source.path} has no events as {request.source}{why}")
    return {"events": events, "timed": timed, "rejected": rejected, "files": source.opened}


def _first_reason(dataset: Path) -> str:
    first = next(pq.ParquetFile(dataset / REJECTED).iter_batches(1)).to_pylist()[0]
    return f"the first one (row {first['row']} of {first['file']}) because {first['reason']}: {first['raw'][:80]!r}"


def _sort(
    work: Path, name: str, request: Request, format_: Format, rows: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """Write all files of the dataset but the rejected rows, which are there."""
    staged, dataset = work / "staged", work / "dataset"
    has_time = rows["timed"] == rows["events"]  # one of several files may have none
    with closing(Sorter(staged, dataset, _fresh(work / "spill"))) as sorter:
        progress("numbering", 0, 0)
        sorter.write_ids()
        sorter.write_catalogue()
        tally, pairs, items = sorter.write_events(has_time=has_time, progress=partial(progress, "sorting"))
    users, catalogue = (pq.read_metadata(dataset / file).num_rows for file in (USERS, ITEMS))
    card = Card(
        name=name,
        source=request.source,
        files=rows["files"],
        events=tally.events,
        users=users,
        items=items,
        catalogue=catalogue,
        rejected=rows["rejected"],
        kinds={kind: count for kind, count in zip(KINDS, tally.kinds.tolist(), strict=True) if count},
        has_time=has_time,
        start=_moment(tally.start_ms) if has_time else None,
        end=_moment(tally.end_ms) if has_time else None,
        density=pairs / (users * items),
        ties=tally.ties / tally.events,
        repeats=1 - pairs / tally.events,
        rules=_rules(format_, request, tally, has_time=has_time),
        licence=format_.licence,
        sha256=content_hash(dataset),
    )
    write_card(dataset, card)
    return {}


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _rules(format_: Format, request: Request, tally: Tally, *, has_time: bool) -> list[str]:
    rules = [*format_.rules]
    if tally.kinds[KINDS.index("rating")]:
        lowest, highest = request.scale
        rules.append(f"a rating r has the value (r - {lowest:g}) / {highest - lowest:g}, or 0 below {lowest:g}")
    if not has_time:
        rules.append("the source has no times: time_ms is the position among the user's events")
    rules.append(
        "sessions are those of the source"
        if tally.sessions_given
        else "a session ends where its user does nothing for more than 30 minutes"
    )
    return [*rules, *SHARED_RULES]


def _put_in_place(made: Path, target: Path) -> None:
    """Put a finished dataset into its place; what is there moves aside first and is removed."""
    if not made.exists():  # killed after the last step
        return
    old = target.with_name(f".{target.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    made.rename(target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)
