"""Any two-tower model of micrec as a matching channel of the simulated platform."""

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from micrec.checkpoint import load_checkpoint, save_checkpoint
from micrec.config import Config
from micrec.data.dataset import Dataset, EntityTable
from micrec.epoch_order import EpochOrder
from micrec.errors import MicrecError
from micrec.field_encoder import FieldEncoder
from micrec.fitting import Fitted, RunState
from micrec.inference import encode_items, encode_users, item_priors, own_items
from micrec.model_folder import model_manifest, model_tensors
from micrec.models.columns import FieldSpec, Ragged
from micrec.progress import NoProgress
from micrec.retrieval import Bundle, build_index, load_bundle, save_bundle
from micrec.retrieval.build import popularity_now
from micrec.retrieval.query import Query, answer
from micrec.settings import build_config, nested
from micrec.training import Trainer
from simulator.channels.lists import Lookup, no_candidates
from simulator.channels.two_tower.exact_search import ExactSearch
from simulator.channels.two_tower.observed_dataset import to_dataset
from simulator.channels.two_tower.two_tower_config import TwoTowerChannelConfig, TwoTowerConfig
from simulator.channels.two_tower.warm_start import carry_over, table_labels
from simulator.draws import Draws
from simulator.ports import Candidates, ObservedLog, Requests

SERVING, PROJECTORS = "serving", "projectors"
PAD = 8  # user embeddings are computed for whole multiples: BLAS treats smaller products in another way
BIAS = "model.prior.bias.weight"  # a row for each item, as of the items' ids
FROM_THE_LOG = (  # of the day itself
    "model.gates.",
    "model.user_gates.",
    "model.prior.half_life_weights",
    "model.prior.word_weights",
)
FIELD_TERMS = "model.field_term."
DAY_MS = 86_400_000


class TwoTowerTrainer:
    """Trains a version a day; the first from scratch, each later one from the parameters of the one before.

    A version is a folder of two: ``serving``, a bundle as ``micrec index`` writes it, and ``projectors``, the layers of
    the contrastive losses, which only the next training reads. The manifest's ``lineage`` counts the versions that it
    comes from, itself included, and the epochs of all.
    """

    def __init__(self, config: Config, keys: TwoTowerConfig | None = None) -> None:
        self.config, self.keys = config, keys or TwoTowerConfig()

    def train(self, log: ObservedLog, *, previous: Path | None, folder: Path, seed: int) -> None:
        """Write the version learnt from ``log``; see :class:`simulator.ports.MatcherTrainer`.

        Raises:
            MicrecError: If the log has no clicks, a loss is not finite, or the folder cannot be written.
        """
        if not len(log.clicks):
            raise MicrecError("a two-tower model needs clicks to learn from, and the log has none: add warm-up days.")
        train = self.config.train.model_copy(update={"seed": seed})
        config = self.config.model_copy(update={"train": train})
        with threads(train.threads or 1):
            dataset = to_dataset(some_users(log, self.keys.most_clicks, seed))
            trainer = _Trainer(dataset, config)
            epochs, past = train.epochs, {"versions": 0, "epochs": 0}
            if previous is not None:
                past = _warm_start(trainer, dataset, previous)
                epochs = self.keys.warm_epochs
                if self.keys.warm_days is not None:
                    trainer.since_ms = int((log.start_s + log.now_s) * 1_000 - self.keys.warm_days * DAY_MS)
            trainer.planned_epochs = epochs
            for _ in range(epochs):
                trainer.epoch(NoProgress())
            lineage = {"versions": past["versions"] + 1, "epochs": past["epochs"] + epochs}
            bundle = self._bundle(trainer, dataset, lineage)
        projectors = {k: v for k, v in trainer.parameters().items() if k.startswith("contrast.")}
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of an attempt that was killed
        try:
            save_bundle(bundle, partial / SERVING)
            save_checkpoint(partial / PROJECTORS, projectors, {"kind": PROJECTORS})
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def load(self, folder: Path) -> "TwoTowerMatcher":
        """The model in ``folder``.

        Raises:
            MicrecError: If the folder is damaged.
        """
        return TwoTowerMatcher(load_bundle(folder / SERVING), self.keys)

    def _bundle(self, trainer: "_Trainer", dataset: Dataset, lineage: dict[str, int]) -> Bundle:
        trainer.optimizer.flush()
        model, fields = trainer.model.eval(), trainer.data.fields
        state = RunState(phase="done", epoch=trainer.epochs_done)
        manifest = model_manifest(Fitted(model, fields, trainer.config, state, len(dataset.clicks)), dataset)
        clicks = np.bincount(dataset.clicks.item_ids, minlength=len(dataset.items))
        candidates = np.flatnonzero(clicks >= self.keys.min_clicks).astype(np.int32)
        if not len(candidates):
            raise MicrecError(
                f"no item has serving.min_clicks {self.keys.min_clicks} clicks, so none may be retrieved: lower it."
            )
        columns = fields.items.to("cpu")
        popularity = popularity_now(model, dataset.clicks.item_ids, torch.from_numpy(dataset.clicks.time_ms), columns)
        _, embeddings = encode_items(model, fields.items)
        rows = torch.arange(len(dataset.items))
        prior = item_priors(model, fields.items, None if popularity is None else popularity(rows).to(trainer.device))
        joined = embeddings if prior is None else torch.cat([embeddings, prior], dim=1)
        vectors = joined.cpu().numpy()[candidates]
        with faiss_threads(1):  # a graph built by several threads may differ in a few links
            index = build_index(vectors, "flat" if self.keys.index == "exact" else self.keys.index)
        return Bundle(
            model=model.cpu(),
            users=fields.users.to("cpu"),
            items=columns,
            user_ids=dataset.users.ids,
            item_ids=dataset.items.ids,
            titles=None,
            clicks=Ragged(torch.zeros(0, dtype=torch.int32), torch.zeros(len(dataset.users) + 1, dtype=torch.int64)),
            candidates=candidates,
            index=index,
            user_encoder=FieldEncoder.of("user", fields.user_specs, dataset.users),
            item_encoder=FieldEncoder.of("item", fields.item_specs, dataset.items),
            manifest=manifest | {"title_field": None, "lineage": lineage},
        )


