"""Writes the report of a check to its folder."""

from pathlib import Path

from simulator.realism.check import Realism
from simulator.realism.folder import JSON_FILE, MARKDOWN_FILE, json_bytes, write_folder
from simulator.realism.plots import statistics_png
from simulator.realism.report import PLOT_FILE, as_dict, markdown


def write_report(realism: Realism, folder: Path, *, overwrite: bool = False) -> None:
    """Write realism.json, realism.md and the picture.

    Raises:
        MicrecError: If the folder is taken, or cannot be written.
    """
    files = {
        JSON_FILE: json_bytes(as_dict(realism)),
        MARKDOWN_FILE: markdown(realism).encode(),
        PLOT_FILE: statistics_png(realism.comparisons, realism.real.name, realism.synthetic.name),
    }
    write_folder(folder, files, overwrite=overwrite)
