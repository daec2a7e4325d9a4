"""The notebooks of the documentation run from the first cell to the last, and hold the outputs of such a run."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
RUN = (
    "import sys, nbformat, nbclient; "
    "book = nbformat.read(sys.argv[1], 4); "
    "nbclient.NotebookClient(book, timeout=300, kernel_name='python3').execute(); "
    "nbformat.write(book, sys.argv[2])"
)


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["judging_an_experiment", "offline_comparison", "simulated_experiment"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_to_its_end(path, tmp_path):
    folders = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    env = {
        **os.environ,
        **folders,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    command = [sys.executable, "-c", RUN, str(path), str(tmp_path / "done.ipynb")]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for cell in nbformat.read(tmp_path / "done.ipynb", 4).cells:
        assert cell.cell_type != "code" or cell.execution_count, cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_is_stored_as_it_ran(path):
    """In one run from top to bottom, without errors, warnings or paths of a machine."""
    book = nbformat.read(path, 4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type in ("execute_result", "display_data"), output
            assert "/tmp/" not in str(output), output
