"""A long run holds no more of its log in memory than the days that trainers see; the others stay on disk."""

import polars as pl
import pytest

from simulator.platform.platform_inputs import CLICKS
from tests.simulator.platform.fakes import (
    BOTH,
    DAY_S,
    START_S,
    contents,
    fake_setting,
    many,
    run,
    spying,
    table,
    tiny_keys,
)

WINDOW = 2


def old_clicks() -> pl.DataFrame:
    """One click ten days before the log began, one an hour before."""
    rows = [(1, 3, START_S - 10 * DAY_S, 1.0, False, False), (1, 6, START_S - 3_600, 1.0, False, False)]
    return pl.DataFrame(rows, schema=CLICKS, orient="row")


def with_history():
    setting = fake_setting()
    return type(setting)(setting.users, setting.items, old_clicks(), setting.start_s)


@pytest.mark.parametrize("training", ["shared", "diverted"])
def test_trainers_are_given_the_days_of_the_window_and_not_a_row_more(tmp_path, training):
    logs: list = []
    keys = tiny_keys(log_days=WINDOW, warmup_days=2, arms=BOTH, training=training)
    run(tmp_path, many(), keys, days=8, makers=spying(logs), setting=with_history())
    sizes = {}
    for day, name, log, _, _ in logs:
        number = int(day.removesuffix(".partial")[-4:])
        days = range(max(0, number - WINDOW), number)
        shown = pl.concat([table(tmp_path, "impressions", past) for past in days]) if days else pl.DataFrame()
        if "." in name and number > 2:  # of one arm; the warm-up is everybody's
            shown = shown.filter(pl.col("arm").is_in([name.split(".")[1], "warmup"]))
        assert len(log.impressions) == len(shown)
        since = START_S + (number - WINDOW) * DAY_S
        assert all(since <= at < START_S + number * DAY_S for at in log.clicks["timestamp"].to_list())
        sizes.setdefault(name, []).append(log.clicks.estimated_size() + log.impressions.estimated_size())
    for name, bytes_held in sizes.items():
        if len(bytes_held) >= 6 and name.startswith("a"):
            settled = bytes_held[WINDOW + 1 :]
            assert max(settled) <= 1.1 * min(settled), name
    assert any(len(bytes_held) >= 6 for bytes_held in sizes.values())


def test_days_behind_the_window_are_not_read_any_more(tmp_path):
    """Their tables may go, and the run goes on as if they were there."""
    keys = tiny_keys(log_days=WINDOW, warmup_days=1, arms=BOTH)
    for name in ("kept", "cleared"):
        run(tmp_path / name, many(), keys, days=4)
    for day in (0, 1):
        for path in (tmp_path / "cleared" / f"day-{day:04d}").glob("*.parquet"):
            path.unlink()
    for name in ("kept", "cleared"):
        run(tmp_path / name, many(), keys, days=6)
    for day in (4, 5):
        assert contents(tmp_path / f"kept/day-{day:04d}") == contents(tmp_path / f"cleared/day-{day:04d}")


def test_null_keeps_all_days(tmp_path):
    logs: list = []
    run(tmp_path, many(), tiny_keys(log_days=None), days=4, makers=spying(logs), setting=with_history())
    held = [len(log.clicks) for _, name, log, _, _ in logs if name.startswith("a-")]
    assert held == [2 + sum(table(tmp_path, "behaviours", past).height for past in range(day)) for day in range(4)]
