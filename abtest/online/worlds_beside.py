"""Worlds beside the arms' own: further trainings of their models, and what matching is worth at most and at least.

Each is an arm that no user of the experiment is in: what it changes of the pipeline, by its name.
"""

from collections.abc import Mapping
from typing import Any

from abtest.arms import CONTROL
from micrec.settings import merge
from simulator.channels import CHANNELS
from simulator.channels.oracle import ORACLE

AS_IS, PERFECT, OFF, UNPERSONAL = "possible.control", "possible.perfect", "possible.off", "possible.unpersonal"
POSSIBLE = (AS_IS, PERFECT, OFF, UNPERSONAL)
PERFECT_CHANNEL = "perfect_matching"  # where no channel is under test
UNPERSONAL_KINDS = ("popular", "fresh")  # offer everybody the same

Pipeline = Mapping[str, Any]  # as JSON: channels by name, and the rest


def training_name(arm: str, number: int) -> str:
    """Name of the world of a further training of an arm's models; arms have no dot in their names."""
    return f"{arm}.{number}"


def worlds_beside(
    production: Pipeline, arms: Mapping[str, Pipeline], trainings: int, *, possible: bool
) -> dict[str, dict[str, Any]]:
    """What the worlds beside the arms' own change of the production pipeline, by name.

    Args:
        production: The pipeline of the warm-up.
        arms: What each arm changes of it.
        trainings: Trainings of each arm's models.
        possible: Whether the worlds that tell what matching is worth are among them.
    """
    found = {
        training_name(arm, number): trained_again(production, own, number)
        for number in range(1, trainings)
        for arm, own in arms.items()
    }
    return found | (possible_worlds(production, arms) if possible else {})


def trained_again(production: Pipeline, own: Pipeline, number: int) -> dict[str, Any]:
    """An arm whose models are trained with other seeds: those of the arms' methods; the rest is as it is."""
    channels = channels_of(production, own)
    changed = {name: {"training": number} for name, one in channels.items() if serves_arm_model(one["kind"])}
    return merge(dict(own), {"channels": changed}) if changed else dict(own)


def possible_worlds(production: Pipeline, arms: Mapping[str, Pipeline]) -> dict[str, dict[str, Any]]:
    """Control as it is; the channels under test perfect, or off; and only channels that offer everybody the same."""
    control = dict(arms[CONTROL])
    channels = channels_of(production, control)
    tested = channels_under_test(production, arms)
    oracle = {"kind": ORACLE, "options": {}}
    found = {AS_IS: control}
    found[PERFECT] = _with_channels(control, dict.fromkeys(tested, oracle) or {PERFECT_CHANNEL: oracle})
    if tested and set(channels) - set(tested):
        found[OFF] = _with_channels(control, dict.fromkeys(tested))
    personal = [name for name, one in channels.items() if one["kind"] not in UNPERSONAL_KINDS]
    if personal and len(personal) < len(channels):
        found[UNPERSONAL] = _with_channels(control, dict.fromkeys(personal))
    return found


def channels_under_test(production: Pipeline, arms: Mapping[str, Pipeline]) -> list[str]:
    """Names of control's channels that another arm changes, or that serve the arms' models."""
    channels = channels_of(production, arms[CONTROL])
    others = [channels_of(production, own) for own in arms.values()]
    return [
        name
        for name, one in channels.items()
        if serves_arm_model(one["kind"]) or any(other.get(name) != one for other in others)
    ]


def channels_of(production: Pipeline, own: Pipeline) -> dict[str, Any]:
    """The channels of an arm; those that it sets to null are gone."""
    channels = merge(dict(production["channels"]), own.get("channels") or {})
    return {name: one for name, one in channels.items() if one is not None}


def serves_arm_model(kind: object) -> bool:
    """Whether a kind of channel serves the model of its arm."""
    return isinstance(kind, str) and kind in CHANNELS and CHANNELS[kind].serves_arm_model


def _with_channels(own: Pipeline, changes: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: one for name, one in (own.get("channels") or {}).items() if name not in changes}
    return {**own, "channels": {**kept, **changes}}
