"""The verdict in plain words: which gains are real, which are not, and against which kind of luck."""

import statistics
from collections.abc import Mapping
from typing import Any

from abtest.report import formatting
from abtest.report.tables import Results, arm_label, missing_lines, models_by_label, significance

_KINDS = {  # what significance() says of an effect, in a sentence
    "seeds and users": "significant over training seeds and over test users",
    "seeds": "significant over training seeds (no test over users)",
    "seeds only": "significant over training seeds, but not over users: other users might not show it",
    "users only": "significant over users, but not over training seeds: other seeds might not show it",
    "no": "not significant",
    formatting.UNDEFINED: "could not be judged",
}


def verdict(results: Results) -> list[str]:
    """One headline and its reasons for every treatment, as sentences of plain text."""
    return [line for lines in verdicts(results).values() for line in lines]


def verdicts(results: Results) -> dict[str, list[str]]:
    """The headline and the reasons of each treatment that has primary metrics, by arm."""
    found = {}
    for arm in results["scenario"]["arms"]:
        effects = [e for e in results["effects"] if e["treatment"]["arm"] == arm and e["family"] == "primary"]
        if effects:
            reasons = [*_by_kind(effects), *_baselines(results, arm), *missing_lines(results["dataset"])]
            found[arm] = [_headline(results, arm, effects), *reasons]
    return found


def _headline(results: Results, arm: str, effects: list[Mapping[str, Any]]) -> str:
    treatment, control = arm_label(results, arm), arm_label(results, "control")
    sure = [effect for effect in effects if significance(effect) in ("seeds and users", "seeds")]
    gains = sum(effect["difference"] > 0 for effect in sure)
    losses = len(sure) - gains
    counts = {"better": gains, "worse": losses}
    found = " and ".join(f"{word} on {count}" for word, count in counts.items() if count) or "different on none"
    seeds, where = len(results["seeds"]), results["dataset"]["name"]
    return (
        f"{treatment} against {control} on {where}: significantly {found} of {len(effects)} primary metrics, "
        f"over {seeds} training seeds and, for HIT, over test users too (Holm-adjusted)."
    )


def _by_kind(effects: list[Mapping[str, Any]]) -> list[str]:
    lines = []
    for kind, words in _KINDS.items():
        for direction in ("gain", "loss", "change"):
            members = [e for e in effects if significance(e) == kind and _direction(e, kind) == direction]
            if members:
                head = f"{direction.capitalize()} {words}" if direction != "change" else words.capitalize()
                lines.append(f"{head}: {'; '.join(_measured(effect) for effect in members)}.")
    return lines


def _direction(effect: Mapping[str, Any], kind: str) -> str:
    if kind in ("no", formatting.UNDEFINED):
        return "change"
    return "gain" if effect["difference"] > 0 else "loss"


def _measured(effect: Mapping[str, Any]) -> str:
    parts = [
        f"{unit} {formatting.percent_interval(test['lift_ci'])}, p {formatting.p_value(test['p_adjusted'])}"
        for unit, test in (("seeds", effect), ("users", effect["users"]))
        if test and test["p_adjusted"] is not None
    ]
    return f"{effect['metric']} {formatting.percent(effect['lift'])} ({', '.join(parts) or effect['reason']})"


def _baselines(results: Results, arm: str) -> list[str]:
    """Which baselines, models without training, the treatment's mean passes on every primary metric, and which not."""
    mine = [model for model in results["models"] if model["arm"] == arm]
    passed, ahead = [], []
    for label, models in models_by_label(results).items():
        if models[0]["arm"] is not None or not label.endswith("(baseline)"):
            continue  # nothing passes a ceiling
        name = label.removesuffix(" (baseline)")
        below = [m for m in results["scenario"]["metrics"]["primary"] if not _mean(mine, m) > _mean(models, m)]
        if below:
            ahead.append(f"{name} on {', '.join(below)}")
        else:
            passed.append(name)
    treatment = arm_label(results, arm)
    lines = [f"{treatment} passes these baselines on every primary metric: {', '.join(passed)}."] if passed else []
    return lines + ([f"{treatment} does not pass these baselines: {'; '.join(ahead)}."] if ahead else [])


def _mean(models: list[Mapping[str, Any]], metric: str) -> float:
    values = [model.get(metric) for model in models]
    return statistics.fmean(v for v in values if v is not None) if None not in values else float("nan")
