"""How a test was laid out and is to be read, beyond two arms of users: units, exposures, crossovers, estimators."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from abtest.stats.estimators import ESTIMATOR_NAMES, EstimatorName
from abtest.stats.posterior import NormalPrior

Crossovers = Literal["refuse", "drop", "first"]
Information = Literal["variance", "users"]
CROSSOVERS: tuple[Crossovers, ...] = ("refuse", "drop", "first")
INFORMATION: tuple[Information, ...] = ("variance", "users")
LEAST_USERS = 30  # of an arm: below it the t of counts and times, which are skewed, is not near its law
LEAST_UNITS = 4  # of an arm, where units above the user were assigned


@dataclass(frozen=True)
class Design:
    """Layout and readings of a test.

    Attributes:
        estimator: What the verdict, the looks and the power rest on; the others stand beside it.
        least_users: Fewest users (units, where units above the user were assigned) of an arm for any verdict; None for
            30 users or 4 units.
        unit: Columns that name what was assigned, where that is not the user: ``("household",)``, or for a switchback
            ``("region", "hour")``; a length of time such as ``30m`` or ``2h`` is cut from the log's times.
        washout_s: Seconds at the start of every period of a switchback that are left out.
        crossovers: Users found in two arms: "refuse" the log, "drop" them, or count them in their "first" arm.
        schedule: File with the arm of every period of a switchback; periods without rows then count 0.
        exposures: File of who was exposed and when; effects are then those on the exposed, from their exposure on.
        combined: Arms that are judged together beside the others: name to treatments.
        information: How looks measure what has come in: "variance" of the metrics, or "users" alone.
        planned_lift: Lift that the test was planned to find; conditional power and futility rest on it.
        prior: Of the lift by metric ("" for those without one), for the Bayesian reading; None for no such reading.
        equivalence: Largest lift to either side that counts as none, for the equivalence reading.
        exploratory_slices: Slice columns that the plan file did not name.
        exploratory_readings: Readings that the plan file did not name, in words.
        planned: The resolved plan file, where there is one.
    """

    estimator: EstimatorName = "welch"
    least_users: int | None = None
    unit: tuple[str, ...] = ()
    washout_s: float = 0.0
    crossovers: Crossovers = "refuse"
    schedule: Path | None = None
    exposures: Path | None = None
    combined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    information: Information = "variance"
    planned_lift: float | None = None
    prior: Mapping[str, NormalPrior] | None = None
    equivalence: float | None = None
    exploratory_slices: tuple[str, ...] = ()
    exploratory_readings: tuple[str, ...] = ()
    planned: Mapping[str, Any] | None = None

    @property
    def fewest(self) -> int:
        """Fewest users, or units, of an arm that are judged."""
        if self.least_users is not None:
            return self.least_users
        return LEAST_UNITS if self.unit else LEAST_USERS

    def faults(self, arms: Sequence[str], looks: str, planned_users: int | None) -> Iterator[str]:
        """What is wrong with it in a test of these arms, control first."""
        choices: dict[str, tuple[str, Sequence[str]]] = {
            "estimator": (self.estimator, ESTIMATOR_NAMES),
            "crossovers": (self.crossovers, CROSSOVERS),
            "information": (self.information, INFORMATION),
        }
        for name, (value, known) in choices.items():
            if value not in known:
                yield f"{name}: must be one of {', '.join(known)}, got {value!r}."
        if self.least_users is not None and self.least_users < 2:
            yield f"least-users: must be >= 2, got {self.least_users}."
        if not (math.isfinite(self.washout_s) and self.washout_s >= 0.0):
            yield f"washout: must be >= 0 seconds, got {self.washout_s}."
        if self.washout_s and not self.unit:
            yield "washout: is for switchbacks: name their unit, such as --unit region,hour."
        if self.schedule is not None and not self.unit:
            yield "schedule: is for switchbacks: name their unit, such as --unit region,2h."
        if self.unit and looks == "open":
            yield (
                "looks: open is not offered for units above the user: its intervals count independent users. Plan the "
                "length of the test and read it with looks daily, or once."
            )
        if self.unit and looks == "daily" and self.estimator == "poststratified":
            yield (
                "looks: daily with the estimator poststratified is not offered for units above the user: use the "
                "estimator cuped or welch, or look once."
            )
        if self.unit and self.information == "users":
            yield (
                "information: users of one unit are alike, so their number is not what has come in: use variance, "
                "the default, with units above the user."
            )
        if self.unit and self.crossovers != "refuse":
            yield "crossovers: is about users: with units above the user a unit is in one arm, or the log is refused."
        if self.unit and self.exposures is not None:
            yield "exposures: is about users: it is not offered together with units above the user."
        if self.information == "users" and planned_users is None:
            yield "information: users needs planned-users, of which those there are a share."
        for name in ("planned_lift", "equivalence"):
            share = getattr(self, name)
            if share is not None and not (math.isfinite(share) and share > 0.0):
                yield f"{name.replace('_', '-')}: must be a share above 0, got {share}."
        yield from self._combined_faults(arms)

    def _combined_faults(self, arms: Sequence[str]) -> Iterator[str]:
        for name, members in self.combined.items():
            for arm in members:
                if arm not in arms[1:]:
                    yield f"combine {name}: {arm!r} is not a treatment of this test."
            if len(set(members)) < 2 or name in arms:
                yield f"combine {name}: must have a name of its own and at least two treatments."
