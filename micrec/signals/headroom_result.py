"""``micrec headroom``: what a log holds for each loss, in figures and words."""

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from micrec.config import SessionsConfig, SplitConfig
from micrec.data.dataset import Clicks, Dataset
from micrec.data.split import temporal_split
from micrec.errors import MicrecError
from micrec.notebook import Displayed, ResultTable
from micrec.progress import NoProgress, Progress
from micrec.shares import percent
from micrec.signals.carriers import Carrier, Loss, carriers, co_clicks, taxonomy
from micrec.signals.matched_pairs import (
    BINS,
    MOST_CLICKS,
    MOST_USERS,
    MatchedPairs,
    Share,
    later_clicks,
    match,
    nearer,
    share,
)
from micrec.signals.session_pairs import session_pairs

OTHERS = "clicks of others"
FEW = (5, 20, 100)


class Signal(NamedTuple):
    """What one carrier tells.

    Attributes:
        name: ``titles``, a field, ``sessions``, or ``clicks of others``, which the others stand beside.
        loss: The loss that would use it: semantic, feature, session or none.
        beyond: What it is compared within: a field's values and popularity, or popularity alone.
        coverage: Share of the items that have it.
        everything: Over all later clicks.
        by_clicks: By how often the clicked item was clicked before; empty for sessions.
    """

    name: str
    loss: Loss
    beyond: str
    coverage: float
    everything: Share
    by_clicks: dict[str, Share]


@dataclass(frozen=True, repr=False)
class Headroom(Displayed):
    """What a log holds for each loss, before anything is trained.

    Attributes:
        name: Name of the dataset.
        test_clicks: Clicks of the test period.
        users_known: Share of them by users with earlier clicks.
        items_known: Share of them, of known users, on items with earlier clicks: no list of known items hits more.
        repeats: Share of them, of known users, on items that the user had clicked before.
        few_clicks: For 5, 20 and 100: share of them, of known users, on items with fewer earlier clicks.
        item_shares: Share of the items of the table by their earlier clicks, in the bins of ``signals``.
        levels: Categorical fields nested with the category, from the coarsest.
        signals: One per carrier.
    """

    name: str
    test_clicks: int
    users_known: float
    items_known: float
    repeats: float
    few_clicks: dict[int, float]
    item_shares: dict[str, float]
    levels: tuple[str, ...]
    signals: tuple[Signal, ...]

    def to_frame(self) -> pl.DataFrame:
        """One row per carrier and bin of earlier clicks.

        Returns:
            ``signal``, ``loss``, ``beyond``, ``coverage``, ``earlier_clicks`` (``all`` for all), ``auc``, ``lower``,
            ``upper``, ``clicks``, ``users``; null where nothing could be compared.
        """
        rows = [
            (one.name, one.loss, one.beyond, one.coverage, clicks, *found)
            for one in self.signals
            for clicks, found in {"all": one.everything, **one.by_clicks}.items()
        ]
        text = dict.fromkeys(("signal", "loss", "beyond"), pl.String)
        figures = dict.fromkeys(("auc", "lower", "upper"), pl.Float64)
        schema = {**text, "coverage": pl.Float64, "earlier_clicks": pl.String, **figures}
        frame = pl.DataFrame(rows, schema={**schema, "clicks": pl.Int64, "users": pl.Int64}, orient="row")
        return frame.with_columns(pl.col("auc", "lower", "upper").fill_nan(None))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        told = [
            {
                **one._asdict(),
                "everything": _plain(one.everything),
                "by_clicks": {name: _plain(found) for name, found in one.by_clicks.items()},
            }
            for one in self.signals
        ]
        return {**plain, "levels": list(self.levels), "signals": told, "predictions": self.predictions}

    @property
    def predictions(self) -> list[str]:
        """What the figures predict for the semantic, the feature and the session loss, a sentence each."""
        return [_semantic(self), _feature(self), _session(self)]

    def _lines(self) -> list[str]:
        few = ", ".join(f"{percent(self.few_clicks[n])} on items with fewer than {n}" for n in FEW)
        return [
            f"{self.name}: {self.test_clicks:,} test clicks",
            f"{percent(self.users_known)} of the test clicks are by users with earlier clicks. Of these clicks:",
            f"  {percent(self.items_known)} are on items with earlier clicks: no list of such items hits more",
            f"  {percent(self.repeats)} are on items that the user had clicked before",
            f"  {few} earlier clicks",
            *self.predictions,
        ]

    def _tables(self) -> list[ResultTable]:
        header = ("signal", "beyond", "items with it", "all", "95 %", *BINS)
        rows = [
            (
                one.name,
                one.beyond,
                percent(one.coverage),
                _cell(one.everything),
                _interval(one.everything),
                *(_cell(one.by_clicks[name]) if name in one.by_clicks else "" for name in BINS),
            )
            for one in self.signals
        ]
        rows.append(("share of items", "", "", "", "", *(percent(self.item_shares[name]) for name in BINS)))
        title = "How often a later click is nearer than its match: all, and by its item's earlier clicks"
        return [ResultTable(title, header, rows, NOTES)]


