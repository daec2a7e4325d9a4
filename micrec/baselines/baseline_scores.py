"""What a baseline answers: a score of every item for every user, and of every item beside another."""

from typing import NamedTuple

from micrec.evaluation.link_recall import NeighbourScores
from micrec.evaluation.scores import ScoreBlock


class BaselineScores(NamedTuple):
    """Scores of a baseline on one task.

    Attributes:
        users: Scores of all items for the task's queries, a block of queries at a time, float32, shape (B, N).
        neighbours: Scores of all items as neighbours of given ones, shape (B, N), for link recall; None: it has none.
    """

    users: ScoreBlock
    neighbours: NeighbourScores | None = None
