"""The best possible results on a generated world, as rows beside its models: users, items or structure known.

They stand in the registry of baselines as ceilings: no model is blamed for not passing them. What they know is drawn
anew from the keys in ``dataset.yaml``; they are offered only where the folder holds ``ground_truth/`` and agrees.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.data.dataset import Dataset
from micrec.evaluation.task import expand_ranges
from simulator.ceiling.click_evidence import PastClicks
from simulator.ceiling.expected_clicks import SessionModel, UserTraits, expected_clicks
from simulator.ceiling.inferred_users import InferredUsers
from simulator.ceiling.known_users import KnownUsers
from simulator.ceiling.learned_appeal import learned_appeal
from simulator.ceiling.world_period import TimeBuckets, session_model, time_buckets
from simulator.world.clicks import build_shelf
from simulator.world.items import make_catalogue
from simulator.world.visits import VisitDraws, calibrate_rate
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

GENERATOR = "micrec world"
MOST_ITEMS = 200_000  # a block of queries is a few arrays of this width
MOST_PAIRS = 2_000_000_000  # of users and items: some ten minutes a ceiling if a third of the users are judged
_SPANS = 4  # of the judged period, each with its own shares of items
_ROWS = 64  # users scored together


class Span(NamedTuple):
    """A part of the judged period."""

    model: SessionModel
    buckets: NDArray[np.int64]  # places in the period's buckets
    middle_s: float  # seconds since the start of the log


def missing_ground_truth(dataset: Dataset) -> str | None:
    """Why a dataset has no ceiling; None if it has one."""
    provenance = dataset.schema.provenance
    if dataset.folder is None or provenance.get("generator") != GENERATOR:
        return "it is not a generated world in a folder"
    if not (dataset.folder / "ground_truth" / "items.parquet").is_file():
        return "its folder holds no ground_truth"
    if len(dataset.items) > MOST_ITEMS:
        return f"{len(dataset.items):,} items are more than its {MOST_ITEMS:,}"
    pairs = len(dataset.users) * len(dataset.items)
    if pairs > MOST_PAIRS:
        return f"{pairs:,} pairs of user and item are more than its {MOST_PAIRS:,}"
    try:
        world = known_world(dataset)
    except (ValidationError, KeyError, ValueError):
        return "its keys are those of another version of the generator"
    truth = pl.read_parquet(
        dataset.folder / "ground_truth" / "items.parquet", columns=["item_id", "link_group", "appeal"]
    )
    ids = truth["item_id"].to_numpy()
    catalogue = world.catalogue
    inside = len(ids) > 0 and int(ids.max()) < len(catalogue) and dataset.users.ids.dtype.is_integer()
    if not (
        inside
        and np.isin(dataset.items.ids.to_numpy(), ids).all()
        and (catalogue.group[ids] == truth["link_group"].to_numpy()).all()
        and np.allclose(catalogue.appeal[ids], truth["appeal"].to_numpy())
    ):
        return "its ground_truth is not what this version draws from its keys"
    return None


def known_world(dataset: Dataset) -> World:
    """The world that a dataset was generated from, but for how quality is spread over clicks."""
    return _known_world(json.dumps(dataset.schema.provenance["config"], sort_keys=True, default=str))


@lru_cache(maxsize=2)
def _known_world(text: str) -> World:
    config = WorldConfig.model_validate_json(text)
    days = max(config.days, config.window_days)
    catalogue = make_catalogue(config.model_copy(update={"days": days}))
    shelf = build_shelf(config, catalogue, days)
    return World(config, catalogue, shelf, np.zeros(len(catalogue)), calibrate_rate(config))


def users_known(inputs: BaselineInputs) -> BaselineScores:
    """Scores of somebody who knows every latent of users and items: expected clicks in the judged period."""
    world = known_world(inputs.dataset)
    begin_s, end_s = _period(inputs, world)
    buckets, spans = _spans(world, begin_s, end_s)
    known = KnownUsers(world.config, world.catalogue, world.shelf)
    ids = inputs.dataset.users.ids.to_numpy()

    def users(start: int, stop: int) -> Tensor:
        outside = ids[inputs.task.user_ids[start:stop]]
        shares = _presence(world, outside, buckets)
        clicked = _clicked(inputs, world, start, stop)
        return _scores(
            inputs.dataset, spans, shares, lambda rows, span: known.traits(outside[rows], span.middle_s), clicked
        )

    return BaselineScores(users)


def items_known(inputs: BaselineInputs) -> BaselineScores:
    """Scores of somebody who knows every latent of the items and infers the users from their histories."""
    return _users_inferred(inputs, known_world(inputs.dataset))


def structure_known(inputs: BaselineInputs) -> BaselineScores:
    """The same without the items' appeal, which only the clicks before the judged period tell."""
    world = known_world(inputs.dataset)
    train, outside = inputs.train, inputs.dataset.items.ids.to_numpy()
    rows = np.lexsort((np.arange(len(train)), train.time_ms, train.user_ids))
    history = PastClicks(
        train.user_ids[rows].astype(np.int64),
        outside[train.item_ids[rows]].astype(np.int64),
        train.time_ms[rows] / 1000.0 - world.start_s,
    )
    appeal = learned_appeal(world.config, world.catalogue, world.shelf.bucket_s, history)
    return _users_inferred(inputs, replace(world, catalogue=replace(world.catalogue, appeal=appeal)))