NOTES = (
    "An AUC: the clicked item is nearer to the user's earlier clicks than an item of like popularity and of the same "
    "coarser value that the user never clicked; .5 is chance, * marks a 95 % interval over users and items above it.",
    f"A sample: up to {MOST_USERS:,} users, {MOST_CLICKS} later clicks of each on what they had not clicked before.",
    "sessions: an item is nearer (by the clicks of others) to one of its session than an item of the user's next.",
)


def measure(
    dataset: Dataset, split: SplitConfig, sessions: SessionsConfig, *, seed: int = 0, progress: Progress | None = None
) -> Headroom:
    """Figures of a dataset.

    Args:
        dataset: The data.
        split: What counts as later: the test period.
        sessions: How clicks are cut into sessions.
        seed: Of the sample of users and the draws of matches.
        progress: Where to report.

    Raises:
        MicrecError: If a part of the split is empty, or no user of the test has earlier clicks.
    """
    progress = progress or NoProgress()
    parts = temporal_split(dataset.clicks, split, dataset.schema.days)
    train, test = dataset.clicks[parts.fit], dataset.clicks[parts.test]
    known = test[np.isin(test.user_ids, train.user_ids)]
    if not len(known):
        raise MicrecError(
            f"headroom: none of the {len(test):,} test clicks is by a user with earlier clicks: lower "
            "--test-fraction or --test-days."
        )
    counts = np.bincount(train.item_ids, minlength=len(dataset.items))
    found = carriers(dataset, train)
    progress.start("headroom", len(found) + 1, "signals")
    rng = np.random.default_rng([seed, 0])
    users, items = later_clicks(train, known, len(dataset.items), rng)
    signals: list[Signal] = []
    for carrier in found:
        pairs = _matched(dataset, carrier, users, items, counts, np.random.default_rng([seed, 1]))
        signals.append(_signal(carrier, pairs, counts, train))
        progress.advance(1, carrier.name)
    signals.insert(-1, _sessions(dataset, train, known, sessions, np.random.default_rng([seed, 2])))
    progress.finish()
    before = np.unique(train.user_ids.astype(np.int64) * len(counts) + train.item_ids)
    return Headroom(
        name=dataset.name,
        test_clicks=len(test),
        users_known=len(known) / len(test),
        items_known=float((counts[known.item_ids] > 0).mean()),
        repeats=float(np.isin(known.user_ids.astype(np.int64) * len(counts) + known.item_ids, before).mean()),
        few_clicks={n: float((counts[known.item_ids] < n).mean()) for n in FEW},
        item_shares={name: float(((counts >= low) & (counts < high)).mean()) for name, (low, high) in BINS.items()},
        levels=tuple(taxonomy(dataset)),
        signals=tuple(signals),
    )


def shown(found: Headroom) -> list[RenderableType]:
    """The figures for a terminal."""
    (data,) = found._tables()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=data.title, title_justify="left")
    for place, name in enumerate(data.header):
        table.add_column(escape(name), justify="left" if place < 2 else "right")
    for row in data.rows:
        table.add_row(*map(escape, row))
    facts, predictions = found._lines()[:5], found.predictions
    return [*facts, "", table, *data.notes, "", "What this predicts", *(f"  {line}" for line in predictions)]


def _groups(dataset: Dataset, field: str | None) -> NDArray[np.int64]:
    if field is None:
        return np.ones(len(dataset.items), np.int64)
    return np.asarray(dataset.items.columns[field].codes, dtype=np.int64)


def _matched(
    dataset: Dataset,
    carrier: Carrier,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    counts: NDArray[np.int64],
    rng: np.random.Generator,
) -> MatchedPairs:
    clicks = dataset.clicks
    clicked = np.unique(clicks.user_ids.astype(np.int64) * len(counts) + clicks.item_ids)
    return match(users, items, _groups(dataset, carrier.coarser), counts, clicked, rng)


