"""Notes that qualify a HIT: clicks that are judged, clicks that can be hit, and N that are too large to inform."""

from collections.abc import Mapping, Sequence

from micrec.evaluation.metrics import EvalResult
from micrec.evaluation.reach import Reach
from micrec.evaluation.standing import label
from micrec.shares import percent, seen_line

LARGE_N = 0.5  # share of the candidates from which a list of N says little
SMALL_N, SHORT = 0.1, (1, 5, 10, 20, 50, 100)  # up to which share N is recommended, and which N


def judged_lines(reach: Reach, part: str) -> list[str]:
    """How many clicks of a part, by its name in prose, are judged and can be hit, and why the others are not."""
    shares = reach.shares()
    lines = [f"{percent(shares['judged_share'])} of the {reach.lines:,} {part} clicks are judged ({reach.judged:,})."]
    if reach.skipped:
        lines[0] += (
            f" Not judged: {reach.skipped:,} of {_users(reach.skipped_users)} without a click before the {part} part "
            "(--set users=all judges them too, with an empty history)."
        )
    lines.append(f"{percent(shares['hittable_share'])} of the judged clicks can be hit ({reach.hittable:,}).")
    reasons = []
    if reach.unknown:
        reasons.append(
            f"{reach.unknown:,} on items that nobody clicked before (--set candidates=all ranks them too, by their "
            "fields)"
        )
    if reach.removed:
        reasons.append(f"{reach.removed:,} on items that seen=filter removes (--set seen=keep)")
    if reasons:
        lines[1] += f" Not: {'; '.join(reasons)}."
    return lines


def notes(results: Mapping[str, EvalResult]) -> list[str]:
    """Notes where numbers are less informative than they seem: seen items in lists, N near the catalogue size, ties."""
    model = next(iter(results.values()))
    metrics = {label(name): {**result.metrics, **result.reach.shares()} for name, result in results.items()}
    shortest = min(model.cutoffs)
    skipped = model.reach.filtered or shortest >= model.candidates  # a list of everything takes no place from others
    seen = [] if skipped else seen_line(metrics, shortest)
    return [*seen, *_large_n_notes(model), *_tie_note(results)]


def _large_n_notes(result: EvalResult) -> list[str]:
    n_items, chance = result.candidates, result.reach.chance
    whole = [n for n in result.cutoffs if n >= n_items]
    large = [n for n in result.cutoffs if LARGE_N * n_items <= n < n_items]
    held = f"all {n_items:,} candidates" if n_items > 1 else "the only candidate"
    found = []
    if whole:
        found.append(f"{_hits(whole)}: a list of {min(whole)} holds {held}, whatever the model, so it says nothing.")
    if large:
        hits = ", ".join(f"{chance[n]:.4f} at {n}" for n in large)
        found.append(f"{_hits(large)}: of {n_items:,} candidates random lists hit {hits} already, so it says little.")
    if found:
        short = ",".join(str(n) for n in SHORT if n == 1 or n <= SMALL_N * n_items)
        found[-1] += f" Use lists that are short beside the catalogue: --set cutoffs=[{short}]."
    return found


def _tie_note(results: Mapping[str, EvalResult]) -> list[str]:
    over = [
        f"{_hits([n])} of {label(name)}"
        for name, result in results.items()
        for n in result.cutoffs
        if result.metrics[f"hit@{n}"] > result.reach.ceiling[n] + 1e-12
    ]
    if not over:
        return []
    return [
        f"above the highest possible HIT: {', '.join(over)}: many items have the very same score, and those that tie "
        "share their mean place. No list can hold them all: use --set ties=pessimistic."
    ]


def _hits(cutoffs: Sequence[int]) -> str:
    return ", ".join(f"hit@{n}" for n in cutoffs)


def _users(count: int) -> str:
    return f"{count:,} user" + ("" if count == 1 else "s")
