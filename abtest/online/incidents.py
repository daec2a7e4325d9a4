"""What did not work while an experiment ran, in sentences: a result that rests on a broken platform says so."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from abtest.report.sections import Section

LEAST_ANSWERED = 0.9  # of a stage's requests
MOST_FALLBACK = 0.01  # of an arm's requests
_STATUS = {
    "failed": "could not be trained; the version before went on",
    "restarted": "could not go on from its former version, which is damaged, and was trained anew from nothing",
    "damaged": "could not be served in its newest version; an older one was, or none",
}


def incident_section(facts: Mapping[str, Any], labels: Mapping[str, str], experiment_day: int) -> Section | None:
    """A section for whoever reads the verdict; None where all went well.

    Args:
        facts: From ``measures.facts_of``.
        labels: Names of the arms for people.
        experiment_day: Number of the experiment's first day.
    """
    found = [*_stages(facts, labels), *_empty_channels(facts, labels), *_slates(facts, labels)]
    found += [
        f"Day {row['day'] - experiment_day + 1}: {row['name']} {_STATUS[row['status']]}."
        for row in facts.get("incidents", ())
    ]
    if not found:
        return None
    return Section("What did not work", ("The effects below are those of a platform on which:", *found), lead=True)


def _stages(facts: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[str]:
    for row in facts["stages"]:
        if row["answered"] < LEAST_ANSWERED * row["jobs"]:
            lost = ", ".join(f"{row[name]:,} {name}" for name in ("late", "error", "down") if row[name])
            share = f"{row['answered'] / row['jobs']:.1%}"
            yield f"{row['stage']} answered {share} of {labels[row['arm']]}'s {row['jobs']:,} requests ({lost})."


def _empty_channels(facts: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[str]:
    answered = {(row["arm"], row["stage"]): row["answered"] for row in facts["stages"]}
    for row in facts["channels"]:
        if row["offered"] == 0 and answered.get((row["arm"], row["channel"])):
            yield f"{row['channel']} had not one item to offer to {labels[row['arm']]}."


def _slates(facts: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[str]:
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in facts["outcomes"]:
        counts[row["arm"]]["all"] += row["len"]
        counts[row["arm"]]["popular"] += row["len"] * (row["fallback"] == "popular")
        counts[row["arm"]]["empty"] += row["len"] * (row["result"] == "empty")
    for arm, own in counts.items():
        for name, words in (("popular", "were answered with the fallback list"), ("empty", "got no slate at all")):
            if own[name] > MOST_FALLBACK * own["all"]:
                yield f"{own[name] / own['all']:.1%} of {labels[arm]}'s {own['all']:,} requests {words}."
