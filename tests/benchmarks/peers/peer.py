"""What a peer is given and what it gives back; needs numpy alone, so that it runs in any peer's environment.

``prepare.py`` writes the clicks before the test period, never those in it. A peer trains on the first of them, picks
its epochs by HIT@100 on the rest, is then trained anew on all, and answers for the test users with embeddings or with
lists, which ``score.py`` judges by the project's own evaluator.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, Protocol

STARTED_S = time.time()

import numpy as np  # noqa: E402 - its import belongs to the time from start to end
from numpy.typing import NDArray  # noqa: E402

TOP = 500
VALID_AT = 100


class Clicks(NamedTuple):
    """Clicks in time order, dense ids from 0."""

    users: NDArray[np.int32]  # (n,)
    items: NDArray[np.int32]  # (n,)
    time_ms: NDArray[np.int64]  # (n,)

    def first(self, n: int) -> "Clicks":
        return Clicks(self.users[:n], self.items[:n], self.time_ms[:n])


class Exchange(NamedTuple):
    """The folder that ``prepare.py`` wrote."""

    clicks: Clicks
    user_fields: NDArray[np.int32]  # (U, F) codes, 0 = unknown
    valid_users: NDArray[np.int32]  # (Q,)
    test_users: NDArray[np.int32]  # (Q,)
    meta: dict[str, Any]  # name, n_users, n_items, n_train, n_fit, user_field_sizes

    @classmethod
    def read(cls, folder: Path) -> "Exchange":
        def load(name: str) -> NDArray[Any]:
            return np.load(folder / f"{name}.npy", allow_pickle=False)

        clicks = Clicks(load("users"), load("items"), load("time_ms"))
        meta = json.loads((folder / "meta.json").read_text())
        return cls(clicks, load("user_fields"), load("valid_users"), load("test_users"), meta)


class Answer(NamedTuple):
    """What a peer would show to some users: two embedding matrices, or its lists, best first, -1 as padding."""

    user_emb: NDArray[np.float32] | None = None  # (Q, D)
    item_emb: NDArray[np.float32] | None = None  # (N, D)
    top: NDArray[np.int32] | None = None  # (Q, TOP)

    def first(self, k: int) -> NDArray[np.int32]:
        """The first k items of every user."""
        if self.top is not None:
            return self.top[:, :k]
        assert self.user_emb is not None
        assert self.item_emb is not None
        scores = self.user_emb @ self.item_emb.T
        return np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k].astype(np.int32)

    def save(self, folder: Path) -> None:
        for name, values in self._asdict().items():
            (folder / f"{name}.npy").unlink(missing_ok=True)
            if values is not None:
                np.save(folder / f"{name}.npy", values)


AfterEpoch = Callable[[int], bool]
"""Told how many samples an epoch had, at its end; True = train no further."""


class Peer(Protocol):
    """One model of a peer library, made anew for every fit."""

    epochs: int  # at most
    packages: tuple[str, ...]  # whose versions are reported

    def fit(self, clicks: Clicks, epochs: int, after_epoch: AfterEpoch) -> None: ...

    def answer(self, users: NDArray[np.int32]) -> Answer: ...

    def search_top(self, users: NDArray[np.int32]) -> None:
        """The library's own way to the TOP best items of these users; it is timed."""


MakePeer = Callable[[Exchange, dict[str, Any], int], Peer]
"""From the data, the settings and the seed."""


class Model(NamedTuple):
    """How a model is made, and the settings that validation chooses from."""

    make: MakePeer
    grid: tuple[dict[str, Any], ...] = ({},)


def history_before(clicks: Clicks, length: int) -> NDArray[np.int32]:
    """Items + 1 that the user of each click clicked before it, shape (n, length), newest last, 0 = none."""
    order = np.argsort(clicks.users, kind="stable")
    users, items = clicks.users[order], clicks.items[order] + 1
    first = np.searchsorted(users, users)
    out = np.zeros((len(users), length), dtype=np.int32)
    for back in range(1, length + 1):
        at = np.arange(len(users)) - back
        out[:, length - back] = np.where(at >= first, items[np.maximum(at, 0)], 0)
    rows = np.empty_like(out)
    rows[order] = out
    return rows


