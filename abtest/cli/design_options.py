"""The options of ``analyze`` on a test's plan, design and further readings, as one parameter ``design``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abtest.cli.log_options import with_options

if TYPE_CHECKING:
    from abtest.analysis.design import Design


@dataclass(frozen=True)
class DesignOptions:
    """Plan file, units, crossovers, exposures and readings, as the command line holds them."""

    plan: Annotated[
        Path | None,
        typer.Option(help="Plan file of micrec plan; options that contradict it are refused.", show_default="none"),
    ] = None
    estimator: Annotated[
        str, typer.Option(help="What the verdict, the looks and the power rest on: welch, cuped or poststratified.")
    ] = "welch"
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN,...",
            help="What was assigned, if not the user: household, or region,2h for the periods of a switchback.",
        ),
    ] = None
    washout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Leave out the start of every period of a switchback, such as 10m."),
    ] = None
    schedule: Annotated[
        Path | None,
        typer.Option(help="Table with the arm of every period of a switchback: periods without rows then count 0."),
    ] = None
    crossovers: Annotated[
        str, typer.Option(help="Users in two arms: refuse the log, drop them, or count them in their first arm.")
    ] = "refuse"
    exposures: Annotated[
        Path | None,
        typer.Option(help="Table of user_id and timestamp: judge exposed users, from their first exposure on."),
    ] = None
    combine: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=ARM+ARM", help="Treatments that are also judged together; repeatable."),
    ] = None
    information: Annotated[
        str, typer.Option(help="How looks measure what has come in: variance of the metrics, or users.")
    ] = "variance"
    planned_lift: Annotated[
        str | None,
        typer.Option(help="Lift that the test was planned to find, for chances before its end, such as 2%."),
    ] = None
    least_users: Annotated[
        int | None,
        typer.Option(help="Fewest users (or units) of an arm for any verdict.", show_default="30 users, 4 units"),
    ] = None
    prior: Annotated[
        str | None,
        typer.Option(
            help="Add a Bayesian reading under this prior: flat, MEAN,SD, a file of past lifts, or a folder of results."
        ),
    ] = None
    equivalence: Annotated[
        str | None, typer.Option(help="Add an equivalence reading: the largest lift that counts as none, such as 1%.")
    ] = None

    def values(self) -> dict[str, Any]:
        """The options as plain values, by name.

        Raises:
            MicrecError: If one cannot be read.
        """
        from abtest.analysis.plan import listed
        from abtest.analysis.plan_file import share_of
        from abtest.analysis.plan_settings import combined_arms, seconds_of

        return {
            "estimator": self.estimator,
            "unit": listed(self.unit or []),
            "washout": seconds_of(self.washout) if self.washout is not None else 0.0,
            "schedule": self.schedule,
            "crossovers": self.crossovers,
            "combine": combined_arms(self.combine or []),
            "information": self.information,
            "planned_lift": None if self.planned_lift is None else share_of(self.planned_lift, "--planned-lift"),
            "least_users": self.least_users,
            "prior": self.prior,
            "equivalence": None if self.equivalence is None else share_of(self.equivalence, "--equivalence"),
        }

    def for_plan(self, settings: dict[str, Any]) -> "Design":
        """The design of the plan from settings by name."""
        from abtest.analysis.plan_settings import design_of

        return design_of(settings, exposures=self.exposures)


with_design_options = with_options("design", DesignOptions)
"""A command with the options of ``DesignOptions`` in place of its parameter ``design``."""
