"""Breakage through the command line: a clear error and exit code 2, or a correct result whose report says so."""

import json
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from abtest.cli.main import app
from abtest.online import parallel
from tests.abtest.online.tiny_runs import scenario_file

WORLD = Path("worlds/main/000/experiment")
CHANNELS = "platform.pipeline.channels"
CALM = (
    "platform.warmup_days=1",
    f"{CHANNELS}.popular.k=110",
    f"{CHANNELS}.item_cf.k=110",
)  # enough for the longest visit


def micrec(out: Path, *sets: str):
    options = [part for one in sets for part in ("--set", one)]
    return CliRunner().invoke(app, ["run", str(scenario_file()), "--out", str(out), "--workers", "1", *options])


def report(out: Path) -> str:
    """Lines of the report under its first heading about what went wrong."""
    _, found, rest = (out / "report.md").read_text(encoding="utf-8").partition("## What did not work")
    assert "What did not work" in (out / "report.html").read_text(encoding="utf-8") or not found
    return rest.partition("\n## ")[0].replace("\\_", "_")  # as Markdown escapes it


def table(out: Path, name: str) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in sorted((out / WORLD).glob(f"day-*/{name}*.parquet"))])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run in which nothing broke."""
    out = tmp_path_factory.mktemp("whole") / "run"
    result = micrec(out, *CALM)
    assert result.exit_code == 0, result.stderr
    assert report(out) == ""
    return out


def refused(result, *messages: str) -> None:
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    for message in messages:
        assert message in result.stderr


def test_an_arm_without_users_is_refused_before_anything_runs(tmp_path):
    refused(micrec(tmp_path / "run", "arms.treatment.weight=1e-9"), "arms.treatment.weight: none of the 200 users")
    assert not (tmp_path / "run").exists()


def test_a_model_without_an_eligible_item_is_told_with_its_key(tmp_path):
    matching = f"{CHANNELS}.matching={{kind: two_tower}}"
    refused(
        micrec(tmp_path / "run", matching, "serving.min_clicks=100000"), "matching: cannot be trained", "min_clicks"
    )


def test_a_channel_without_an_eligible_item_is_told_in_the_report(tmp_path):
    """The platform falls back, and every slate that is served shows it."""
    out = tmp_path / "run"
    fresh = f"{CHANNELS}={{fresh: {{kind: fresh, options: {{max_age_h: 0.0001}}}}}}"
    assert micrec(out, fresh, "world.items.new_share=0", "days=1").exit_code == 0
    served = table(out, "requests").filter(pl.col("result") == "slate")
    assert len(served)
    assert set(served["fallback"]) == {"popular"}
    assert "fresh had not one item to offer to A." in report(out)
    assert "of A's" in report(out)
    assert "were answered with the fallback list" in report(out)


def test_a_channel_that_is_always_late_is_told_in_the_report(whole, tmp_path):
    out = tmp_path / "run"
    late = (f"{CHANNELS}.item_cf.deadline_ms=1", f"{CHANNELS}.item_cf.latency={{kind: constant, mean_ms: 50}}")
    assert micrec(out, *CALM, *late).exit_code == 0
    serving = table(out, "serving").filter(pl.col("stage") == "item_cf")
    assert set(serving["outcome"]) == {"late"}
    assert "item_cf answered 0.0% of A's" in report(out)
    assert "late)" in report(out)
    assert "item_cf" not in set(table(out, "impressions")["channel"])
    assert "item_cf" in set(table(whole, "impressions")["channel"])


def unfinished(whole: Path, out: Path, *, days: int) -> list[Path]:
    """The run as a kill would have left it after so many days of the experiment, its last models in order."""
    shutil.copytree(whole, out)
    for file in ("results.json", "report.html", "report.md", "table.tex"):
        (out / file).unlink()
    shutil.rmtree(out / WORLD / "measures")
    finished = sorted((out / WORLD).glob("day-*"))
    for day in finished[days:]:
        shutil.rmtree(day)
    return sorted((finished[days - 1] / "models").iterdir())


def test_a_damaged_snapshot_is_made_anew_and_told_in_the_report(whole, tmp_path):
    """Half of the ranking model is gone when its next version should start from it."""
    out = tmp_path / "run"
    (ranking,) = (model for model in unfinished(whole, out, days=1) if model.name.startswith("ranking"))
    arrays = (ranking / "arrays.npz").read_bytes()
    (ranking / "arrays.npz").write_bytes(arrays[: len(arrays) // 2])
    result = micrec(out, *CALM)
    assert result.exit_code == 0, result.stderr
    assert "Day 2: ranking could not go on from its former version" in report(out)
    snapshots = table(out, "snapshots")
    assert snapshots.filter(pl.col("name") == "ranking")["status"].to_list() == ["ok", "restarted"]
    assert snapshots.filter(pl.col("name") != "ranking")["status"].unique().to_list() == ["ok"]
    assert table(out, "requests")["ranked"].all()


def test_a_kill_between_two_days_loses_nothing(whole, tmp_path):
    out = tmp_path / "run"
    unfinished(whole, out, days=1)
    assert micrec(out, *CALM).exit_code == 0
    for name in ("days.parquet", "facts.json"):
        assert (out / WORLD / "measures" / name).read_bytes() == (whole / WORLD / "measures" / name).read_bytes()


@contextmanager
def room(kilobytes: int):
    """No file may grow beyond so much: the operating system refuses the write, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kilobytes", [1, 8, 30])  # the scenario, a day's table, a checkpoint
def test_a_disk_that_takes_no_more_is_told_and_the_next_run_goes_on(whole, tmp_path, kilobytes):
    out = tmp_path / "run"
    with room(kilobytes):
        result = micrec(out, *CALM)
    refused(result, "free s")  # free some space, or free space
    assert not (out / "results.json").exists()
    assert micrec(out, *CALM).exit_code == 0
    found, expected = (json.loads((one / "results.json").read_text(encoding="utf-8")) for one in (out, whole))
    assert found["effects"] == expected["effects"]


def test_what_a_kill_left_untidied_is_tidied_by_the_next_run(whole, tmp_path, monkeypatch):
    """keep_logs: false, and a kill after the last day is measured but before its logs are dropped."""
    out, sets = tmp_path / "run", (*CALM, "keep_logs=false")

    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parallel, "drop_logs", killed)
        assert micrec(out, *sets).exit_code != 0
    days = sorted((out / WORLD).glob("day-*"))
    assert days
    (out / WORLD / ".day-0099.partial").mkdir()  # and what a day under way leaves
    times = (out / WORLD / "measures/facts.json").stat().st_mtime_ns
    assert micrec(out, *sets).exit_code == 0
    assert not list(out.glob("worlds/**/day-*")) + list(out.glob("worlds/**/.day-*"))
    assert (out / WORLD / "measures/facts.json").stat().st_mtime_ns == times  # measured once
    expected = (whole / WORLD / "measures/days.parquet").read_bytes()
    assert (out / WORLD / "measures/days.parquet").read_bytes() == expected
