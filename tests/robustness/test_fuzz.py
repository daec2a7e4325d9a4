"""A small part of the fuzzer; the whole is ``python tests/robustness/fuzz.py --inputs 3000``."""

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parent / "fuzz.py"


def test_broken_inputs_are_done_or_refused_with_words(materials):
    """The fuzzer forks, which this process with its threads must not; so it runs in one of its own."""
    done = subprocess.run(
        [sys.executable, str(FUZZ), "--inputs", "132", "--seed", "1", "--processes", "1", "--materials", materials],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "132 inputs" in done.stdout
