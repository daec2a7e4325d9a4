"""micrec analyze, power and aa: files in, tables and files out; people's mistakes leave with code 2."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from abtest.cli import app

from .logs import days, users

RUN = CliRunner()


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.parquet"
    users(2000, lift=0.3).write_parquet(path)
    return path


def test_analyze_writes_every_file(log, tmp_path):
    out = tmp_path / "out"
    done = RUN.invoke(app, ["analyze", str(log), "--control", "A", "--treatment", "B", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "SHIP: B is better than A" in done.stdout
    assert {path.name for path in out.iterdir()} == {"results.json", "report.html", "report.md", "table.tex"}
    again = RUN.invoke(app, ["analyze", str(log), "--control", "A", "--treatment", "B", "--out", str(out)])
    assert again.exit_code == 2
    assert "--force" in again.stderr


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "folder"])
def test_any_file_gives_the_same_numbers(log, tmp_path, kind):
    table = pl.read_parquet(log)
    path = tmp_path / f"same.{kind}"
    if kind == "folder":
        path.mkdir()
        for part, rows in enumerate(table.iter_slices(700)):
            rows.write_parquet(path / f"part-{part}.parquet")
    else:
        table.write_csv(path, compression="gzip" if kind == "csv.gz" else "uncompressed")
    found = []
    for source in (log, path):
        out = tmp_path / f"out-{source.name}"
        args = ["analyze", str(source), "--control", "A", "--treatment", "B", "--out", str(out)]
        assert RUN.invoke(app, args).exit_code == 0
        found.append(json.loads((out / "results.json").read_text())["effects"])
    assert [e["p"] for e in found[0]] == pytest.approx([e["p"] for e in found[1]], rel=1e-9)


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--control", "X", "--treatment", "B"], "no row is of arm 'X'"),
        (["--control", "A", "--treatment", "B", "--columns", "clicks"], "must be NAME=VALUE"),
        (["--control", "A", "--treatment", "B", "--weights", "A=1,B=half"], "the share must be a number"),
        (["--control", "A", "--treatment", "B", "--looks", "daily"], "the log has no days"),
        (["--control", "A", "--treatment", "B", "--alpha", "2"], "alpha: must lie within"),
        (["--control", "A", "--treatment", "B", "--metrics", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_mistakes_leave_with_code_2(log, args, part):
    done = RUN.invoke(app, ["analyze", str(log), *args])
    assert done.exit_code == 2
    assert part in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("name", ["none.parquet", "bad.parquet", "bad.txt", "empty"])
def test_files_that_cannot_be_read(tmp_path, name):
    path = tmp_path / name
    if name.startswith("bad"):
        path.write_bytes(b"PAR1 not really")
    elif name == "empty":
        path.mkdir()
    done = RUN.invoke(app, ["analyze", str(path), "--control", "A", "--treatment", "B"])
    assert done.exit_code == 2
    assert name in done.stderr


def test_power_from_numbers_is_statsmodels_own():
    from statsmodels.stats.power import NormalIndPower

    done = RUN.invoke(app, ["power", "--mean", "2.5", "--sd", "4", "--lift", "0.02", "--users-per-day", "20000"])
    assert done.exit_code == 0, done.output
    users_needed = int(done.stdout.split("+2.00 %")[1].split()[0].replace(",", ""))
    reference = NormalIndPower().solve_power(effect_size=0.05 / 4, alpha=0.05, power=0.8)
    assert users_needed == pytest.approx(reference, rel=0.03)  # the lift also stretches the treatment's variance


def test_power_and_aa_from_a_log(tmp_path):
    path = tmp_path / "days.parquet"
    days(3000).drop("arm").write_parquet(path)
    power = RUN.invoke(app, ["power", str(path)])
    assert power.exit_code == 0, power.output
    assert "Smallest lift found" in power.stdout
    aa = RUN.invoke(app, ["aa", str(path), "--deals", "500"])
    assert aa.exit_code == 0, aa.output
    assert "UNSOUND" not in aa.stdout
    assert "500 A/A splits of 3,000 users" in aa.stdout


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ([], "give a log, or both --mean and --sd"),
        (["--mean", "1", "--sd", "0"], "a spread above 0"),
        (["--mean", "1", "--sd", "1", "--lift", "0"], "lift must not be 0"),
        (["--mean", "1", "--sd", "1", "--power", "2"], "power must lie within"),
    ],
)
def test_plans_that_cannot_be(args, part):
    done = RUN.invoke(app, ["power", *args])
    assert done.exit_code == 2
    assert part in done.stderr
