"""The ranking model: which candidates become the slate."""

from simulator.ranking.ctr import CtrRanker, CtrTrainer, requests_at
from simulator.ranking.ranker_config import RankerConfig

__all__ = ["CtrRanker", "CtrTrainer", "RankerConfig", "requests_at"]
