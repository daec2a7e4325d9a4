"""Exact offline evaluation: the test clicks, their ranks in the full catalogue, and the metrics made of them."""

from micrec.evaluation.coverage import CoverageCounter
from micrec.evaluation.metrics import EvalResult, SliceMetrics, evaluate, hit_metrics
from micrec.evaluation.ranking import TargetRanks, rank_targets
from micrec.evaluation.reach import Reach, reach
from micrec.evaluation.scores import EmbeddingScores, OwnTerms, ScoreBlock, embedding_scores
from micrec.evaluation.task import EvalTask, evaluation_task

__all__ = [
    "CoverageCounter",
    "EmbeddingScores",
    "EvalResult",
    "EvalTask",
    "OwnTerms",
    "Reach",
    "ScoreBlock",
    "SliceMetrics",
    "TargetRanks",
    "embedding_scores",
    "evaluate",
    "evaluation_task",
    "hit_metrics",
    "rank_targets",
    "reach",
]
