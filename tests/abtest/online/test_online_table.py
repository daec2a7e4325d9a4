"""Table 3 of an experiment: the paper's lifts beside ours, for the metrics it has."""

from pathlib import Path

import pytest

from abtest.report.pages.experiment_tables import paper_table
from abtest.scenario_files import load_scenario
from micrec.errors import MicrecError

SHIPPED = Path(__file__).parents[3] / "scenarios" / "table3.yaml"


def effect(metric: str, lift: float, truth: float | None) -> dict:
    return {
        "family": "primary",
        "metric": metric,
        "treatment": {"arm": "treatment"},
        "lift": lift,
        "lift_ci": [lift - 0.01, lift + 0.01],
        "p_adjusted": 0.01,
        "significant": True,
        "valid": True,
        "truth": None if truth is None else {"lift": truth, "se": 0.0},
    }


def results(**scenario) -> dict:
    base = {"treatments": ["treatment"], "control": "control", "looks": "final", "alpha": 0.05}
    return {"scenario": {**base, **scenario}, "effects": [effect("ACC", 0.02, 0.03), effect("stay", 0.01, None)]}


def test_the_papers_lifts_stand_below_ours():
    table = paper_table(results(paper={"ACC": 0.05643}))
    assert [row[0] for row in table.rows] == [
        "treatment",
        "95 % interval",
        "adjusted p",
        "true lift",
        "the paper's own",
    ]
    assert table.rows[-2][1:] == ("+3.00 %", "n/a")
    assert table.rows[-1][1:] == ("+5.64 %", "")
    assert "never a target" in table.notes[-1]


def test_without_them_nothing_is_said_of_the_paper():
    table = paper_table(results(paper={}))
    assert [row[0] for row in table.rows][-1] == "true lift"
    assert len(table.notes) == 1


def test_the_shipped_scenario():
    scenario, resolved = load_scenario(SHIPPED)
    assert scenario.kind == "online_ab"
    assert resolved["paper"]["ACC-c"] == 0.11517
    with pytest.raises(MicrecError, match=r"paper\.ACD: no metric ACD: choose from ACC, ADT"):
        load_scenario(SHIPPED, ["paper.ACD=0.1"])
