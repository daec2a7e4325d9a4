"""micrec analyze, power and aa: files in, tables and files out; people's mistakes leave with code 2."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from abtest.cli.main import app

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
    aa = RUN.invoke(app, ["aa", str(path), "--splits", "500"])
    assert aa.exit_code == 0, aa.output
    assert "UNSOUND" not in aa.stdout
    assert "500 A/A splits of 3,000 users" in aa.stdout


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ([], "give a log, or both --mean and --sd"),
        (["--mean", "1", "--sd", "0"], "--sd 0: must be a number above 0"),
        (["--mean", "1", "--sd", "1", "--lift", "0"], "--lift 0: must be a number above -1"),
        (["--mean", "1", "--sd", "1", "--power", "2"], "--power 2: must lie between --alpha 0.05 and 1"),
    ],
)
def test_plans_that_cannot_be(args, part):
    done = RUN.invoke(app, ["power", *args])
    assert done.exit_code == 2
    assert part in done.stderr


ARMS = ["--control", "A", "--treatment", "B"]


def test_json_on_stdout_is_results_json(log, tmp_path):
    """And the one line about the report goes to stderr."""
    out = tmp_path / "out"
    done = RUN.invoke(app, ["analyze", str(log), *ARMS, "--json", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((out / "results.json").read_text())
    assert "report: " in done.stderr


def test_quiet_prints_the_verdict_alone(log):
    done = RUN.invoke(app, ["analyze", str(log), *ARMS, "--quiet"])
    assert done.stdout == "SHIP: B is better than A on ACC and ADT, and worse on no primary metric.\n"
    both = RUN.invoke(app, ["analyze", str(log), *ARMS, "--quiet", "--json"])
    assert (both.exit_code, "choose one" in both.stderr) == (2, True)


@pytest.mark.parametrize(
    ("table", "args", "code", "word"),
    [
        (users(2000, lift=0.3), [], 0, "SHIP"),
        (users(2000), [], 10, "HOLD"),
        (users(2000, lift=-0.3), [], 11, "STOP"),
        (users(2000, lift=0.3), ["--weights", "A=1,B=2"], 12, "not valid"),
        (users(2000, lift=0.3), ["--alpha", "2"], 2, "alpha"),
    ],
    ids=["ship", "hold", "stop", "invalid", "error"],
)
def test_exit_codes(tmp_path, table, args, code, word):
    table.write_parquet(tmp_path / "log.parquet")
    command = ["analyze", str(tmp_path / "log.parquet"), *ARMS, *args]
    done = RUN.invoke(app, [*command, "--exit-code"])
    assert done.exit_code == code, done.output
    assert word in done.output
    assert RUN.invoke(app, command).exit_code == (2 if code == 2 else 0)


def test_the_worst_of_several_treatments_is_the_exit_code(tmp_path):
    up, down = users(3000, lift=0.4), users(3000, lift=-0.4, seed=2)
    third = down.filter(pl.col("arm") == "B").with_columns(arm=pl.lit("C"), user_id=pl.col("user_id") + 10_000)
    pl.concat([up, third]).write_parquet(tmp_path / "log.parquet")
    done = RUN.invoke(app, ["analyze", str(tmp_path / "log.parquet"), *ARMS, "--treatment", "C", "--exit-code", "-q"])
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["SHIP", "STOP"]
    assert done.exit_code == 11


def test_exit_codes_stand_in_the_help():
    text = " ".join(RUN.invoke(app, ["analyze", "--help"], env={"COLUMNS": "200"}).stdout.split())
    for part in ("--json", "--quiet", "--exit-code", "10 HOLD, 11 STOP and 12"):
        assert part in text


def test_power_as_json():
    args = ["power", "--mean", "2.5", "--sd", "4", "--lift", "0.02", "--users-per-day", "20000", "--users", "9000"]
    plain, told = RUN.invoke(app, args), RUN.invoke(app, [*args, "--json"])
    found = json.loads(told.stdout)
    assert found["kind"] == "power"
    needed, smallest = (table["rows"][0] for table in found["tables"])
    assert f"{needed['n_control']:,}" in plain.stdout
    assert (needed["lift"], needed["power"], needed["alpha"]) == pytest.approx((0.02, 0.8, 0.05), rel=1e-4)
    assert needed["days"] == -(-(needed["n_control"] + needed["n_treatment"]) // 20_000)
    assert f"{100 * smallest['lift']:+.2f} %" in plain.stdout


def test_aa_as_json_and_exit_code(log):
    args = ["aa", str(log), "--splits", "300"]
    told = RUN.invoke(app, [*args, "--json", "--exit-code"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)["tables"][0]["rows"]
    assert [row["metric"] for row in found][:2] == ["ACC", "ADT"]
    assert all(row["sound"] and row["splits"] == 300 and row["planted"][0]["lift"] == 0.02 for row in found)
    quiet = RUN.invoke(app, [*args, "--quiet"])
    assert "sound" in quiet.stdout
    assert "Sound: the rate" not in quiet.stdout


def test_a_metric_that_cannot_be_tested_fails_the_exit_code(tmp_path):
    users(400).with_columns(clicks=pl.lit(1)).write_parquet(tmp_path / "log.parquet")
    done = RUN.invoke(app, ["aa", str(tmp_path / "log.parquet"), "--splits", "50", "--exit-code"])
    assert done.exit_code == 12, done.output


def test_columns_that_nobody_judges_are_told_once(tmp_path):
    table = users(2000, lift=0.3).drop("likes", "follows", "impressions")
    table = table.with_columns(revenue=pl.col("clicks") * 2.5, orders=pl.col("clicks") // 3, item_id=pl.col("clicks"))
    table.with_columns(country=pl.lit("NO")).write_parquet(tmp_path / "log.parquet")
    args = ["analyze", str(tmp_path / "log.parquet"), *ARMS]
    shown = RUN.invoke(app, args).stdout
    notes = [line for line in shown.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: Not measured, because their columns are missing: ALR (likes), AFR (follows), stay (days), "
        "stay-c (days), CTR (impressions).",
        "note: Not used: revenue, orders; judge them with --metrics.",
    ]
    told = RUN.invoke(app, [*args, "--columns", "dwell_s=revenue * 2"]).stdout
    assert "Not used: orders; judge" in told
    metrics = tmp_path / "metrics.yaml"
    metrics.write_text("primary: [spend]\nmetrics: {spend: {value: revenue, label: money spent in the test}}\n")
    own = RUN.invoke(app, [*args, "--metrics", str(metrics)]).stdout
    assert "spend: money spent in the test." in own
    assert "Not used" not in own


def test_a_metric_of_which_less_is_better_says_so(tmp_path, log):
    metrics = tmp_path / "metrics.yaml"
    metrics.write_text("primary: [wait]\nmetrics: {wait: {value: dwell_s, direction: down}}\n")
    shown = RUN.invoke(app, ["analyze", str(log), *ARMS, "--metrics", str(metrics)]).stdout
    assert "wait: less is better." in shown


def test_a_log_without_any_known_column_names_its_numbers(tmp_path):
    table = users(50).select("user_id", "arm", revenue=pl.col("clicks") * 2.5, note=pl.lit("x"))
    table.write_parquet(tmp_path / "log.parquet")
    done = RUN.invoke(app, ["analyze", str(tmp_path / "log.parquet"), *ARMS])
    assert done.exit_code == 2
    assert "none of clicks, dwell_s, likes, follows, impressions; there are numbers in revenue." in done.stderr
    assert "--metrics" in done.stderr
