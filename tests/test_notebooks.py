"""The notebooks of the documentation run from the first cell to the last, and hold the outputs of such a run."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
REFRESH = ROOT / "docs" / "notebooks" / "refresh.py"
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["judging_an_experiment", "offline_comparison", "simulated_experiment"]


@each
def test_a_notebook_runs_to_its_end(path, tmp_path):
    """In a process of its own, with nothing written outside the test's folder."""
    jupyter = {name: str(tmp_path / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    env = {**os.environ, **jupyter, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(REFRESH), str(path), "--out", str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [cell.execution_count for cell in code_cells(tmp_path / path.name)] == [
        number for number, _ in enumerate(code_cells(path), start=1)
    ]


@each
def test_a_notebook_is_stored_as_it_ran(path):
    """From top to bottom in one go, without errors, warnings or paths of a machine."""
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"execute_result", "display_data"}
    assert not [output for output in outputs if "/tmp/" in str(output) or "/home/" in str(output)]
