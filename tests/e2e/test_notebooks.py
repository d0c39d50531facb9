"""Every notebook runs from top to bottom on a little data without a complaint, and was committed after a whole run."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from botify.analytics.notebooks.run import complaints, notebooks, run_notebook, simulated, text_of
from botify.analytics.notebooks.story import SMALL
from botify.services.stack.ports import find_free

LARGEST_BYTES = 500_000

each = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.name[:2])


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A data directory with the run that the notebooks tell of, its stack running."""
    with simulated(SMALL) as place:
        yield place


@each
def test_it_runs_on_a_little_data_without_errors_and_warnings(path: Path, home: Path) -> None:
    executed = run_notebook(path, home)
    assert pictures(executed) == pictures(nbformat.read(path, as_version=4))


def test_what_is_missing_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{find_free()}")
    with pytest.raises(CellExecutionError) as caught:
        run_notebook(notebooks()[1], tmp_path)
    assert "no Kafka listens at" in caught.value.traceback
    assert "`python -m botify.analytics.notebooks.run --prepare` makes it" in caught.value.traceback
    assert "Traceback" not in caught.value.traceback


@each
def test_what_is_committed_is_a_run_of_all_of_it(path: Path) -> None:
    committed = nbformat.read(path, as_version=4)
    cells = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert list(complaints(committed)) == []
    assert pictures(committed) >= 2
    text = text_of(committed)
    assert len(text) < LARGEST_BYTES
    assert "botify-notebooks-" not in text  # the data directory of the run
    assert str(Path.home()) not in text


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
