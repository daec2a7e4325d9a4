"""The page of an offline comparison, and the words of every report."""

from typing import Any

import pytest

from abtest.report.glossary import ONLINE, offline_glossary
from abtest.report.markdown import markdown_report
from abtest.report.pages.two_arm_page import html_report, page_of


def effect(metric: str, lift: float, *, significant: bool) -> dict[str, Any]:
    users = {"significant": significant, "p_adjusted": 0.01, "p": 0.01, "lift_ci": [lift - 0.01, lift + 0.01]}
    return {
        "family": "primary",
        "metric": metric,
        "slice": "all",
        "size": None,
        "control": {"arm": "control", "mean": 0.5, "sd": 0.01},
        "treatment": {"arm": "treatment", "mean": 0.5 * (1 + lift), "sd": 0.01},
        "difference": lift / 2,
        "lift": lift,
        "lift_ci": [lift - 0.02, lift + 0.02],
        "p": 0.01,
        "p_adjusted": 0.02,
        "significant": significant,
        "reason": None,
        "test": "paired t",
        "welch": {"p": 0.02, "test": "Welch t", "reason": None},
        "users": {**users, "test": "users", "reason": None},
    }


def results(*effects: dict[str, Any]) -> dict[str, Any]:
    arms = {"control": {"label": "ICAN"}, "treatment": {"label": "<b>MicRec</b>"}}
    models = [
        {"model": arm["label"], "arm": name, "seed": seed, "hit@50": 0.5, "train_s": 1.0}
        for name, arm in arms.items()
        for seed in (0, 1)
    ]
    metrics = {"primary": ["hit@50"], "secondary": ["coverage@50"]}
    return {
        "scenario": {"name": "tiny", "alpha": 0.05, "preset": "paper", "arms": arms, "metrics": metrics},
        "dataset": {"name": "shop", "hash": "0" * 16, "users": 10, "items": 20, "clicks": 30},
        "seeds": [0, 1],
        "effects": list(effects),
        "models": models,
        "switches": {"preset": "paper", "shared": {}, "arms": {"control": {}, "treatment": {"x": 1}}},
        "command": "micrec run tiny.yaml",
        "versions": {"micrec": "0", "torch": "2"},
        "runtime_s": 5.0,
    }


@pytest.mark.parametrize(
    ("lift", "significant", "decision"), [(0.1, True, "ship"), (-0.1, True, "stop"), (0.1, False, "hold")]
)
def test_the_page_has_the_verdict_both_intervals_and_the_words(lift, significant, decision):
    found = results(effect("hit@50", lift, significant=significant))
    page = page_of(found)
    assert page.verdicts[0]["decision"] == decision
    text = html_report(found)
    assert "&lt;b&gt;MicRec" in text
    assert "<b>MicRec" not in text
    assert "share of test clicks whose item is among" in text
    assert "over users" in text
    assert text.count("all arms") == 1  # the keys stand once
    assert "torch 2" in text


def test_hit_stands_beside_what_can_be_hit_in_every_form():
    found = results(effect("hit@50", 0.1, significant=True))
    for form in (html_report, markdown_report):
        assert "can be hit at all" not in form(found)  # runs of earlier versions have no shares
    shares = {"judged_share": 0.8, "hittable_share": 0.16, "hit_ceiling@50": 0.155, "repeat_share": 0.0}
    for model in found["models"]:
        model |= {**shares, "seen_places@50": 0.25}
    for form in (html_report, markdown_report):
        text = form(found)
        assert text.count("80.0 % of the test clicks are judged; 16.0 % of these can be hit at all; highest") == 1
        assert text.count("highest possible HIT: 0.1550 at 50.") == 1
        assert text.count("Warning: only 16.0 % of the judged clicks can be hit at all") == 1
        assert text.count("such items take up places in the lists of 50 (") == 1


def test_words_are_told_once_for_all_depths():
    (table,) = offline_glossary(["hit@50", "hit@100", "coverage@50"], "95 %").blocks
    assert [row[0] for row in table.rows][:2] == ["HIT@N", "coverage@N"]


def test_every_built_in_metric_has_a_formula():
    from abtest.analysis.metrics import BUILTIN

    assert set(ONLINE) == set(BUILTIN)
