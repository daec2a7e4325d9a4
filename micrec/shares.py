"""The shares that stand beside every HIT, in words: what is judged, what can be hit, the highest HIT.

They come from ``micrec.evaluation.reach`` by name, or from a row of results.json; nothing heavy is imported here.
"""

from collections.abc import Mapping, Sequence

LEAST_SHARE = 0.5  # below it, a share is warned about
NO_REPEATS = 0.01  # share of repeated clicks below which a log is said to have (nearly) none
MANY_PLACES = 0.02  # share of list places with seen items from which filtering them is worth a word
NAMED = 3  # most models that a line names


def warnings(shares: Mapping[str, float], clicks: str = "test clicks") -> list[str]:
    """What makes a HIT misleading, from ``Reach.shares`` or a row of results.json."""
    found = []
    judged, hittable = shares["judged_share"], shares["hittable_share"]
    if judged < LEAST_SHARE:
        found.append(
            f"{_of(judged)} of the {clicks} are judged: HIT is that of users who were there before, and says "
            "nothing of the others (evaluation.users: all judges them; a shorter test part leaves out fewer)."
        )
    if hittable < LEAST_SHARE:
        found.append(
            f"{_of(hittable)} of the judged clicks can be hit at all: read each HIT beside the highest "
            "possible one (evaluation.candidates: all ranks items without an earlier click too, evaluation.seen: keep "
            "those that the user had clicked)."
        )
    return found


def seen_line(models: Mapping[str, Mapping[str, object]], cutoff: int) -> list[str]:
    """Where (nearly) no click repeats an earlier one, and lists hold what the user had clicked: how much; else nothing.

    Args:
        models: Metrics and shares by model.
        cutoff: The N whose lists are looked at.
    """
    repeats = max(_number(metrics, "repeat_share", 1.0) for metrics in models.values())
    places = {name: _number(metrics, f"seen_places@{cutoff}", 0.0) for name, metrics in models.items()}
    wasted = {name: share for name, share in places.items() if share >= MANY_PLACES}
    if repeats >= NO_REPEATS or not wasted:
        return []
    who = ", ".join(f"{name} {percent(share)}" for name, share in list(wasted.items())[:NAMED])
    more = f" and {len(wasted) - NAMED} more" if len(wasted) > NAMED else ""
    return [
        f"{_of(repeats)} of the judged clicks go to items that the user had "
        f"clicked before, yet such items take up places in the lists of {cutoff} ({who}{more}), where they can hardly "
        "hit: evaluation.seen: filter gives these places to others."
    ]


def share_lines(models: Mapping[str, Mapping[str, object]], cutoffs: Sequence[int]) -> list[str]:
    """What the models of a table share, and its warnings; nothing where models lack the shares or differ in them.

    Args:
        models: Metrics and shares by model, as in results.json.
        cutoffs: The N of the HIT@N that the table shows.
    """
    names = ("judged_share", "hittable_share", *(f"hit_ceiling@{n}" for n in cutoffs))
    found = {tuple(_number(metrics, name, -1.0) for name in names) for metrics in models.values()}
    if len(found) != 1 or any(value < 0 for values in found for value in values):
        return []
    shares = dict(zip(names, *found, strict=True))
    line = f"{percent(shares['judged_share'])} of the test clicks are judged; "
    line += f"{percent(shares['hittable_share'])} of these can be hit at all"
    if cutoffs:
        line += "; highest possible HIT: " + ", ".join(f"{shares[f'hit_ceiling@{n}']:.4f} at {n}" for n in cutoffs)
    lines = [f"{line}.", *(f"Warning: {text}" for text in warnings(shares))]
    return lines + [f"Note: {text}" for n in cutoffs[:1] for text in seen_line(models, n)]


def percent(share: float) -> str:
    """Percent with one digit, never rounded to all or nothing."""
    text = f"{100 * share:.1f}"
    if text == "100.0" and share < 1:
        return "more than 99.9 %"
    if text == "0.0" and share > 0:
        return "less than 0.1 %"
    return f"{text} %"


def _of(share: float) -> str:
    """The beginning of ``… of the clicks``."""
    return f"only {percent(share)}" if share else "none"


def _number(metrics: Mapping[str, object], name: str, missing: float) -> float:
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) else missing


def share_of_the_way(value: float, low: float, high: float) -> float:
    """Where a value lies between two others: 0 at ``low``, 1 at ``high``."""
    return (value - low) / (high - low)
