"""Sections of the report for worlds that look at the arms in another way than by splitting users."""

from abtest.online.experiment import Replication
from abtest.online.interleaving import interleaving_section
from abtest.online.off_policy import off_policy_section
from abtest.report.sections import Section


def extra_sections(one: Replication) -> list[Section]:
    """Interleaving and off-policy estimates, where they were asked."""
    scenario, found = one.scenario, []
    if one.preferences:
        found.append(interleaving_section(one.preferences, scenario.alpha))
    if one.policies and scenario.off_policy is not None:
        found.append(off_policy_section(one.policies, scenario.off_policy.explore, scenario.alpha))
    return found
