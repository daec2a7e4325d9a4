"""The ranking model: which candidates become the slate."""

from simulator.ranking.ctr import CtrRanker, CtrTrainer, requests_at
from simulator.ranking.keys import RankerKeys

__all__ = ["CtrRanker", "CtrTrainer", "RankerKeys", "requests_at"]
