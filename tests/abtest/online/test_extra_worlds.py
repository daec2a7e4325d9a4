"""Interleaved worlds and control that explores: whom they prefer, what they refuse, what the report says."""

import numpy as np
import polars as pl
import pytest

from abtest.online.experiment import judge
from abtest.online.extra_sections import extra_sections
from abtest.online.extra_worlds import INTERLEAVED, interleaved_name
from abtest.online.interleaving import ALL_CLICKS, OWN_CLICKS, SPLIT
from abtest.online.off_policy import estimate
from abtest.online.simulate import Simulation, simulate, simulations_of
from micrec.errors import MicrecError
from tests.abtest.online.tiny_runs import run, tiny

WORLDS = ("truth.worlds=true", "world.users.count=400")
BETTER = "arms.treatment.pipeline.channels.item_cf={kind: oracle, k: 40, quota: 20}"
WORSE = "arms.control.pipeline.channels.item_cf={kind: oracle, k: 40, quota: 20}"


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """One scenario with everything, judged."""
    root = tmp_path_factory.mktemp("worlds")
    scenario = tiny(*WORLDS, BETTER, "interleaving={}", "off_policy={explore: 0.8, among: 5}")
    for one in simulations_of(scenario):
        simulate(scenario, root, one)
    return judge(scenario, root, "main", 0, command="")


def test_interleaving_sees_the_better_matcher(judged):
    (found,) = judged.preferences
    assert found.lift > 0.0
    assert found.z > 2.0
    assert found.ways[ALL_CLICKS].effect > 0.0
    assert found.ways[OWN_CLICKS].effect > 0.0
    assert found.ways[ALL_CLICKS].users < found.ways[SPLIT].users
    low, high = found.ratios[ALL_CLICKS, SPLIT].ci
    assert low <= found.ratios[ALL_CLICKS, SPLIT].ratio <= high
    assert found.ratios[ALL_CLICKS, SPLIT].same_sign > 0.9


def test_arms_exchanged_turn_the_preference_around():
    better, worse = (
        run(*WORLDS, keys, "interleaving={}", part=interleaved_name("treatment")) for keys in (BETTER, WORSE)
    )
    sums = [
        pl.read_parquet(one.folder / "measures" / "credits.parquet").select(pl.col("first", "second").sum()).row(0)
        for one in (better, worse)
    ]
    assert sums[0][1] > sums[0][0]
    assert sums[1][0] > sums[1][1]


def test_credit_is_of_the_impressions(judged):
    """Sums by user of the credited clicks are those of the log, and own items are some of them."""
    (found,) = judged.preferences
    first, second = found.clicks
    folder = judged.root / interleaved_name("treatment")
    credit = pl.read_parquet(folder / "measures" / "credits.parquet")
    assert credit.select(pl.col("first", "second").sum()).row(0) == (first, second)
    assert (credit["first_own"] <= credit["first"]).all()
    shown = pl.concat([pl.read_parquet(one) for one in folder.glob("day-*/impressions-*.parquet")])
    by_channel = dict(shown.filter("clicked").group_by("channel").len().iter_rows())
    assert (by_channel["item_cf"], by_channel["item_cf_challenger"]) == (first, second)


def test_off_policy_values_beside_their_truth(judged):
    by_name = {one.policy: one for one in judged.policies}
    assert set(by_name) == {"ranking", "popular", "item_cf"}
    for one in by_name.values():
        assert one.overlap.choices > 300
        assert 0.0 <= one.truth <= 1.0
        assert [value.method for value in one.values] == ["IPS", "SNIPS", "DR"]
        if not one.overlap.warnings:
            assert sum(low <= one.truth <= high for _, _, _, (low, high) in one.values) >= 1
    assert by_name["ranking"].overlap.mean_weight == pytest.approx(1.0, abs=0.25)