def _users_inferred(inputs: BaselineInputs, world: World) -> BaselineScores:
    """Scores of somebody who takes the items to be those of ``world`` and infers the users from their histories."""
    task = inputs.task
    begin_s, end_s = _period(inputs, world)
    buckets, spans = _spans(world, begin_s, end_s)
    inferred = InferredUsers(world.config, world.catalogue, world.shelf.bucket_s)
    ids, items = inputs.dataset.users.ids.to_numpy(), inputs.dataset.items.ids.to_numpy()
    time_s = inputs.train.time_ms / 1000.0 - world.start_s

    def users(start: int, stop: int) -> Tensor:
        outside = ids[task.user_ids[start:stop]]
        rows, places = expand_ranges(task.begin[start:stop], task.end[start:stop])
        clicked = items[task.histories.items[places]]
        at = task.histories.rows[places]
        when = np.where(at < len(time_s), time_s[np.minimum(at, len(time_s) - 1)], begin_s)
        beliefs = inferred.beliefs(outside, PastClicks(rows, clicked, when), begin_s)
        shares = np.broadcast_to(buckets.visits, (stop - start, len(buckets.visits)))

        def traits(some: NDArray[np.int64], span: Span) -> UserTraits:
            return inferred.traits(beliefs.of(some), max(span.middle_s - begin_s, 0.0))

        return _scores(inputs.dataset, spans, shares, traits, _clicked(inputs, world, start, stop))

    return BaselineScores(users)


def _clicked(inputs: BaselineInputs, world: World, start: int, stop: int) -> sp.csr_array | None:
    """What the users of some queries have clicked and cannot click again, shape (B, N); None where they can."""
    if world.config.choice.once != "log":
        return None
    task = inputs.task
    rows, places = expand_ranges(task.begin[start:stop], task.end[start:stop])
    items = inputs.dataset.items.ids.to_numpy()[task.histories.items[places]]
    keys = np.unique(rows * len(world.catalogue) + items)
    pairs = (keys // len(world.catalogue), keys % len(world.catalogue))
    return sp.csr_array((np.ones(len(keys)), pairs), shape=(stop - start, len(world.catalogue)))


def _period(inputs: BaselineInputs, world: World) -> tuple[float, float]:
    """The judged period, seconds since the start of the log."""
    task, folder = inputs.task, inputs.dataset.folder
    assert folder is not None
    lines = int(task.target_counts.sum()) + task.skipped_lines
    clicks = folder / "clicks.parquet"
    source = clicks if clicks.exists() else folder / "clicks" / "*.parquet"
    times = np.sort(pl.scan_parquet(source).select("timestamp").collect()["timestamp"].to_numpy())
    n = len(inputs.train)
    return float(times[n] - world.start_s), float(times[min(n + lines, len(times)) - 1] - world.start_s)


def _spans(world: World, begin_s: float, end_s: float) -> tuple[TimeBuckets, list[Span]]:
    buckets = time_buckets(world.config, world.shelf.bucket_s, begin_s, end_s)
    passed = np.cumsum(buckets.visits) - buckets.visits / 2.0
    number = np.minimum((passed / buckets.visits.sum() * _SPANS).astype(np.int64), _SPANS - 1)
    spans = []
    for one in np.unique(number):
        rows = np.flatnonzero(number == one)
        visits = np.maximum(buckets.visits[rows], 1e-12)
        middle_s = float(np.average(buckets.times_s[rows], weights=visits) + buckets.length_s / 2.0)
        model = session_model(world.config, world.catalogue, buckets.times_s[rows], visits)
        spans.append(Span(model, rows, middle_s))
    return buckets, spans


def _presence(world: World, users: NDArray[np.int64], buckets: TimeBuckets) -> NDArray[np.float64]:
    """Relative visits of users (B,) in each bucket of the period, shape (B, T)."""
    visits = VisitDraws(world.config, world.rate)
    return buckets.present(*visits.presence(users, visits.activity(users)))


def _scores(
    dataset: Dataset,
    spans: list[Span],
    shares: NDArray[np.float64],
    traits: Callable[[NDArray[np.int64], Span], UserTraits],
    clicked: sp.csr_array | None,
) -> Tensor:
    """Expected clicks (B, N) over the spans, each by the users' share of visits in it, as float32."""
    ids = dataset.items.ids.to_numpy()
    scores = np.empty((len(shares), len(ids)), np.float32)
    for rows in _blocks(len(shares)):
        total = np.zeros((len(rows), len(ids)))
        for span in spans:
            share = shares[np.ix_(rows, span.buckets)].sum(axis=1) / shares[rows].sum(axis=1)
            seen = None if clicked is None else clicked[rows]
            total += share[:, None] * expected_clicks(span.model, traits(rows, span), seen)[:, ids]
        scores[rows] = total
    return torch.from_numpy(scores)


def _blocks(n: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, n, _ROWS):
        yield np.arange(first, min(first + _ROWS, n))
