"""Planted links: what the dials promise, and what they do in the log."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from simulator.world.clicks import Cause
from simulator.world.item_table import ground_truth_links
from simulator.world.links import draw_link_targets
from simulator.world.users import capped_mean
from tests.simulator.worlds import log, small_config, small_history, small_world

GROUPS, PER_CATEGORY = 48, 6  # of the small world
OFF = "links.strength=0"
BUSY = ("links.density=0.5", "links.targets=2", "sessions.per_user=8", "sessions.clicks=8")


def pairs(*overrides: str) -> list[tuple[int, int]]:
    targets = draw_link_targets(small_config(*overrides))
    return [(source, int(target)) for source, row in enumerate(targets) for target in row[row >= 0]]


def steps(*overrides: str) -> pl.DataFrame:
    """Clicks after the first of their session, each with the group clicked before it."""
    clicks = log(*overrides).with_columns(before=pl.col("group").shift().over("session"))
    sources = {source for source, _ in pairs(*overrides)}
    return clicks.drop_nulls("before").with_columns(from_source=pl.col("before").is_in(sources))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("density", "targets"), [(0.1, 1), (0.5, 2), (1.0, 42), (1.0, 41)])
def test_density_and_targets_are_exact_and_always_of_another_category(seed, density, targets):
    found = pairs(f"seed={seed}", f"links.density={density}", f"links.targets={targets}")
    assert len(found) == len(set(found)) == round(density * GROUPS) * targets
    assert set(np.unique([source for source, _ in found], return_counts=True)[1]) == {targets}
    assert all(source // PER_CATEGORY != target // PER_CATEGORY for source, target in found)


def test_sources_and_targets_are_spread_evenly():
    """Over many seeds every group is a source, and every group of another category a target, alike often."""
    found = np.array([pair for seed in range(200) for pair in pairs(f"seed={seed}", "links.density=0.5")])
    for ends in found.T:
        assert stats.chisquare(np.bincount(ends, minlength=GROUPS)).pvalue > 1e-3


@pytest.mark.parametrize("mutual", [0.0, 0.4, 1.0])
def test_mutual_links_run_back(mutual):
    back = total = 0
    for seed in range(20):
        dials = (f"seed={seed}", "links.density=0.3", "links.targets=2")
        one_way, found = set(pairs(*dials)), set(pairs(*dials, f"links.mutual={mutual}"))
        added = found - one_way
        assert one_way <= found
        assert {(target, source) for source, target in added} <= one_way
        lonely = {pair for pair in one_way if pair[::-1] not in one_way}
        back, total = back + len(added), total + len(lonely)
    assert stats.binomtest(back, total, mutual).pvalue > 1e-3


def test_strength_0_is_off():
    """No click is due to a link, and what would be linked to what makes no difference to anything."""
    clicks = small_history(OFF).clicks
    assert not (log(OFF)["cause"] == Cause.LINK).any()
    for other in ("links.density=1", "links.targets=5", "links.mutual=1", "links.susceptibility_sd=2"):
        changed = small_history(OFF, other).clicks
        assert changed.columns == clicks.columns
        assert changed.equals(clicks)
    assert small_history("links.density=0").clicks.equals(clicks)


def test_oracle_holds_the_links_and_their_strength():
    truth = ground_truth_links(small_config(*BUSY), small_world(*BUSY).catalogue)
    assert list(truth["source_group", "target_group"].iter_rows()) == pairs(*BUSY)
    assert set(truth["strength"]) == {0.3}


@pytest.mark.parametrize("strength", [0.1, 0.6, 1.0])
@pytest.mark.parametrize("sd", [0.0, 1.0])
def test_strength_is_the_chance_to_follow(strength, sd):
    """Of clicks after one on a linked item; the band widens with the spread between users."""
    found = steps(*BUSY, f"links.strength={strength}", f"links.susceptibility_sd={sd}").filter("from_source")
    users = found.group_by("user_id").agg((pl.col("cause") == Cause.LINK).sum().alias("hits"), pl.len().alias("n"))
    hits, n = users["hits"].to_numpy(), users["n"].to_numpy()
    residual = hits - strength * n  # independent between users, mean 0
    error = np.sqrt((residual**2).sum())
    assert abs(residual.sum()) <= 4 * error + 1e-9
    assert error < 0.07 * strength * n.sum()  # the band is narrow enough to tell


def test_susceptible_users_follow_in_proportion():
    found = steps(*BUSY, "links.susceptibility_sd=0.8").filter("from_source")
    readiness = small_history(*BUSY, "links.susceptibility_sd=0.8").ground_truth_users["user_id", "susceptibility"]
    chance = (capped_mean(0.3, 0.8) * pl.col("susceptibility")).clip(0, 1).alias("chance")
    both = found.join(readiness.with_columns(chance), on="user_id").with_columns(hit=pl.col("cause") == Cause.LINK)
    for low, high in ((0.0, 0.15), (0.15, 0.4), (0.4, 1.01)):
        part = both.filter(pl.col("chance").is_between(low, high, closed="left"))
        error = np.sqrt((part["chance"] * (1 - part["chance"])).sum())
        assert abs(part["hit"].sum() - part["chance"].sum()) < 4 * error


def test_links_lead_to_their_targets_alike_often_and_nowhere_else():
    found = steps(*BUSY)
    linked = found.filter(pl.col("cause") == Cause.LINK)
    assert not (found.filter(~pl.col("from_source"))["cause"] == Cause.LINK).any()
    taken = linked.group_by("before", "group").len().sort("before", "group")
    assert set(taken["before", "group"].iter_rows()) == set(pairs(*BUSY))
    for _, counts in taken.group_by("before"):
        assert stats.chisquare(counts["len"].to_numpy()).pvalue > 1e-5


def test_links_have_a_direction():
    """One-way links show in the order of clicks: from source to target above chance, back at chance."""
    dials = ("links.density=0.3", "links.strength=0.5", "sessions.per_user=8", "links.mutual=0")
    found = steps(*dials).group_by("before", "group").len()
    counts = {(before, group): count for before, group, count in found.iter_rows()}
    links = [pair for pair in pairs(*dials) if pair[::-1] not in pairs(*dials)]
    along, against = (sum(counts.get(pair[::way], 0) for pair in links) for way in (1, -1))
    assert along > 5 * against
