"""Runs a notebook as a reader would, and looks at what came out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

CELL_TIMEOUT_S = 120
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def execute(path: Path, environment: Mapping[str, str]) -> NotebookNode:
    """Return the notebook with the outputs of a run from top to bottom.

    Parameters
    ----------
    path : Path
    environment : mapping
        Variables of the kernel, besides those of this process.

    Raises
    ------
    CellExecutionError
        A cell raised.
    """
    notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env={**os.environ, **environment})
    _forget_the_run(notebook)
    return notebook


def complaints(notebook: NotebookNode) -> Iterator[str]:
    """Yield every error and everything written to stderr, where warnings go.

    Examples
    --------
    >>> cell = nbformat.v4.new_code_cell("import old")
    >>> cell.outputs = [nbformat.v4.new_output("stream", name="stderr", text="DeprecationWarning: old")]
    >>> list(complaints(nbformat.v4.new_notebook(cells=[cell])))
    ['import old: DeprecationWarning: old']
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"{cell.source}: {output.ename}: {output.evalue}"
            elif output.output_type == "stream" and output.name == "stderr":
                yield f"{cell.source}: {output.text}"


def _forget_the_run(notebook: NotebookNode) -> None:
    """Leave out when and on which Python the cells were run: only outputs shall differ between two runs."""
    notebook.metadata.clear()
    notebook.metadata.update(kernelspec=_KERNEL, language_info={"name": "python"})
    for cell in notebook.cells:
        cell.metadata.clear()


def text_of(notebook: NotebookNode) -> str:
    """Return what stands in the file of a notebook."""
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text + "\n"
