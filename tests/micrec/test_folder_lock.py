"""A folder belongs to one process at a time, and to nobody once that process is gone, however it went."""

import signal
import subprocess
import sys

import pytest

from micrec.data.store import new_folder
from micrec.errors import MicrecError
from micrec.folder_lock import lock, locked, unlock

HOLD = """
import sys, time
from pathlib import Path
from micrec.folder_lock import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds ``tmp_path``."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_refused_until_the_first_is_killed(tmp_path, holder):
    with pytest.raises(MicrecError, match="another command is writing there now"), locked(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_free_again_after_the_block(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    unlock(lock(tmp_path))


def test_two_writers_of_one_dataset_folder(tmp_path):
    out = tmp_path / "data"
    with new_folder(out, resume="0" * 16) as partial:
        (partial / "part").write_text("mine")
        with pytest.raises(MicrecError, match=r"data: another command is writing"), new_folder(out):
            pass
        with pytest.raises(MicrecError, match=r"data: another command is writing"), new_folder(out, resume="0" * 16):
            pass
        assert (partial / "part").read_text() == "mine"
    assert (out / "part").read_text() == "mine"
