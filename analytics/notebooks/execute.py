"""Run a notebook from top to bottom, and check its outputs."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

CELL_TIMEOUT_S = 120
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""No version of Python: two runs of a notebook differ in outputs only."""


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
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only; it would warn of listening on 127.0.0.1
    )
    client.execute(env={**os.environ, **environment})
    notebook.metadata = _METADATA
    for output in _outputs(notebook):
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = shrink_png(output.data["image/png"])
    return notebook


def complaints(notebook: NotebookNode) -> Iterator[str]:
    """Yield every error and everything written to stderr, where warnings go.

    Examples
    --------
    >>> cell = nbformat.v4.new_code_cell("import old")
    >>> cell.outputs = [nbformat.v4.new_output("stream", name="stderr", text="DeprecationWarning: old")]
    >>> list(complaints(nbformat.v4.new_notebook(cells=[cell])))
    ['DeprecationWarning: old']
    """
    for output in _outputs(notebook):
        if output.output_type == "error":
            yield f"{output.ename}: {output.evalue}"
        elif output.output_type == "stream" and output.name == "stderr":
            yield output.text


def shrink_png(picture: str) -> str:
    """Return a picture with 256 colours, which is a third of the bytes and looks alike in a chart.

    Parameters
    ----------
    picture : str
        PNG in base64, as notebooks keep it; so is the result.
    """
    shrunk = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(shrunk, format="png", optimize=True)
    return base64.b64encode(shrunk.getvalue()).decode()


def _outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def text_of(notebook: NotebookNode) -> str:
    """Return what stands in the file of a notebook."""
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text + "\n"