def _signal(carrier: Carrier, pairs: MatchedPairs, counts: NDArray[np.int64], train: Clicks) -> Signal:
    values = nearer(pairs, carrier, train)
    at = counts[pairs.items]
    by_clicks = {name: _share_of(values, pairs, (at >= low) & (at < high)) for name, (low, high) in BINS.items()}
    beyond = carrier.coarser or "popularity"
    return Signal(
        carrier.name, carrier.loss, beyond, carrier.coverage, share(values, pairs.users, pairs.items), by_clicks
    )


def _share_of(values: NDArray[np.float64], pairs: MatchedPairs, chosen: NDArray[np.bool_]) -> Share:
    return share(values[chosen], pairs.users[chosen], pairs.items[chosen])


def _sessions(
    dataset: Dataset, train: Clicks, later: Clicks, sessions: SessionsConfig, rng: np.random.Generator
) -> Signal:
    levels = taxonomy(dataset)
    finest = levels[-1] if levels else None
    users, triples = session_pairs(later, _groups(dataset, finest), sessions, rng)
    vectors = co_clicks(train, len(dataset.items))
    anchor = vectors[triples[:, 0]]
    mine, theirs = (anchor.multiply(vectors[triples[:, place]]).sum(axis=1) for place in (1, 2))
    values = np.where(np.isclose(mine, theirs, rtol=1e-9, atol=1e-12), 0.5, mine > theirs).astype(np.float64)
    beyond = f"the user, {finest}" if finest else "the user"
    return Signal("sessions", "session", beyond, 1.0, share(values, users, triples[:, 1]), {})


def _plain(found: Share) -> dict[str, float | None]:
    return {name: None if value != value else value for name, value in found._asdict().items()}


def _cell(found: Share) -> str:
    return f"{found.auc:.3f}" + ("*" if found.tells else "") if found.auc == found.auc else "n/a"


def _interval(found: Share) -> str:
    return f"{found.lower:.3f}-{found.upper:.3f}" if found.lower == found.lower else ""


def _semantic(one: Headroom) -> str:
    told = [signal for signal in one.signals if signal.loss == "semantic" and signal.everything.tells]
    if not any(signal.loss == "semantic" for signal in one.signals):
        return "Semantic loss: the log has no titles, tags or content vectors for it."
    if not told:
        return "Semantic loss: titles, tags and content are not shown to tell anything more: no gain expected."
    best = max(told, key=lambda signal: signal.everything.auc)
    others = next(signal for signal in one.signals if signal.name == OTHERS)
    first, *_ = BINS
    few, rival = best.by_clicks[first], others.by_clicks[first]
    where = "no later click on an item with fewer than 5 earlier clicks could be compared"
    if few.auc == few.auc and rival.auc == rival.auc:
        where = f"on items with fewer than 5 earlier clicks {few.auc:.3f}, the clicks of others {rival.auc:.3f}"
    return (
        f"Semantic loss: {best.name}, the strongest, at {best.everything.auc:.3f} beyond {best.beyond}; {where}. "
        f"{percent(one.few_clicks[5])} of the clicks of known users go to such items: that is what it can gain on."
    )


def _feature(one: Headroom) -> str:
    fields = [signal for signal in one.signals if signal.loss == "feature"]
    telling = [signal for signal in fields if signal.everything.tells]
    told = [f"{signal.name} ({signal.everything.auc:.3f} beyond {signal.beyond})" for signal in telling]
    if not fields:
        return "Feature loss: the log has no categorical item field for it."
    if not told:
        return "Feature loss: no field is shown to tell anything beyond the coarser levels: no gain expected."
    return f"Feature loss: what tells: {', '.join(told)}; towers that read it can gain, most where clicks are few."


def _session(one: Headroom) -> str:
    found = next(signal for signal in one.signals if signal.name == "sessions").everything
    if found.auc != found.auc:
        return "Session loss: no two neighbouring sessions could be compared."
    if found.tells:
        return (
            f"Session loss: items of one session belong together beyond their user and the coarser level (AUC "
            f"{found.auc:.3f}): it has something to gain."
        )
    between = f"[{found.lower:.3f}, {found.upper:.3f}]"
    return f"Session loss: a session is not shown to tell more than its user ({found.auc:.3f} {between}): no gain."
