"""Trainers of every registered channel and ranking model, and checks of their options that make none."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from simulator.channels import CHANNELS, channel_options, make_channel
from simulator.platform.model_registry import TrainerFactories
from simulator.ranking import RANKERS, make_ranker, ranker_options


def registered_trainers() -> TrainerFactories:
    """What a pipeline may name, ready to be made of the options written beside the kind."""
    matchers = {kind: partial(make_channel, kind, where=_where(kind)) for kind in CHANNELS}
    return TrainerFactories(matchers, {kind: partial(make_ranker, kind) for kind in RANKERS})


def registered_checks() -> TrainerFactories:
    """The same kinds, whose options are checked and no trainer is made: it may need torch."""

    def channel(kind: str, options: Mapping[str, Any]) -> Any:
        return channel_options(kind, options, where=_where(kind))

    matchers = {kind: partial(channel, kind) for kind in CHANNELS}
    rankers: dict[str, Any] = {kind: partial(ranker_options, kind) for kind in RANKERS}
    return TrainerFactories(matchers, rankers)


def _where(kind: str) -> str:
    return f"options of kind {kind}"
