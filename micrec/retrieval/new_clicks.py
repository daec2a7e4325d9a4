"""Clicks that come after the training: longer histories, and popularity as of now."""

from dataclasses import replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from micrec.data.encoding import IdMap
from micrec.errors import MicrecError
from micrec.models.columns import Ragged
from micrec.retrieval.build import item_vectors, popularity_of
from micrec.retrieval.bundle import Bundle
from micrec.retrieval.index import build_index, index_kind
from micrec.retrieval.spelling import listed

COLUMNS = ("user_id", "item_id", "timestamp")
HEADING = "new clicks"


def with_clicks(bundle: Bundle, frame: pl.DataFrame) -> Bundle:
    """Another bundle that knows more clicks; the given one stays as it is.

    They stand behind the known clicks of their users in the histories. If the model reads popularity, the index is
    built anew with that of the morning after the latest click; the towers' vectors stay.

    Args:
        bundle: What there is.
        frame: ``user_id, item_id, timestamp``: ids that the bundle knows, and seconds since 1970 or times with a zone
            (without one: UTC).

    Raises:
        MicrecError: If a column is missing, an id is unknown, or a time is missing or earlier than a known click of its
            user.
    """
    users, items, times = _encoded(bundle, frame)
    order = np.lexsort((times, users))
    users, items, times = users[order], items[order], times[order]
    _check_order(bundle, users, times)
    clicks, click_ms = _appended(bundle, users, items, times)
    latest = max(bundle.now_ms, int(times.max(initial=0)))
    known = {"now_ms": latest} if bundle.click_ms is not None else {}
    more = replace(bundle, clicks=clicks, click_ms=click_ms, manifest=bundle.manifest | known)
    popularity = popularity_of(more)
    if popularity is None:
        return more
    vectors = item_vectors(more.model, more.items, more.candidates, popularity)
    return replace(more, index=build_index(vectors, index_kind(bundle.index)))


def _encoded(bundle: Bundle, frame: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise MicrecError(f"{HEADING}: no column {', '.join(missing)} (there are: {', '.join(frame.columns)}): add it.")
    users, items = (
        IdMap(bundle.user_ids).positions(frame["user_id"]),
        IdMap(bundle.item_ids).positions(frame["item_id"]),
    )
    faults = []
    if (users < 0).any():
        names = listed(frame["user_id"].filter(pl.Series(users < 0)).unique(maintain_order=True))
        faults.append(f"user_id: {names}: not known to the bundle, leave their clicks out, or train anew")
    if (items < 0).any():
        names = listed(frame["item_id"].filter(pl.Series(items < 0)).unique(maintain_order=True))
        faults.append(f"item_id: {names}: not known to the bundle, add them by their fields first, or leave them out")
    times, fault = _milliseconds(frame["timestamp"])
    if faults or fault:
        raise MicrecError.of(HEADING, [*faults, *([fault] if fault else [])])
    return users.astype(np.int64), items.astype(np.int64), times


def _milliseconds(times: pl.Series) -> tuple[NDArray[np.int64], str | None]:
    """Milliseconds since 1970, and what is wrong."""
    nothing = np.empty(0, np.int64)
    if times.null_count():
        return nothing, f"timestamp: {times.null_count():,} are missing, leave these clicks out"
    if isinstance(times.dtype, pl.Datetime):
        return times.dt.epoch("ms").to_numpy().astype(np.int64), None
    if times.dtype.is_integer():
        return times.to_numpy().astype(np.int64) * 1_000, None
    return nothing, f"timestamp: the values are {times.dtype}, give whole seconds since 1970 or datetimes"


def _check_order(bundle: Bundle, users: NDArray[np.int64], times: NDArray[np.int64]) -> None:
    """Histories are in the order of time, so that the latest clicks are at their ends."""
    if bundle.click_ms is None or not len(users):
        return
    offsets, known = bundle.clicks.offsets.numpy(), bundle.click_ms.numpy()
    stops = offsets[users + 1]
    before = np.where(stops > offsets[users], known[np.maximum(stops - 1, 0)], np.iinfo(np.int64).min)
    early = times < before
    if early.any():
        names = listed(bundle.user_ids.gather(np.unique(users[early]).tolist()))
        raise MicrecError(
            f"{HEADING}: timestamp: earlier than a click that the bundle knows, of users {names}: give only clicks "
            "that were made since."
        )


def _appended(
    bundle: Bundle, users: NDArray[np.int64], items: NDArray[np.int64], times: NDArray[np.int64]
) -> tuple[Ragged, torch.Tensor | None]:
    """All clicks by user, the new ones, ordered by user and time, behind the known ones."""
    offsets = bundle.clicks.offsets.numpy()
    owners = np.concatenate([np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), users])
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=len(offsets) - 1)

    def joined(known: torch.Tensor, new: NDArray[np.int64]) -> torch.Tensor:
        values = known.numpy()
        return torch.from_numpy(np.concatenate([values, new.astype(values.dtype)])[order])

    clicks = Ragged(joined(bundle.clicks.values, items), torch.from_numpy(np.append(0, np.cumsum(counts))))
    return clicks, None if bundle.click_ms is None else joined(bundle.click_ms, times)
