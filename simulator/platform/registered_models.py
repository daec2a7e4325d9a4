"""Trainers of every registered channel and ranking model, and checks of their options that make none."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from micrec.settings import validate
from simulator.channels import CHANNELS, channel_options, channel_trainer
from simulator.channels.oracle import ORACLE, OracleConfig, OracleTrainer
from simulator.platform.model_registry import TrainerFactories
from simulator.population.population_config import PopulationConfig
from simulator.ranking import RANKERS, ranker_options, ranker_trainer
from simulator.world.world import World


def registered_trainers() -> TrainerFactories:
    """What a pipeline may name, ready to be made of the options written beside the kind."""
    matchers = {kind: partial(channel_trainer, kind, where=_where(kind)) for kind in CHANNELS}
    return TrainerFactories(matchers, {kind: partial(ranker_trainer, kind) for kind in RANKERS})


def registered_checks() -> TrainerFactories:
    """The same kinds, whose options are checked and no trainer is made: it may need torch."""

    def channel(kind: str, options: Mapping[str, Any]) -> Any:
        return channel_options(kind, options, where=_where(kind))

    def oracle(options: Mapping[str, Any]) -> Any:
        return validate(OracleConfig, options, where=_where(ORACLE))

    matchers: dict[str, Any] = {**{kind: partial(channel, kind) for kind in CHANNELS}, ORACLE: oracle}
    rankers: dict[str, Any] = {kind: partial(ranker_options, kind) for kind in RANKERS}
    return TrainerFactories(matchers, rankers)


def with_oracle(makers: TrainerFactories, world: World, population: PopulationConfig) -> TrainerFactories:
    """The same kinds and the channel that knows the users.

    Args:
        makers: The other kinds.
        world: Whose hidden truth the oracle is handed.
        population: How its users respond.
    """

    def oracle(options: Mapping[str, Any]) -> OracleTrainer:
        return OracleTrainer(validate(OracleConfig, options, where=_where(ORACLE)), world, population)

    return makers._replace(matchers={**makers.matchers, ORACLE: oracle})


def _where(kind: str) -> str:
    return f"options of kind {kind}"
