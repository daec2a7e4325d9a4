"""What commands print where the terminal is narrow: no line too long, no heading cut, no number or interval broken."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from abtest.cli.main import app
from abtest.report import formatting
from abtest.report.tables import Table
from abtest.report.terminal import fitted, natural_width

from .logs import days, users

ARMS = ["--control", "A", "--treatment", "B"]
METRICS = """
primary: [ACC, basket]
guardrails: [follow]
metrics:
  basket: {label: value of the basket, value: dwell_s}
  follow: {value: follows, margin: 0.02}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs")
    table = users(3000, lift=0.02)
    table.with_columns(country=table["user_id"] % 3).write_parquet(path / "users.parquet")
    days(lift=0.02).write_parquet(path / "days.parquet")
    (path / "metrics.yaml").write_text(METRICS)
    return path


def printed(folder: Path, *args: str, columns: int | None = 80) -> str:
    env = {"COLUMNS": str(columns) if columns else ""}
    done = CliRunner().invoke(app, [text.replace("DIR", str(folder)) for text in args], env=env)
    assert done.exit_code == 0, done.output
    return done.stdout


COMMANDS = {
    "plain": ["analyze", "DIR/users.parquet", *ARMS, "--slices", "country"],
    "daily": ["analyze", "DIR/days.parquet", *ARMS, "--looks", "daily"],
    "open": ["analyze", "DIR/days.parquet", *ARMS, "--looks", "open"],
    "guardrail": ["analyze", "DIR/users.parquet", *ARMS, "--metrics", "DIR/metrics.yaml"],
    "power": ["power", "DIR/users.parquet", "--lift", "2%", "--users", "50000"],
    "plan": ["power", "--mean", "2", "--sd", "3", "--lift", "2%", "--users", "50000", "--metrics", "2"],
    "aa": ["aa", "DIR/users.parquet", "--splits", "50", "--lift", "2%", "--lift", "0.05", "--lift", "10%"],
}


@pytest.mark.parametrize("columns", [80, 100, 132])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_too_long_and_no_word_is_cut(folder, command, columns):
    text = printed(folder, *COMMANDS[command], columns=columns)
    assert max(cell_len(line) for line in text.splitlines()) <= columns
    assert "…" not in text


@pytest.mark.parametrize("command", ["plain", "daily", "open", "guardrail"])
def test_every_interval_and_outcome_stands_in_one_piece(folder, command):
    """Rows of tables begin with two spaces and the metric; the numbers are those of --json."""
    args = COMMANDS[command]
    lines = printed(folder, *args).splitlines()
    results = json.loads(printed(folder, *args, "--json"))
    heading = {"daily": "95 % repeated interval", "open": "95 % anytime interval"}.get(command, "95 % interval")
    assert any(heading in line and "lift" in line for line in lines)
    for effect in results["effects"]:
        name = effect["metric"] if effect["family"] != "slice" else f"{effect['metric']}, {effect['slice']}"
        rows = [line for line in lines if line.startswith(f"  {name}  ")]
        for cell in (
            formatting.percent(effect["lift"]) + "   ",
            formatting.percent_interval(effect["lift_ci"]),
            formatting.value(effect["control"]["mean"]),
            formatting.value(effect["treatment"]["mean"]),
        ):
            assert any(cell in row for row in rows), (name, cell)
    if command == "guardrail":
        assert "within the margin of 2 %" in "\n".join(lines)


def test_splits_stand_with_their_intervals(folder):
    text = printed(folder, *COMMANDS["aa"])
    (row,) = [line for line in text.splitlines() if line.startswith("  ACC ") and "sound" in line.lower()]
    assert row.count("%") == 2  # the rate and its interval
    assert "coverage at +2 %   power at +2 %   coverage at +5 %   power at +5 %" in text


def test_without_a_terminal_or_columns_tables_stay_whole(folder):
    text = printed(folder, *COMMANDS["plain"], columns=None)
    (heading,) = [line for line in text.splitlines() if "difference " in line and "Holm p " in line and "lift" in line]
    assert heading.split()[0] == "metric"
    assert heading.split()[-1] == "outcome"


def test_parts_name_their_rows_keep_every_column_and_end_with_the_notes():
    table = Table("T", ("name", "one", "two", "three", "four"), [("a", "1" * 20, "2" * 9, "3" * 9, "4")], ["note"])
    assert natural_width(table) == 4 + 20 + 9 + 9 + 4 + 3 * 5 + 1
    parts = fitted(table, 40, together=(2, 3))
    assert [part.header for part in parts] == [("name", "one"), ("name", "two", "three", "four")]
    assert [part.title for part in parts] == ["T", ""]
    assert [part.notes for part in parts] == [[], ["note"]]
    assert fitted(table, natural_width(table)) == [table]
    assert len(fitted(table, 5)) == 4  # a column that is too wide alone still stands alone


BLOCKED = """
import sys
for name in ("torch", "faiss", "matplotlib", "simpy"):
    sys.modules[name] = None  # as if it was not installed
from abtest.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "args",
    [
        ["analyze", "DIR/users.parquet", *ARMS, "--exit-code"],
        ["analyze", "DIR/users.parquet", *ARMS, "--exit-code", "--out", "DIR/out"],
        ["power", "--mean", "2", "--sd", "3", "--json"],
        ["power", "DIR/users.parquet"],
        ["aa", "DIR/users.parquet", "--splits", "50"],
    ],
)
def test_verdicts_and_plans_need_no_training_library(folder, args):
    args = [text.replace("DIR", str(folder)) for text in args]
    done = subprocess.run([sys.executable, "-c", BLOCKED, *args], capture_output=True, text=True, check=False)
    assert done.returncode == (10 if "--exit-code" in args else 0), done.stderr
    assert done.stderr == ""
    if "--json" in args:
        json.loads(done.stdout)


@pytest.mark.parametrize(("text", "part"), [("2", "is +200 %: for 2 % write --lift 2%"), ("x", "such as 0.02, or 2%")])
def test_a_planted_lift_is_a_share_or_per_cent(folder, text, part):
    done = CliRunner().invoke(app, ["aa", str(folder / "users.parquet"), "--splits", "20", "--lift", text])
    assert done.exit_code == 2
    assert part in done.stderr
