"""Sections of the report from facts made by hand."""

import polars as pl
import pytest

from abtest.online.funnel import funnel_sections
from abtest.online.measures import offered_by_channel

ARMS = {"control": "ICAN", "treatment": "MicRec"}


def channel(arm, name, **counts):
    none = dict.fromkeys(("offered", "merged", "impressions", "clicks", "dwell_s", "likes", "follows", "link_clicks"))
    return {"arm": arm, "channel": name, **none, **counts}


FACTS = {
    "channels": [
        channel("control", "a", offered=1_000, merged=500, impressions=100, clicks=10, dwell_s=35.0, link_clicks=2),
        channel("control", "b", offered=400, merged=0),  # was never shown
        channel("control", "fallback", impressions=5, clicks=0),  # offers nothing by itself
    ],
    "overlap": [
        {"arm": "control", "channel": "a", "a": 100, "b": 25},
        {"arm": "control", "channel": "b", "a": 25, "b": 25},
    ],
    "causes": [
        {"arm": "control", "cause": "link", "len": 2},
        {"arm": "control", "cause": "taste", "len": 8},
        {"arm": "treatment", "cause": "taste", "len": 4},
    ],
    "stages": [
        {
            "arm": "control",
            "stage": "a",
            "jobs": 200,
            "answered": 150,
            "late": 50,
            "error": 0,
            "down": 0,
            "wait_ms": 1.25,
            "p50_ms": 10.0,
            "p95_ms": 20.0,
            "p99_ms": None,
        }
    ],
    "outcomes": [
        {"arm": "control", "result": "slate", "fallback": "none", "len": 6},
        {"arm": "control", "result": "slate", "fallback": "partial", "len": 3},
        {"arm": "control", "result": "empty", "fallback": "popular", "len": 1},
    ],
    "slates": [{"arm": "control", "requests": 10, "p50_ms": 30.0, "p95_ms": 50.0, "p99_ms": 1_234.5}],
    "daily": [
        {"arm": "control", "day": 12, "users": 5, "requests": 6, "failed": 0, "clicks": 7},
        {"arm": "control", "day": 13, "users": 4, "requests": 4, "failed": 1, "clicks": None},
    ],
    "returns": [
        {"arm": "control", "day": 0, "users": 5, "cohort": 5},
        {"arm": "control", "day": 1, "users": 2, "cohort": 5},
    ],
}


@pytest.fixture(scope="module")
def blocks():
    return {block.title: block for section in funnel_sections(FACTS, ARMS, 12) for block in section.blocks}


def test_channels_lose_items_from_stage_to_stage(blocks):
    rows = blocks["The funnel by channel"].rows
    assert rows[0] == ("ICAN", "a", "1,000", "500", "100", "10.00%", "10", "10.00%", "3.5", "2")
    assert rows[1] == ("ICAN", "b", "400", "0", "0", "0.00%", "0", "–", "–", "0")
    assert rows[2] == ("ICAN", "fallback", "–", "–", "5", "–", "0", "0.00%", "–", "0")


def test_clicks_are_counted_by_cause_in_shares_of_the_arm(blocks):
    table = blocks["Clicks by cause"]
    assert table.header == ("cause", "ICAN", "MicRec")
    assert table.rows == [("taste", "8 (80.0%)", "4 (100.0%)"), ("planted link", "2 (20.0%)", "0 (0.0%)")]


def test_late_answers_and_bad_slates_are_shares_of_requests(blocks):
    assert blocks["Stages"].rows[0][3:7] == ("75.00%", "25.00%", "0.00%", "0.00%")
    assert blocks["Stages"].rows[0][-1] == "–"
    assert blocks["Slates"].rows[0] == ("ICAN", "10", "30.00%", "10.00%", "10.00%", "0.00%", "30.0", "50.0", "1,234.5")


def test_days_are_counted_from_the_experiments_first(blocks):
    (line,) = blocks["Clicks by day"].series
    assert (list(line.x), list(line.y)) == ([1, 2], [7, 0])


def test_overlap_is_a_share_of_what_the_channel_had_shown(blocks):
    assert blocks["Overlap of channels, ICAN"].rows == [("a", "100", "", "25.0%"), ("b", "25", "100.0%", "")]


def test_items_offered_are_counted_beyond_32_bits():
    """3,000 jobs of a million candidates each: 3e9 items, of a column of 32 bits."""
    jobs = pl.DataFrame(
        {"arm": ["A"] * 3000, "stage": ["popular"] * 3000, "offered": [1_000_000] * 3000, "merged": [900_000] * 3000}
    ).cast({"offered": pl.Int32, "merged": pl.Int32})
    found = offered_by_channel(jobs.lazy()).collect().row(0, named=True)
    assert found == {"arm": "A", "channel": "popular", "offered": 3_000_000_000, "merged": 2_700_000_000}