def test_the_report_has_both(judged):
    interleaving, off_policy = extra_sections(judged)
    assert interleaving.title.startswith("Interleaving")
    assert "credited clicks" in interleaving.text[0]
    assert off_policy.title.startswith("From the log alone")
    (table,) = [block for block in off_policy.blocks if hasattr(block, "rows") and hasattr(block, "header")]
    assert [row[0] for row in table.rows] == ["ranking", "popular", "item_cf"]
    assert any("POOR OVERLAP" in text for text in off_policy.text) == any(
        one.overlap.warnings for one in judged.policies
    )


def test_estimates_hold_the_truth_over_many_logs():
    """Logs drawn from one set of choices with exact chances: SNIPS and DR intervals hold its truth."""
    rng, n, hits = np.random.default_rng(0), 3000, {"IPS": 0, "SNIPS": 0, "DR": 0}
    for run_number in range(60):
        liking = rng.random(n) * 0.4
        explores = rng.random(n) < 0.5
        picked = rng.integers(1, 5, n)
        shown = np.where(explores, picked, 0)
        choices = pl.DataFrame(
            {
                "user_id": np.arange(n) // 3,
                "policy": "b",
                "item_id": np.full(n, 2),
                "propensity": np.full(n, 0.125),
                "channel": "b",
                "channel_place": np.full(n, 2),
                "score": np.full(n, 0.1),
                "shown_item": shown,
                "shown_propensity": np.where(shown == 0, 0.5, 0.125),
                "shown_channel": np.where(shown == 2, "b", "a"),
                "shown_place": shown,
                "shown_score": np.full(n, 0.1),
                "clicked": rng.random(n) < liking * (0.5 + 0.25 * shown),
                "truth": rng.random(n) < liking,
            }
        )
        (found,) = estimate(choices, ["b"], alpha=0.05, seed=run_number)
        for value in found.values:
            hits[value.method] += value.ci[0] <= 0.2 <= value.ci[1]
    assert all(count >= 52 for count in hits.values()), hits


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("interleaving={}",), "differ in none"),
        (("interleaving={}", BETTER, "truth.worlds=false"), "set truth: true"),
        (("interleaving={}", "arms.treatment.pipeline.channels.item_cf=null"), "one channel that both have"),
        (("interleaving={}", BETTER, "arms.treatment.pipeline.slate_size=5"), "changes slate_size too"),
        (("off_policy={policies: [item_cv]}",), "no channel item_cv"),
        (("off_policy={explore: 0}",), "off_policy.explore"),
        (("platform.pipeline.merge.draft=[item_cf, popular2]",), "no channel popular2"),
        (("platform.pipeline.merge.draft=[item_cf, item_cf]",), "names one channel twice"),
        (("platform.pipeline.policies=[nobody]",), "no channel nobody"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_key(keys, text):
    with pytest.raises(MicrecError, match=text):
        tiny(*(("truth.worlds=true",) if "truth.worlds=false" not in keys else ()), *keys)


def test_fewer_users_are_the_first_ones():
    scenario = tiny(*WORLDS, BETTER, "interleaving={users: 100}")
    found = run(*WORLDS, BETTER, "interleaving={users: 100}", part=f"{INTERLEAVED}treatment")
    assert found.days["user_id"].max() < 100
    assert Simulation("main", 0, f"{INTERLEAVED}treatment") in simulations_of(scenario)


def test_results_are_what_the_schema_says(judged):
    """Both parts of results.json validate as the published schema has them."""
    import json

    from jsonschema import Draft202012Validator

    from abtest.online.interleaving import interleaving_data
    from abtest.online.off_policy import off_policy_data
    from abtest.run_folder import json_text
    from abtest.schema import results_schema

    def properties(node):
        if isinstance(node, dict):
            if "off_policy" in node.get("properties", {}):
                return node["properties"]
            return next((found for one in node.values() if (found := properties(one))), None)
        return next((found for one in node if (found := properties(one))), None) if isinstance(node, list) else None

    known = properties(results_schema())
    data = {"a": interleaving_data(judged.preferences), "b": off_policy_data(judged.policies)}
    plain = json.loads(json_text(data))
    Draft202012Validator(known["interleaving"]).validate(plain["a"])
    Draft202012Validator(known["off_policy"]).validate(plain["b"])
