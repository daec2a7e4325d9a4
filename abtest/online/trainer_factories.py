"""Every kind of model that a pipeline may name, as the platform makes its trainers."""

import json
from collections.abc import Mapping
from typing import Any

from micrec.config import Config
from micrec.errors import MicrecError
from micrec.settings import validate
from simulator.channels.two_tower.two_tower_config import TWO_TOWER, TwoTowerConfig


def model_makers() -> Any:
    """Every kind of model that a pipeline may name."""
    from simulator.channels import CHANNELS, make_channel
    from simulator.platform.model_registry import TrainerFactories
    from simulator.ranking import CtrTrainer, RankerConfig

    def channel(kind: str) -> Any:
        return lambda options: make_channel(kind, options, where=f"options of kind {kind}")

    def ranker(options: Mapping[str, Any]) -> CtrTrainer:
        return CtrTrainer(validate(RankerConfig, options, where="ranking.options"))

    return TrainerFactories({**{kind: channel(kind) for kind in CHANNELS}, TWO_TOWER: _two_tower}, {"ctr": ranker})


def _two_tower(options: Mapping[str, Any]) -> Any:
    from simulator.channels.two_tower.two_tower_trainer import TwoTowerTrainer

    if set(options) != {"config", "serving"}:
        raise MicrecError(f"kind {TWO_TOWER}: its options are the arm's model: set arms.<name>.config and serving.")
    config = Config.model_validate_json(json.dumps(options["config"]))
    serving = TwoTowerConfig.model_validate_json(json.dumps(options["serving"]))
    return TwoTowerTrainer(config, serving)