def some_users(log: ObservedLog, most_clicks: int | None, seed: int) -> ObservedLog:
    """The log with the clicks of as many users, drawn at random, as make up about ``most_clicks``; None: of all."""
    if most_clicks is None or len(log.clicks) <= most_clicks:
        return log
    users = log.clicks["user_id"].cast(pl.Int64).to_numpy()
    chosen = Draws(seed, "users learnt from").uniform(users) < most_clicks / len(users)
    return dataclasses.replace(log, clicks=log.clicks.filter(pl.Series(chosen)))


def two_tower_channel(options: TwoTowerChannelConfig) -> TwoTowerTrainer:
    """The trainer of a channel's options."""
    return TwoTowerTrainer(build_config(options.preset, nested(options.config)), options.serving)


def _warm_start(trainer: Trainer, dataset: Dataset, previous: Path) -> dict[str, int]:
    """Put what the previous version knew into a trainer that has not trained yet; its lineage."""
    bundle = load_bundle(previous / SERVING)
    projectors, _ = load_checkpoint(previous / PROJECTORS)
    old = model_tensors(bundle.model) | projectors
    fields = trainer.data.fields
    same_terms = _counted(fields.item_specs) == _counted(bundle.item_encoder.specs)
    old = {name: tensor for name, tensor in old.items() if not _starts_anew(name, same_terms)}
    labels = table_labels("user", fields.user_specs, dataset.users.ids, _field_labels(dataset.users))
    labels |= table_labels("item", fields.item_specs, dataset.items.ids, _field_labels(dataset.items))
    labels[BIAS] = dataset.items.ids.to_list()
    old_labels = table_labels("user", bundle.user_encoder.specs, bundle.user_ids, bundle.user_encoder.labels)
    old_labels |= table_labels("item", bundle.item_encoder.specs, bundle.item_ids, bundle.item_encoder.labels)
    old_labels[BIAS] = bundle.item_ids.to_list()
    trainer.load_parameters(carry_over(trainer.parameters(), old, labels, old_labels))
    lineage: dict[str, int] = bundle.manifest["lineage"]
    return lineage


def _starts_anew(name: str, same_terms: bool) -> bool:
    """Whether a parameter is that of the day itself: what the log gives, and terms of fields that are others now."""
    if name.startswith(FIELD_TERMS):
        return not same_terms or name.endswith(".shares")
    return name.startswith(FROM_THE_LOG)


def _counted(specs: Sequence[FieldSpec]) -> list[str]:
    return [spec.name for spec in specs if spec.counted]


def _field_labels(table: EntityTable) -> dict[str, Sequence[str]]:
    return {name: column.labels for name, column in table.columns.items()}


