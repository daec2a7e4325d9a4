"""Runs notebooks from the first cell to the last and stores what they answer.

    python docs/notebooks/refresh.py                 # all of them, in place
    python docs/notebooks/refresh.py --out FOLDER    # into a folder, as the tests do

It needs the extra ``test``: pip install ".[test]". A notebook runs in a temporary folder, with the packages of this
checkout; times are not stored.
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbclient
import nbformat

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of one run.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails; the message holds the cell and its traceback.
    """
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        metadata = {"metadata": {"path": folder}}
        nbclient.NotebookClient(
            book, timeout=600, kernel_name="python3", resources=metadata, record_timing=False
        ).execute()
    return book


def main() -> None:
    """Run the notebooks that are named, or all beside this file."""
    parser = argparse.ArgumentParser(description="Run notebooks and store their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all beside this file")
    parser.add_argument("--out", type=Path, help="folder for the results; default: in place")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for path in given.notebooks or sorted(HERE.glob("*.ipynb")):
        nbformat.write(executed(path), path if given.out is None else given.out / path.name)
        print(path.name)


if __name__ == "__main__":
    main()