def latest_history(clicks: Clicks, users: NDArray[np.int32], length: int) -> NDArray[np.int32]:
    """Items + 1 that each of ``users`` clicked last, shape (Q, length), newest last, 0 = none."""
    order = np.argsort(clicks.users, kind="stable")
    end = np.searchsorted(clicks.users[order], users, side="right")
    begin = np.searchsorted(clicks.users[order], users, side="left")
    at = end[:, None] - np.arange(length, 0, -1)
    return np.where(at >= begin[:, None], clicks.items[order][np.maximum(at, 0)] + 1, 0).astype(np.int32)


class Blocks(NamedTuple):
    """Each user's clicks cut into blocks of ``length`` + 1 that share one click, in order of user and time.

    Every click but a user's first is then a target once, whatever sees one window of a sequence.
    """

    number: NDArray[np.int64]  # (m,) which block, ascending
    items: NDArray[np.int32]  # (m,)
    targets: int  # in all


def blocks(clicks: Clicks, length: int) -> Blocks:
    order = np.argsort(clicks.users, kind="stable")
    users, items = clicks.users[order], clicks.items[order]
    place = np.arange(len(users)) - np.searchsorted(users, users)
    shared = np.flatnonzero((place % length == 0) & (place > 0))  # also the last of the block before
    at = np.concatenate([np.arange(len(users)), shared])
    block = np.concatenate([place // length, place[shared] // length - 1])
    sort = np.lexsort((at, block, users[at]))
    at, block = at[sort], block[sort]
    number = np.cumsum((np.diff(users[at], prepend=-1) != 0) | (np.diff(block, prepend=-1) != 0)) - 1
    sizes = np.bincount(number)
    whole = (sizes > 1)[number]  # a single click has no target
    number = np.unique(number[whole], return_inverse=True)[1]
    return Blocks(number, items[at][whole], int((sizes - 1).sum()))


def hit_share(top: NDArray[np.int32], users: NDArray[np.int32], clicks: Clicks) -> float:
    """Share of the clicks of ``users`` whose item is in the user's list, repeats counted; lists of shape (Q, k)."""
    place = np.full(int(max(users.max(), clicks.users.max())) + 1, -1)
    place[users] = np.arange(len(users))
    mine = place[clicks.users] >= 0
    rows = place[clicks.users[mine]]
    return float((top[rows] == clicks.items[mine][:, None]).any(axis=1).mean())


class Clock:
    """Seconds of training per epoch; what happens between ``stop`` and ``start`` does not count."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self._at = time.perf_counter()

    def stop(self, samples: int) -> None:
        self.epochs.append({"samples": samples, "seconds": time.perf_counter() - self._at})

    def start(self) -> None:
        self._at = time.perf_counter()


def samples_per_s(epochs: list[dict[str, Any]]) -> float:
    """Over all epochs but the first, which warms up; over that one if it is alone."""
    timed = epochs[1:] or epochs
    return sum(epoch["samples"] for epoch in timed) / max(1e-9, sum(epoch["seconds"] for epoch in timed))


def search(model: Model, data: Exchange, seed: int, budget_s: float, patience: int) -> dict[str, Any]:
    """Fit on the train part, look at the validation part after every epoch; the best settings and epochs."""
    n_train = data.meta["n_train"]
    train = data.clicks.first(n_train)
    valid = Clicks(*(part[n_train:] for part in data.clicks))
    tried: list[dict[str, Any]] = []
    for settings in model.grid:
        peer = model.make(data, settings, seed)
        clock, curve = Clock(), []

        def after_epoch(samples: int, peer: Peer = peer, clock: Clock = clock, curve: list[Any] = curve) -> bool:
            clock.stop(samples)
            hit = hit_share(peer.answer(data.valid_users).first(VALID_AT), data.valid_users, valid)
            curve.append(hit)
            print(f"epoch {len(curve)}: {clock.epochs[-1]['seconds']:.2f} s, validation HIT@100 {hit:.4f}", flush=True)
            spent = sum(epoch["seconds"] for epoch in clock.epochs)
            stop = spent > budget_s or len(curve) - 1 - int(np.argmax(curve)) >= patience
            clock.start()
            return stop

        clock.start()
        peer.fit(train, peer.epochs, after_epoch)
        best = int(np.argmax(curve))
        seconds = np.cumsum([epoch["seconds"] for epoch in clock.epochs])
        near = int(np.argmax(np.asarray(curve) >= 0.99 * curve[best]))
        tried.append(
            {
                "settings": settings,
                "epochs": best + 1,
                "hit@100": curve[best],
                "curve": curve,
                "seconds": seconds.tolist(),
                "best_s": float(seconds[best]),
                "near_best_s": float(seconds[near]),  # until 99 % of it
                "stopped_by_budget": bool(len(curve) < peer.epochs and best == len(curve) - 1),
            }
        )
    return {"best": max(tried, key=lambda one: one["hit@100"]), "tried": tried}


def final(model: Model, data: Exchange, settings: dict[str, Any], epochs: int, seed: int, out: Path) -> dict[str, Any]:
    """Fit on all clicks before the test, answer for the test users, time the top lists."""
    peer = model.make(data, settings, seed)
    clock = Clock()

    def after_epoch(samples: int) -> bool:
        clock.stop(samples)
        clock.start()
        return False

    clock.start()
    peer.fit(data.clicks, epochs, after_epoch)
    peer.search_top(data.test_users)
    end_to_end_s = time.time() - STARTED_S
    times = []
    for _ in range(5):
        at = time.perf_counter()
        peer.search_top(data.test_users)
        times.append(time.perf_counter() - at)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    peer.answer(data.test_users).save(out)
    return {
        "load": os.getloadavg()[0],
        "epochs": clock.epochs,
        "samples_per_s": samples_per_s(clock.epochs),
        "train_s": sum(epoch["seconds"] for epoch in clock.epochs),
        "end_to_end_s": end_to_end_s,
        "peak_rss_mb": peak,
        "users_per_s": len(data.test_users) / sorted(times)[2],
        "versions": {name: metadata.version(name) for name in peer.packages},
    }


def speed(model: Model, data: Exchange, settings: dict[str, Any], epochs: int, seed: int) -> dict[str, Any]:
    """A few epochs on all clicks before the test, for samples/s alone."""
    peer, clock = model.make(data, settings, seed), Clock()

    def after_epoch(samples: int) -> bool:
        clock.stop(samples)
        clock.start()
        return False

    clock.start()
    cpu_s = time.process_time()
    peer.fit(data.clicks, epochs, after_epoch)
    return {
        "load": os.getloadavg()[0],
        "samples_per_s": samples_per_s(clock.epochs),
        "epochs": clock.epochs,
        "cpu_s_per_sample": (time.process_time() - cpu_s) / sum(epoch["samples"] for epoch in clock.epochs),
    }


def main(models: dict[str, Model]) -> None:
    """The command line of every ``run_*.py``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=models)
    parser.add_argument("phase", choices=("search", "final", "speed"))
    parser.add_argument("--exchange", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of this model's answers and figures")
    parser.add_argument("--settings", type=json.loads, help="JSON; the first of the grid if left out")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--budget-s", type=float, default=120.0, help="a search trains no longer than this")
    parser.add_argument("--patience", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model, data = models[options.model], Exchange.read(options.exchange)
    settings = model.grid[0] if options.settings is None else options.settings
    options.out.mkdir(parents=True, exist_ok=True)
    if options.phase == "search":
        found = search(model, data, options.seed, options.budget_s, options.patience)
    elif options.phase == "final":
        found = final(model, data, settings, options.epochs, options.seed, options.out)
    else:
        found = speed(model, data, settings, options.epochs, options.seed)
    path = options.out / f"{options.phase}.json"
    path.with_suffix(".part").write_text(json.dumps(found, indent=1))
    path.with_suffix(".part").replace(path)


def threads() -> int:
    """Threads that ``peers.py`` grants."""
    return int(os.environ.get("OMP_NUM_THREADS", "2"))
