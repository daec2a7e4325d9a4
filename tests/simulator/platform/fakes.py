"""Users and models whose every move is known."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.errors import MicrecError
from micrec.settings import merge, validate
from simulator.platform.engine import Engine
from simulator.platform.model_registry import TrainerFactories
from simulator.platform.platform_config import PlatformConfig
from simulator.platform.platform_inputs import CLICKS, PlatformInputs
from simulator.population.responses import NO_CAUSE, Abandonments, DayVisits, Responses
from simulator.ports import Candidates, ObservedLog, Requests

DAY_S = 86_400
START_S = 1_700_000_000


class ScriptedUsers:
    """Visits at given moments of every day, each of ``n_requests``; items divisible by three are clicked."""

    def __init__(
        self, visits: list[tuple[int, float]], *, n_requests: int = 2, busy_s: float = 10.0, patience_s: float = 1e9
    ) -> None:
        self._visits = sorted(visits, key=lambda visit: visit[1])
        self._n_requests, self._busy_s, self._patience_s = n_requests, busy_s, patience_s
        self.served = np.zeros(1 + max((user for user, _ in visits), default=0), np.int64)
        self.seen: list[tuple[int, int, float, list[int]]] = []
        self.satisfaction, self.gone = np.zeros(len(self.served)), np.zeros(len(self.served), bool)

    def begin_day(self, day: int) -> DayVisits:
        user = np.array([user for user, _ in self._visits], np.int64)
        start_s = np.array([day * DAY_S + start_s for _, start_s in self._visits], np.float64)
        ordinal = np.array([list(user[:row]).count(one) for row, one in enumerate(user)], np.int64)
        self._user = user
        return DayVisits(user, start_s, ordinal, (user * 1_000 + day * 10 + ordinal).astype(np.uint64))

    def respond(self, visits: NDArray, slates: NDArray, now_s: NDArray, request: NDArray) -> Responses:
        self.served[self._user[visits]] += 1
        for row in range(len(visits)):
            self.seen.append((int(visits[row]), int(request[row]), float(now_s[row]), slates[row].tolist()))
        clicked = (slates >= 0) & (slates % 3 == 0)
        return Responses(
            examined=slates >= 0,
            clicked=clicked,
            dwell_s=np.where(clicked, 2.0, 0.0).astype(np.float32),
            like=clicked & (slates % 2 == 0),
            follow=np.zeros(slates.shape, bool),
            cause=np.where(clicked, 0, NO_CAUSE).astype(np.uint8),
            busy_s=np.full(len(visits), self._busy_s),
            leave=request + 1 >= self._n_requests,
        )

    def abandon(self, visits: NDArray, now_s: NDArray, request: NDArray) -> Abandonments:
        return Abandonments(np.zeros(len(visits)), np.ones(len(visits), bool))

    def wait_s(self, visits: NDArray, request: NDArray) -> NDArray:
        return np.full(len(visits), self._patience_s)

    def remember(self, visits: NDArray) -> tuple[NDArray, int]:
        return self.served.copy(), len(self.seen)

    def put_back(self, visits: NDArray, remembered: tuple[NDArray, int]) -> None:
        served, seen = remembered
        self.served = served.copy()
        del self.seen[seen:]

    def end_day(self, day: int) -> None:
        """Everybody is as pleased as they have been served; who has been served nine times has had enough."""
        self.satisfaction = self.served.astype(np.float64)
        self.gone = self.served >= 9

    def state(self) -> dict[str, NDArray]:
        return {"served": self.served.copy()}

    def restore(self, state: dict[str, NDArray]) -> None:
        self.served = state["served"].copy()
        self.satisfaction, self.gone = self.served.astype(np.float64), self.served >= 9


class ListTrainer:
    """Offers ``items`` to everybody; a version notes what it was trained on."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.items = list(options.get("items", []))
        self.options = options

    def train(self, log: ObservedLog, *, previous: Path | None, folder: Path, seed: int) -> None:
        if self.options.get("refuses"):
            raise MicrecError("this model cannot be trained.")
        if previous is not None:
            self.load(previous)
        folder.mkdir()
        (folder / "model.txt").write_text(
            f"{len(log.clicks)} {len(log.impressions)} {previous and previous.name} {seed}"
        )

    def load(self, folder: Path) -> "ListTrainer":
        if not (folder / "model.txt").is_file():
            raise MicrecError(f"{folder}: no model.")
        return self

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        batch = len(requests.user_ids)
        items = np.full((batch, k), -1)
        items[:, : len(self.items)] = self.items[:k]
        scores = np.where(items >= 0, -np.arange(k), -np.inf).astype(np.float32)
        return Candidates(items, scores)


