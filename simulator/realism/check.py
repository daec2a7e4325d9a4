"""The whole check of a synthetic dataset against a real one, from folders to results."""

from dataclasses import dataclass, replace
from pathlib import Path

from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.progress import Progress
from simulator.realism.classifier import TwoSample, two_sample_tests
from simulator.realism.compare import StatisticComparison, compare
from simulator.realism.fixed_statistics import statistics
from simulator.realism.log import Log, count_users, load_sample, log_of
from simulator.realism.ranking import Agreement, ranking_agreement

MOST_USERS = 20_000
LEAST_CLICKS = 50
LEAST_USERS = 10


@dataclass(frozen=True)
class Pair:
    """A real and a synthetic dataset with about as many users each.

    Attributes:
        real: The real log.
        synthetic: The synthetic one.
        datasets: The datasets they come from, with the clicks of the same users.
    """

    real: Log
    synthetic: Log
    datasets: tuple[Dataset, Dataset]


@dataclass(frozen=True)
class Realism:
    """What a check found.

    Attributes:
        real: The real log.
        synthetic: The synthetic one.
        without: Groups or names of statistics left out.
        comparisons: Every other statistic.
        tests: The classifier's tests, or none if they were skipped.
        ranking: The agreement of the order of recommenders, or None if it was skipped.
    """

    real: Log
    synthetic: Log
    without: tuple[str, ...]
    comparisons: list[StatisticComparison]
    tests: list[TwoSample]
    ranking: Agreement | None


def load_pair(real: Path, synthetic: Path, *, users: int = MOST_USERS, utc_offset_h: float = 0.0) -> Pair:
    """Two dataset folders, the larger one thinned to as many users as the smaller has, both to ``users``.

    What depends on how many users there are, such as the clicks of an item, is then compared on equal terms.

    Args:
        real: The real dataset.
        synthetic: The synthetic one.
        users: Most users to read of either.
        utc_offset_h: Hours to add to the clock of the real one; a world's clock is the users' own.

    Raises:
        MicrecError: If a folder is invalid or its log is too small to say anything.
    """
    sizes = [size for folder in (real, synthetic) if (size := count_users(folder))]
    most = min([users, *sizes])
    pairs = []
    for folder, offset in ((real, utc_offset_h), (synthetic, 0.0)):
        dataset, sampled = load_sample(folder, most)
        log = log_of(dataset, utc_offset_h=offset, sampled=sampled)
        if len(log) < LEAST_CLICKS or log.n_users < LEAST_USERS:
            raise MicrecError(
                f"{folder}: has {len(log)} clicks of {log.n_users} users: {LEAST_CLICKS} clicks of {LEAST_USERS} users "
                "are the least that statistics are taken of."
            )
        if log.span_s == 0:
            raise MicrecError(
                f"{folder}: all clicks have the same time: check the timestamps and time_unit in dataset.yaml."
            )
        pairs.append((log, dataset))
    (real_log, real_set), (synthetic_log, synthetic_set) = pairs
    if real_log.name == synthetic_log.name:  # a world under two seeds, say: their folders tell them apart
        real_log = replace(real_log, name=f"{real_log.name} ({real})")
        synthetic_log = replace(synthetic_log, name=f"{synthetic_log.name} ({synthetic})")
    return Pair(real_log, synthetic_log, (real_set, synthetic_set))


def check_realism(
    pair: Pair,
    *,
    without: tuple[str, ...] = (),
    classifier: bool = True,
    ranking: bool = True,
    draws: int = 1,
    progress: Progress | None = None,
) -> Realism:
    """Compare a pair on every statistic but those of ``without``.

    Args:
        pair: The two datasets.
        without: Groups or names of statistics to leave out; the classifier does without the features of groups.
        classifier: Whether to let a classifier try to tell the two apart.
        ranking: Whether to compare the order of recommenders, which takes a minute or two.
        draws: Draws of the world on which that is compared: the pair's, and others of the same keys.
        progress: Where to report.

    Raises:
        MicrecError: If ``without`` names what there is not, or nothing can be compared.
    """
    comparisons = compare(pair.real, pair.synthetic, statistics(without))
    return Realism(
        real=pair.real,
        synthetic=pair.synthetic,
        without=without,
        comparisons=comparisons,
        tests=two_sample_tests(pair.real, pair.synthetic, without) if classifier else [],
        ranking=ranking_agreement(*pair.datasets, progress, draws=draws) if ranking else None,
    )
