"""Metrics that a scenario names: counts against the log itself, slices, margins, several treatments, and refusals."""

import polars as pl
import pytest

from abtest.online.aa_study import aa_section
from abtest.online.experiment import judge
from abtest.online.platform_metrics import ASKED, HEAD_SHARE, NEW_DAYS
from abtest.online.simulate import simulate, simulations_of
from abtest.online.study import study_section, summarise
from abtest.online.study_reports import ONLINE_AB, _alike
from micrec.errors import MicrecError
from tests.abtest.online.tiny_runs import run, tiny

OWN = (
    "primary=[CTR, tail-share]",
    "secondary=[new-item-clicks, tail-clicks, requests, long]",
    "guardrails=[{metric: latency, worse: 0.1}]",
    "slices=[gender]",
    "metrics.long={value: 'where(dwell_s > 100, 1, 0)', label: users with more than 100 s}",
)
THREE = (
    "truth.worlds=true",
    "arms.treatment={label: B, pipeline: {slate_size: 6}}",
    "arms.third={label: C, pipeline: {slate_size: 8}}",
)
MORE = ("world.users.count=500", "platform.warmup_days=1")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    root = tmp_path_factory.mktemp("worlds")
    scenario = tiny(*OWN, *THREE, *MORE)
    for one in simulations_of(scenario):
        simulate(scenario, root, one)
    return judge(scenario, root, "main", 0, command="")


def by_user(found, table, values):
    return dict(table.group_by("user_id").agg(values).iter_rows())


def test_counts_are_those_of_the_log():
    found = run(*OWN, *MORE)
    days, clicks, asked = found.days, found.table("behaviours"), found.table("requests")
    published = found.published_s()
    start_s = (clicks["timestamp"] - asked["asked_s"].min()).min()
    assert start_s is not None
    per_user = by_user(found, days, pl.col("latency_ms").sum())
    expected = by_user(found, asked, (1e3 * (pl.col("answered_s") - pl.col("asked_s"))).sum())
    assert per_user == pytest.approx(expected)
    known = pl.concat([found.table("behaviours", warm_up=True).select("item_id")])
    assert days["tail_clicks"].sum() <= days["clicks"].sum()
    assert days["new_item_clicks"].sum() <= days["clicks"].sum()
    # the head is a fifth of the items; every click is in it or in the tail
    warm = known.group_by("item_id").len()
    assert len(published) * HEAD_SHARE == 24
    assert len(warm) > 24
    assert 0 < days["tail_clicks"].sum() < days["clicks"].sum()


def test_new_clicks_are_on_items_younger_than_that():
    found = run(*OWN, *MORE)
    clicks, published = found.table("behaviours"), found.published_s()
    epoch = found.scenario.world_config(0)
    from simulator.world.world import World

    start_s = World.build(epoch).start_s
    aged = clicks.join(published, on="item_id").with_columns(age=pl.col("timestamp") - start_s - pl.col("published_s"))
    young = aged.filter(pl.col("age") <= NEW_DAYS * 86_400)
    assert abs(young.height - found.days["new_item_clicks"].sum()) <= 0.01 * clicks.height + 1


def test_own_metrics_decide(judged):
    roles = {effect.metric.name: effect.metric.role for effect in judged.analysis.effects}
    assert roles["CTR"] == roles["tail-share"] == "primary"
    assert roles["latency"] == "guardrail"
    assert roles["ACC"] == "secondary"
    assert {effect.slice for effect in judged.analysis.effects} >= {"all", "gender=gender_0", "gender=gender_1"}
    latency = next(effect for effect in judged.analysis.effects if effect.metric.name == "latency")
    assert latency.metric.margin == 0.1
    assert latency.metric.direction == "down"


def test_they_have_a_truth_and_lead_the_report(judged):
    assert ("tail-share", "all", "B") in judged.truth
    assert ("requests", "all", "C") in judged.truth
    section = study_section(ONLINE_AB, summarise([judged], 0.05), 0.05, ("CTR", "tail-share"))
    table = next(block for block in section.blocks if getattr(block, "title", "") == "Primary metrics")
    assert {row[0] for row in table.rows} == {"CTR", "tail-share"}


def test_several_treatments_are_adjusted_together(judged):
    pairs = [one for one in judged.analysis.pairs if one.metric == "CTR"]
    assert {(one.base, one.arm) for one in pairs} == {("A", "B"), ("A", "C"), ("B", "C")}
    against_control = [one for one in pairs if one.base == "A"]
    assert all(one.p_dunnett is not None for one in against_control)
    for one in against_control:
        assert one.p_dunnett >= one.estimate.p


def test_without_metrics_nothing_more_is_measured():
    assert not set(ASKED) & set(run(*MORE).days.columns)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("secondary=[ACX]",), "no metric 'ACX'"),
        (("slices=[city]",), "no city"),
        (("primary=[m]", "metrics.m={value: revenue}"), "the platform has no revenue"),
        (("primary=[m]", "metrics.m={value: clicks, margin: 2}"), "margin"),
        (("metrics.m={value: clicks}",), "in no list"),
    ],
)
def test_what_the_platform_does_not_have_is_refused(keys, text):
    with pytest.raises(MicrecError, match=text):
        tiny(*keys)


def test_an_a_a_report_says_that_its_arms_are_identical():
    assert "are identical" in _alike(tiny("kind=aa"))
    assert "NOT identical" in _alike(tiny("kind=aa", "arms.treatment.pipeline.slate_size=6"))
    assert aa_section([], 0.05, alike="said").text[-1] == "said"
