"""What a search found: every trial, the best config, what mattered, as plain values."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from micrec.config import Config, model_label
from micrec.presets import PRESETS
from micrec.settings import differences
from micrec.tuning.search import SearchRequest
from micrec.tuning.study import ended, optuna, reason_of, used_s

if TYPE_CHECKING:
    from optuna import Study

BEST_FILE = "best.yaml"
LEAST_TRIALS = 10  # finished trials of a branch before importances are said
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}

TrialData = Mapping[str, Any]  # one of ``trials``


def trials_of(study: "Study") -> list[dict[str, Any]]:
    """Every trial that ran to an end, in the order of their indices."""
    found = []
    for trial in ended(study):
        attrs = trial.user_attrs
        curve = [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)]
        found.append(
            {
                "index": attrs.get("index"),
                "branch": attrs.get("branch"),
                "start": bool(attrs.get("start", False)),
                "state": STATES[trial.state.name],
                "value": trial.value if trial.state.name == "COMPLETE" else None,
                "best_epoch": attrs.get("best_epoch"),
                "by_epoch": curve,
                "seconds": attrs.get("seconds"),
                "began_s": attrs.get("began_s"),
                "settings": attrs.get("settings", {}),
                "reason": reason_of(study, trial),
            }
        )
    return sorted(found, key=lambda one: (one["index"] is None, one["index"]))


def best_trial(trials: Sequence[TrialData]) -> TrialData:
    """The finished trial of the highest validation metric; of equal ones the earliest."""
    return max((one for one in trials if one["state"] == "finished"), key=lambda one: one["value"])


def best_config(request: SearchRequest, best: TrialData) -> Config:
    """The config of the best trial as a training takes it: refitted on validation clicks too."""
    same = request.every_trial()
    same["train"].pop("refit")
    return request.space.config(best["branch"], best["settings"], same)


def best_yaml(config: Config, best: TrialData, data: str, metric: str) -> str:
    """``best.yaml``: every key of the config, below what differs from its preset as comments."""
    changed = differences(config, PRESETS[config.preset])
    lines = [
        f"# The best of a search on {' '.join(data.split())}: {model_label(config)}, validation {metric} "
        f"{best['value']:.4f} (trial {best['index']}, branch {best['branch']}).",
        f"#   micrec train DATA OUT --config {BEST_FILE}",
        f"# Differs from the preset {config.preset} in:",
        *(f"#   {key}: {_inline(value)}" for key, value in changed.items()),
        *([] if changed else ["#   nothing"]),
    ]
    keys = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    return "\n".join(lines) + "\n" + keys


def importance(study: "Study", trials: Sequence[TrialData], seed: int) -> dict[str, Any]:
    """What mattered for the validation metric of the finished trials.

    Returns:
        ``branches``: share of the variance that lies between branches, None with one branch or without variance;
        ``keys``: for each branch of ten finished trials or more the importance of each key by fANOVA, which add up to
        1, and the number of trials.
    """
    finished = [one for one in trials if one["state"] == "finished"]
    branches = list(dict.fromkeys(one["branch"] for one in finished))
    keys = {}
    for branch in branches:
        own = [one for one in finished if one["branch"] == branch]
        found = _fanova(study, branch, seed) if len(own) >= LEAST_TRIALS else None
        if found is not None:
            keys[branch] = {"trials": len(own), "keys": found}
    return {"branches": _between(finished, branches), "keys": keys}


def findings(study: "Study", request: SearchRequest) -> dict[str, Any]:
    """The search as plain values, for results.json."""
    trials = trials_of(study)
    best = best_trial(trials)
    config = best_config(request, best)
    return {
        "metric": request.metric,
        "seed": request.seed,
        "minutes": request.minutes,
        "trials_wanted": request.trials,
        "workers": request.workers,
        "used_s": used_s(study),
        "space": request.space.model_dump(mode="json"),
        "set": dict(request.same),
        "trials": trials,
        "best": {
            "index": best["index"],
            "branch": best["branch"],
            "value": best["value"],
            "model": model_label(config),
            "preset": config.preset,
            "changed": differences(config, PRESETS[config.preset]),
        },
        "importance": importance(study, trials, request.seed),
    }


def _between(finished: Sequence[TrialData], branches: Sequence[str]) -> float | None:
    """Sum of squares between branches over that of all trials."""
    values = [one["value"] for one in finished]
    mean = sum(values) / len(values) if values else 0.0
    total = sum((value - mean) ** 2 for value in values)
    if len(branches) < 2 or total == 0.0:
        return None
    between = 0.0
    for branch in branches:
        own = [one["value"] for one in finished if one["branch"] == branch]
        between += len(own) * (sum(own) / len(own) - mean) ** 2
    return between / total


def _fanova(study: "Study", branch: str, seed: int) -> dict[str, float] | None:
    """fANOVA over the finished trials of a branch, by key, the largest first; None where nothing varies."""
    package = optuna()
    states = package.trial.TrialState
    own = [
        trial
        for trial in study.get_trials(states=(states.COMPLETE,))
        if trial.user_attrs.get("branch") == branch and trial.params
    ]
    if len({trial.value for trial in own}) < 2:
        return None
    part = package.create_study(direction="maximize")
    part.add_trials(own)
    evaluator = package.importance.FanovaImportanceEvaluator(seed=seed)
    names = [name for name in own[0].params if name.startswith(f"{branch}/")]
    names = [name for name in names if len({str(trial.params[name]) for trial in own}) > 1]
    if not names:
        return None
    found = package.importance.get_param_importances(part, evaluator=evaluator, params=names)
    plain = {name.removeprefix(f"{branch}/"): float(share) for name, share in found.items()}
    return plain if all(math.isfinite(share) for share in plain.values()) else None


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("...").strip()
    return " ".join(text.split())
