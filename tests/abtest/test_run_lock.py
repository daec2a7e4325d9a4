"""Two runs never work in one folder: the second is told, and nothing of the first is touched."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from abtest.cli.main import app
from abtest.run_folder import alone_in_folder, open_run
from micrec.errors import MicrecError

HOLD = """
import sys, time
from pathlib import Path
from abtest.run_folder import open_run
open_run(Path(sys.argv[1]), force=False)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("scenario", ["table1", "offline_ab", "table2", "grid", "quickstart"])
def test_a_second_run_is_refused(tmp_path, scenario):
    out = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for force in ([], ["--force"]):
            result = CliRunner().invoke(app, ["run", scenario, "--out", str(out), *force])
            assert result.exit_code == 2
            assert "another command is writing there now" in result.output
            assert list(out.iterdir()) == []
        process.kill()
    open_run(out, force=False)


def test_the_folder_is_free_after_a_run_that_failed(tmp_path):
    @alone_in_folder
    def run(scenario, out):
        open_run(out, force=False)
        raise MicrecError("failed")

    with pytest.raises(MicrecError, match="failed"):
        run(None, tmp_path / "run")
    hold = subprocess.run(
        [sys.executable, "-c", HOLD.replace("60", "0"), str(tmp_path / "run")], capture_output=True, text=True
    )
    assert hold.stdout == "held\n", hold.stderr