class HighestId(ListTrainer):
    """Ranks by the id of the item, highest first."""

    def score(self, requests: Requests, items: NDArray) -> NDArray:
        return np.where(items >= 0, items, -np.inf).astype(np.float32)


MAKERS = TrainerFactories({"list": ListTrainer}, {"ctr": HighestId})


class Spy(ListTrainer):
    """Notes what it is shown."""

    logs: list

    def train(self, log, *, previous, folder, seed):
        self.logs.append((folder.parent.parent.name, folder.name, log, previous, seed))
        super().train(log, previous=previous, folder=folder, seed=seed)


def spying(logs: list) -> TrainerFactories:
    kind = type("SpyHere", (Spy,), {"logs": logs})
    return TrainerFactories({"list": kind}, MAKERS.rankers)


def constant(mean_ms: float) -> dict[str, Any]:
    return {"latency": {"kind": "constant", "mean_ms": mean_ms}}


def fake_setting(users: int = 20, items: int = 40) -> PlatformInputs:
    return PlatformInputs(
        users=pl.DataFrame({"user_id": range(users)}),
        items=pl.DataFrame(
            {
                "item_id": range(items),
                "category": [f"c{item % 4}" for item in range(items)],
                "published": [START_S - 100] * items,
            }
        ),
        history=pl.DataFrame(
            {"user_id": [], "item_id": [], "timestamp": [], "dwell_s": [], "like": [], "follow": []}, schema=CLICKS
        ),
        start_s=START_S,
    )


TINY = {
    "warmup_days": 0,
    "pipeline": {
        "channels": {
            "a": {"kind": "list", "k": 10, "quota": 10, "options": {"items": list(range(10))}, **constant(10)},
            "b": {"kind": "list", "k": 20, "quota": 20, "options": {"items": list(range(5, 25))}, **constant(30)},
        },
        "ranking": constant(20),
        "slate_size": 3,
    },
}


def tiny_keys(**changes: Any) -> PlatformConfig:
    return validate(PlatformConfig, merge(TINY, changes), where="test")


BOTH = {"control": {}, "treatment": {"pipeline": {"channels": {"b": {"options": {"items": [30, 31, 32, 33]}}}}}}


def many() -> ScriptedUsers:
    return ScriptedUsers([(user % 20, 50.0 * user) for user in range(60)], n_requests=3)


def run(
    folder: Path, users: Any, keys: PlatformConfig, days: int = 1, *, makers: TrainerFactories = MAKERS, **kwargs: Any
) -> Engine:
    engine = Engine(keys, kwargs.pop("setting", None) or fake_setting(), users, makers, folder, **kwargs)
    engine.run(days)
    return engine


def table(folder: Path, name: str, day: int | str = "*") -> pl.DataFrame:
    at = f"day-{day:04d}" if isinstance(day, int) else f"day-{day}"
    return pl.read_parquet(
        folder / at / (f"ground_truth/{name}-*.parquet" if name == "ground_truth" else f"{name}-*.parquet")
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path within."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def snapshots_of(folder: Path) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(path) for path in sorted(folder.glob("day-*/snapshots.parquet")))
