"""A real log of impressions, split by a hash into an A/A: the verdict must find nothing, and be calibrated."""

from pathlib import Path

import pytest

from abtest.analysis.analysis import analyse
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.planning import calibration_table, read_history
from abtest.analysis.results import results_of
from abtest.analysis.userlog import read_log

LOG = Path(__file__).parents[4] / "shared/data/kuairand_pure_0425_0430/log_standard_0425_0430.csv.gz"
pytestmark = pytest.mark.skipif(not LOG.exists(), reason="the KuaiRand log does not lie beside the project")
KEYS = {
    "columns": {
        "clicks": "is_click",
        "dwell_s": "play_time_ms / 1000",
        "likes": "is_like",
        "follows": "is_follow",
        "impressions": "1",
        "day": "date",
    },
    "rows": "parts",
    "dedupe": ("user_id", "video_id", "time_ms"),
    "planned_days": 6,
}


def test_an_aa_of_a_real_log_is_sound():
    plan = AnalysisPlan("A", ("B",), split_salt="s1", **KEYS)
    results = results_of(analyse(read_log(LOG, plan), plan))
    assert "2,979 of 94,784 rows repeat another's user_id, video_id, time_ms and were dropped." in results["notes"]
    assert results["dataset"]["users"] == 21_184
    assert {e["metric"] for e in results["effects"]} == {"ACC", "ADT", "ALR", "AFR", "stay", "CTR"}
    assert not any(e["significant"] for e in results["effects"])
    assert not results["alarms"]
    assert results["verdicts"][0]["decision"] == "hold"


def test_thousands_of_splits_of_it_are_calibrated():
    table = calibration_table(
        read_history(LOG, AnalysisPlan("A", ("B",), **KEYS)), splits=2000, alpha=0.05, lifts=(0.05,), seed=0
    )
    assert [row[4] for row in table.rows] == ["sound"] * 6
