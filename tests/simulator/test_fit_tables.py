"""What a fit reads from item tables and repeated clicks: by hand, and found again in worlds of known keys."""

import dataclasses

import numpy as np
import pytest

from micrec.data.dataset import Clicks, Column
from micrec.data.schema import FieldType
from simulator.fit import signal_moments
from simulator.fit.field_moments import tied
from simulator.fit.findings import Findings
from simulator.fit.item_moments import fit_categories
from simulator.fit.refine import fit_once
from simulator.fit.signal_moments import fit_signals
from simulator.realism.log import sorted_log
from simulator.world.in_memory import draw_world, drawn_dataset
from tests.simulator.worlds import small_config

TOPICS = ("items.topics=4", "taste.depth={subcategory: 0.1, topic: 0.9}", "users.count=800")


def column(codes):
    codes = np.array(codes, np.int32)
    return Column("field", FieldType.CATEGORICAL, int(codes.max()) + 1, codes=codes)


def log_of(user, item, n_items):
    order = np.arange(len(user))
    clicks = Clicks(np.array(user, np.int32), np.array(item, np.int32), order * 3_600_000)
    return sorted_log("by hand", clicks, n_items)


def test_tied_counts_the_items_that_share_the_commonest_value_of_their_category():
    category = column([1, 1, 1, 1, 2, 2, 2])
    assert tied(column([5, 5, 5, 6, 1, 2, 3]), category) == pytest.approx(2 / 5)  # two of three, and none of two
    assert tied(column([1, 2, 3, 4, 5, 6, 7]), category) == 0.0
    assert tied(column([3, 3, 3, 3, 1, 1, 1]), category) == 1.0
    assert tied(column([1, 1, 2]), None) == pytest.approx(1 / 2)


def test_users_who_never_repeat_where_chance_would_click_once():
    rng, base, findings = np.random.default_rng(0), small_config(), Findings()
    once = rng.permutation([(user, item) for item in range(6) for user in range(60)])  # all click all, each once
    assert fit_once(log_of(*once.T, 6), base, findings).choice.repeat == 0.0
    assert findings.found["choice.once"].value == "log"
    again = log_of(rng.integers(0, 60, 400), rng.integers(0, 6, 400), 6)  # an hour between clicks
    assert fit_once(again, base, findings) == base
    assert findings.found["choice.once"].value == "session"
    twice = log_of(np.repeat(rng.integers(0, 60, 200), 2), np.repeat(rng.integers(0, 6, 200), 2), 6)
    twice = dataclasses.replace(twice, time_s=twice.time_s / 3_600.0)
    fit_once(twice, base, findings)
    assert findings.found["choice.once"].value == "none"


def test_without_a_finer_field_hidden_topics_take_the_place_of_subcategories():
    config = small_config()
    category = np.repeat(np.arange(1, 5), 100).astype(np.int32)
    rng = np.random.default_rng(0)
    clicks = Clicks(
        rng.integers(0, 30, 500).astype(np.int32), rng.integers(0, 400, 500).astype(np.int32), np.arange(500)
    )
    log = sorted_log("four categories", clicks, 400, category=category)
    base = (config.items.subcategories, config.items.groups)
    seen, hidden = Findings(), Findings()
    fit_categories(log, base, seen)
    fit_categories(log, base, hidden, finer_field=False)
    assert seen.found["items.subcategories"].value == 2
    assert hidden.found["items.subcategories"].value == 1
    assert hidden.found["items.topics"].value > seen.found["items.topics"].value


def test_signals_are_found_again(monkeypatch):
    """The dial of titles of a world, from its table and clicks alone; what its log lacks is kept."""
    monkeypatch.setattr(signal_moments, "ROUNDS", 2)
    found = []
    for value in (0.0, 1.0):
        dataset = drawn_dataset(draw_world(small_config(*TOPICS, f"signals.titles={value}", "seed=1")))
        findings = Findings()
        fit_signals(dataset, small_config(*TOPICS), findings)
        found.append(findings.found["signals.titles"].value)
        assert "signals.provider" not in findings.found
        assert "no provider" in findings.kept["signals.provider"]
    assert found[0] <= 0.3 < 0.7 <= found[1]
