"""Worlds that look at the arms in another way than by splitting users: interleaved, and control that explores."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from abtest.arms import CONTROL
from abtest.online.worlds_beside import channels_of
from micrec.bounds import Length, Rows
from micrec.config import Frozen
from micrec.settings import merge
from simulator.platform.platform_config import RANKED

INTERLEAVED, OFF_POLICY = "interleaved.", "off_policy."
CHALLENGER = "challenger"  # the channel that brings the treatment's items beside control's

Pipeline = Mapping[str, Any]


class InterleavingConfig(Frozen):
    """Interleaving of the channel in which control and treatment differ."""

    users: Rows | None = Field(None, description="Users of the interleaved worlds, the first of all; null: everybody.")


class OffPolicyConfig(Frozen):
    """A world in which control explores, and what its log alone tells about other policies for the last place."""

    explore: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.5, description="Probability that the last place of a slate goes to a random one of the candidates behind it."
    )
    among: Length | None = Field(
        10, description="How many of the best candidates behind the slate that one is drawn from; null: all."
    )
    policies: tuple[str, ...] | None = Field(
        None,
        description="Policies whose value is estimated: ranking, or a channel, whose best-ranked candidate takes the "
        "last place; null: ranking and every channel of control.",
    )
    users: Rows | None = Field(None, description="Users of this world, the first of all; null: everybody.")


def interleaved_name(arm: str) -> str:
    """Name of the world in which a treatment's channel is interleaved with control's."""
    return f"{INTERLEAVED}{arm}"


def extra_worlds(
    production: Pipeline,
    arms: Mapping[str, Pipeline],
    interleaving: InterleavingConfig | None,
    off_policy: OffPolicyConfig | None,
) -> dict[str, dict[str, Any]]:
    """What these worlds change of the production pipeline, by name; arms that cannot be interleaved are left out."""
    found = {}
    if interleaving is not None:
        for arm in arms:
            if arm != CONTROL and len(differing := differing_channels(production, arms, arm)) == 1:
                found[interleaved_name(arm)] = _interleaved(production, arms, arm, differing[0])
    if off_policy is not None:
        control = arms[CONTROL]
        policies = off_policy.policies or (RANKED, *channels_of(production, control))
        keys = {"explore": off_policy.explore, "explore_among": off_policy.among, "policies": list(policies)}
        found[f"{OFF_POLICY}{CONTROL}"] = merge(dict(control), keys)
    return found


def differing_channels(production: Pipeline, arms: Mapping[str, Pipeline], arm: str) -> list[str]:
    """Channels of an arm and of control that are not alike."""
    own, theirs = channels_of(production, arms[CONTROL]), channels_of(production, arms[arm])
    return [name for name in {**own, **theirs} if own.get(name) != theirs.get(name)]


def interleaving_faults(production: Pipeline, arms: Mapping[str, Pipeline]) -> list[str]:
    """Why treatments cannot be interleaved with control, each with its key."""
    faults = []
    for arm, own in arms.items():
        if arm == CONTROL:
            continue
        differing = differing_channels(production, arms, arm)
        shared = [name for name in differing if name in channels_of(production, arms[CONTROL])]
        rest = {key: value for key, value in own.items() if key != "channels"}
        control = {key: value for key, value in arms[CONTROL].items() if key != "channels"}
        if len(differing) != 1 or shared != differing or not channels_of(production, own).get(differing[0]):
            told = ", ".join(differing) or "none"
            faults.append(
                f"interleaving: {arm} and control must differ in one channel that both have, and differ in {told}: "
                "change the arms, or set interleaving: null"
            )
        elif rest != control:
            faults.append(
                f"interleaving: {arm} changes {', '.join({**rest, **control})} too, which one list cannot show side by "
                "side: change the channel alone, or set interleaving: null"
            )
    return faults


def teams(production: Pipeline, arms: Mapping[str, Pipeline], arm: str) -> tuple[str, str]:
    """The channels that draft in an interleaved world: control's, and the one that brings the treatment's items."""
    (name,) = differing_channels(production, arms, arm)
    return name, f"{name}_{CHALLENGER}"


def _interleaved(production: Pipeline, arms: Mapping[str, Pipeline], arm: str, name: str) -> dict[str, Any]:
    first, second = teams(production, arms, arm)
    own = (arms[arm].get("channels") or {}).get(name) or {}
    challenger = dict(channels_of(production, arms[arm])[name])
    if challenger["kind"] != production["channels"].get(name, challenger)["kind"]:
        challenger["options"] = own.get("options", {})  # production's mean nothing to another kind
    return merge(dict(arms[CONTROL]), {"channels": {second: challenger}, "merge": {"draft": [first, second]}})