class _Trainer(Trainer):
    """Goes over the clicks since a moment only; histories reach back further."""

    since_ms: int | None = None

    def __init__(self, dataset: Dataset, config: Config) -> None:
        super().__init__(dataset, dataset.clicks, config)
        rows = np.argsort(dataset.clicks.user_ids, kind="stable")
        self._time_ms = torch.from_numpy(dataset.clicks.time_ms[rows])  # of each position

    def order(self, epoch: int) -> EpochOrder:
        """Sample order of an epoch, without the older clicks; all of them if there are no newer."""
        order = super().order(epoch)
        if self.since_ms is None:
            return order
        whole = order[:]
        recent = whole[(self._time_ms >= self.since_ms).to(whole.device)[whole]]
        return recent if len(recent) else order


class TwoTowerMatcher:
    """Serves a bundle: the user tower for a batch of requests, then the items of the highest inner products.

    Answers do not depend on the batch that a request comes in.
    """

    def __init__(self, bundle: Bundle, keys: TwoTowerConfig) -> None:
        self.keys, self._bundle = keys, bundle
        unknown = bundle.user_encoder.encode(pl.DataFrame(), 1)
        self._users = bundle.users.concat(unknown)  # the last row is for users who came later
        self._user_rows = Lookup(bundle.user_ids.to_numpy())
        self._item_rows = Lookup(bundle.item_ids.to_numpy())
        self._item_fields, _ = encode_items(bundle.model, bundle.items)
        ids = bundle.item_ids.to_numpy()[bundle.candidates]
        self._candidates, self._candidate_rows = ids, Lookup(ids)
        self._exact = ExactSearch(_vectors(bundle.index), ids) if keys.index == "exact" else None

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        """The ``k`` best items for each request."""
        batch = len(requests.user_ids)
        if batch == 0 or k == 0:
            return no_candidates(batch, k)
        recent = requests.recent_items
        hidden = recent if self.keys.hide_recent else recent[:, :0]
        query = self.query(requests)
        if self._exact is not None:
            return self._exact.top(query.embeddings, k, self._candidate_rows.rows(hidden), self._own_rows(query))
        return self._approximate(query, k, hidden)

    @torch.no_grad()
    def query(self, requests: Requests) -> Query:
        """Users as they ask: embeddings, (B, D), or (B, K, D) with K interests, and the terms of their own items.

        A request does not say when its clicks were: all of them count as fresh.
        """
        model, batch = self._bundle.model, len(requests.user_ids)
        padding = -batch % PAD
        rows = np.append(self._user_rows.rows(requests.user_ids), np.full(padding, -1))
        rows = np.where(rows < 0, self._users.n - 1, rows)
        clicks = self._item_rows.rows(requests.recent_items)[:, ::-1]  # oldest first
        seen = clicks >= 0
        counts = np.append(seen.sum(axis=1), np.zeros(padding, np.int64))
        history = Ragged(torch.from_numpy(clicks[seen]), torch.from_numpy(np.append(0, np.cumsum(counts))))
        with threads(1):
            users = self._users.take(torch.from_numpy(rows))
            embeddings = encode_users(model, users, history, self._item_fields)[:batch]
        if model.prior is not None:
            embeddings = torch.cat([embeddings, torch.ones_like(embeddings[..., :1])], dim=-1)
        own = None if self.keys.hide_recent else own_items(model, history, self._bundle.items.n)
        return Query(embeddings.numpy(), own)

    def _own_rows(self, query: Query) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]] | None:
        """Requests, rows of the index and terms of the users' own items."""
        if query.own is None or query.own.weights is None:
            return None
        rows = self._bundle.index_rows[query.own.values.numpy()]
        in_index = rows >= 0
        return query.own.rows.numpy()[in_index], rows[in_index], query.own.weights.numpy()[in_index]

    def _approximate(self, query: Query, k: int, hidden: NDArray[np.int64]) -> Candidates:
        """FAISS finds enough for what is hidden to be left out."""
        width = hidden.shape[1]
        with faiss_threads(1):
            scores, rows = answer(self._bundle, query, k + width)
        items = np.where(rows >= 0, self._candidates[rows], -1)
        gone = (items[:, :, None] == hidden[:, None, :]).any(axis=2) | (items < 0)
        order = np.lexsort((items, -scores, gone), axis=1)[:, :k]
        gone, items, scores = (np.take_along_axis(part, order, axis=1) for part in (gone, items, scores))
        return Candidates(np.where(gone, -1, items), np.where(gone, -np.inf, scores).astype(np.float32))


def _vectors(index: Any) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = index.reconstruct_n(0, index.ntotal)
    return vectors


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch with so many threads: sums of floats depend on how they are split."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


@contextmanager
def faiss_threads(count: int) -> Iterator[None]:
    """FAISS with so many threads."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
