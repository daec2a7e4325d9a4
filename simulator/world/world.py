"""A world ready to be lived in: its catalogue and its constants, from which the history of any users follows."""

import dataclasses
import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.errors import MicrecError
from simulator.draws import mixed, to_uniform
from simulator.world.behaviour import BehaviourModel
from simulator.world.catalogue import Catalogue
from simulator.world.clicks import ClickDraws, ClickList, Sessions, build_shelf
from simulator.world.item_sampler import WeightedItemSampler
from simulator.world.items import make_catalogue
from simulator.world.taste import TasteShelf
from simulator.world.users import Habits, UserDraws, user_frame
from simulator.world.visits import OPENS_H, VisitDraws, calibrate_rate, pilot_users
from simulator.world.world_config import WorldConfig

SESSION_S = 3_590.0  # a session's clicks start within this time
_PILOT_CLICKS = 200_000
_BROWSE = np.asarray(19)


T = TypeVar("T")


class Shard(NamedTuple):
    """What a range of users did."""

    users: pl.DataFrame  # user_id and fields, of users who come within the log
    clicks: pl.DataFrame  # user_id, item_id, timestamp, dwell_s, like, follow; by user and time
    ground_truth_users: pl.DataFrame  # hidden traits, row by row with users
    causes: pl.DataFrame  # cause (see Cause), row by row with clicks


@dataclass(frozen=True)
class World:
    """The same world for every process: :meth:`history` of disjoint ranges of users makes up the log.

    Attributes:
        config: Every key.
        catalogue: Items published within the log or the window, whichever is longer.
        shelf: Where items are drawn from.
        quality: Quality of each item as clicks meet it, shape (N,): standard normal over clicks, not items.
        rate: Visits a day of a user of activity 1.
    """

    config: WorldConfig
    catalogue: Catalogue
    shelf: WeightedItemSampler
    quality: NDArray[np.float64]
    rate: float

    @classmethod
    def build(cls, config: WorldConfig) -> Self:
        """Make the catalogue and calibrate the constants.

        Raises:
            MicrecError: If the keys contradict each other, such as more visits than a window has room for.
        """
        days = max(config.days, config.window_days)  # what is calibrated must not depend on the length of the log
        try:
            catalogue = make_catalogue(config.model_copy(update={"days": days}))
            if not (catalogue.published_s < 0).any():
                raise ValueError("items.new_share: leaves no item at the start of the log: lower it")
            shelf = _of("items.half_life_h", lambda: build_shelf(config, catalogue, days))
            _of("behaviour", lambda: BehaviourModel(config.behaviour))
            draft = cls(config, catalogue, shelf, np.zeros(len(catalogue)), calibrate_rate(config))
        except ValueError as fault:
            raise MicrecError(f"{config.name}: {fault}.") from None
        return dataclasses.replace(draft, quality=draft._quality_over_clicks())

    def history(self, first_user: int, last_user: int) -> Shard:
        """What users ``first_user`` … ``last_user - 1`` did in the whole log.

        Any split into ranges gives the same rows.
        """
        config = self.config
        users = np.arange(first_user, last_user)
        draws = UserDraws(config)
        habits = draws.habits(users)
        sessions, clicks = self._clicks(users, draws, habits, config.days)
        row = sessions.visits.row[clicks.session]
        behaviours = BehaviourModel(config.behaviour).draw(
            clicks.bits, habits.dwell[row], habits.like[row], self.quality[clicks.item]
        )
        seen = np.unique(sessions.visits.row)
        return Shard(
            users=user_frame(config, users[seen], draws),
            clicks=pl.DataFrame(
                {
                    "user_id": users[row],
                    "item_id": clicks.item,
                    "timestamp": self._timestamps(sessions, clicks, behaviours.dwell_s),
                    "dwell_s": behaviours.dwell_s.astype(np.float32),
                    "like": behaviours.like,
                    "follow": behaviours.follow,
                }
            ),
            ground_truth_users=self._truth(users, seen, draws, habits),
            causes=pl.DataFrame({"cause": clicks.cause}),
        )

    @property
    def start_s(self) -> int:
        """Start of the log, seconds since 1970-01-01 UTC: four in the morning of the first day."""
        midnight = datetime.datetime.combine(self.config.start, datetime.time(), datetime.UTC)
        return int(midnight.timestamp()) + OPENS_H * 3_600

    def save(self, folder: Path) -> None:
        """Write the arrays to an existing folder, for :meth:`load` in other processes."""
        (folder / "world.json").write_text(
            json.dumps(
                {"config": self.config.model_dump(mode="json"), "rate": self.rate, "bucket_s": self.shelf.bucket_s}
            ),
            encoding="utf-8",
        )
        for name, values in _arrays(self).items():
            np.save(folder / f"{name}.npy", values)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The world that was saved, its arrays mapped, not read: processes share them."""

        def mapped(name: str) -> NDArray:
            return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))

        head = json.loads((folder / "world.json").read_text(encoding="utf-8"))

        def part(kind: type, prefix: str) -> dict[str, NDArray]:
            return {
                field.name: mapped(f"{prefix}.{field.name}")
                for field in dataclasses.fields(kind)
                if field.name != "bucket_s"
            }

        return cls(
            config=WorldConfig.model_validate_json(json.dumps(head["config"])),
            catalogue=Catalogue(**part(Catalogue, "catalogue")),
            shelf=WeightedItemSampler(**part(WeightedItemSampler, "shelf"), bucket_s=head["bucket_s"]),
            quality=mapped("quality"),
            rate=head["rate"],
        )

    def _clicks(
        self, users: NDArray[np.int64], draws: UserDraws, habits: Habits, days: int
    ) -> tuple[Sessions, ClickList]:
        visit_draws = VisitDraws(self.config, self.rate)
        visits = visit_draws.draw(users, visit_draws.activity(users), days)
        click_draws = ClickDraws(self.config, self.catalogue, self.shelf, draws)
        sessions = click_draws.sessions(users, visits, habits, days)
        return sessions, click_draws.draw(users, sessions, habits)

    def _timestamps(self, sessions: Sessions, clicks: ClickList, dwell_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """When each click happens: after the dwell on the one before and some browsing.

        A session that would last more than an hour is squeezed into it, as if items were opened side by side.
        """
        browse_s = -self.config.sessions.browse_s * np.log(to_uniform(mixed(clicks.bits, _BROWSE)))
        gap_us = np.rint(1e6 * (dwell_s + browse_s)).astype(np.int64)  # whole numbers: sums do not depend on the range
        length = np.bincount(clicks.session, minlength=len(sessions.length))
        end = np.cumsum(length)
        begin = end - length
        total = np.append(0, np.cumsum(gap_us))
        elapsed_s = 1e-6 * (total[:-1] - np.repeat(total[begin], length))
        last_s = 1e-6 * (total[np.maximum(end - 1, 0)] - total[begin])
        squeeze = np.minimum(1.0, SESSION_S / np.maximum(last_s, 1e-6))
        start = np.repeat(self.start_s + sessions.visits.start_s, length)
        return np.floor(start + elapsed_s * np.repeat(squeeze, length)).astype(np.int64)

    def _quality_over_clicks(self) -> NDArray[np.float64]:
        """Quality by its rank among clicks: the clicks of a pilot are spread as those of the log."""
        from scipy.special import ndtri

        config = self.config
        users = pilot_users(int(np.ceil(_PILOT_CLICKS / (config.sessions.per_user * config.sessions.clicks))))
        draws = UserDraws(config)
        _, clicks = self._clicks(users, draws, draws.habits(users), config.window_days)
        counts = np.bincount(clicks.item, minlength=len(self.catalogue)).astype(np.float64)
        met = np.flatnonzero(counts)
        met = met[np.argsort(self.catalogue.quality[met], kind="stable")]
        quantile = (np.cumsum(counts[met]) - 0.5 * counts[met]) / counts.sum()
        share = np.interp(self.catalogue.quality, self.catalogue.quality[met], quantile)
        quality: NDArray[np.float64] = ndtri(np.clip(share, 1e-6, 1.0 - 1e-6))
        return quality

    def _truth(
        self, users: NDArray[np.int64], seen: NDArray[np.int64], draws: UserDraws, habits: Habits
    ) -> pl.DataFrame:
        visit_draws = VisitDraws(self.config, self.rate)
        interests = draws.interests(users[seen], 1)
        topics = draws.topics(users[seen], interests)[:, 0]
        interests = interests[:, 0]
        now_s = np.zeros(len(interests))
        own = TasteShelf(self.config, self.shelf).favourites(draws, users[seen], topics.T, now_s)
        categories = interests // np.int32(self.config.items.subcategories)
        return pl.DataFrame(
            {
                "user_id": users[seen],
                "activity": visit_draws.activity(users[seen]),
                **{field.name: getattr(habits, field.name)[seen] for field in dataclasses.fields(habits)},
                "interests": pl.Series(interests).cast(pl.List(pl.Int32)),
                "interest_categories": pl.Series(categories).cast(pl.List(pl.Int32)),
                "interest_topics": pl.Series(topics).cast(pl.List(pl.Int32)),
                **({"interest_items": _nested(own)} if own.size else {}),
            }
        )


def _nested(items: NDArray[np.int32]) -> pl.Series:
    """Items of each user's interests, a list of a list per user, of items (S, F, B)."""
    whole = pl.Series(np.ascontiguousarray(items.transpose(2, 0, 1)))
    return whole.cast(pl.List(pl.List(pl.Int32)))


def _of(key: str, make: Callable[[], T]) -> T:
    """What ``make`` makes; its complaint names the key."""
    try:
        return make()
    except ValueError as fault:
        raise ValueError(f"{key}: {fault}") from None


def _arrays(world: World) -> dict[str, NDArray]:
    arrays = {"quality": world.quality}
    for prefix, part in (("catalogue", world.catalogue), ("shelf", world.shelf)):
        for field in dataclasses.fields(part):
            if field.name != "bucket_s":
                arrays[f"{prefix}.{field.name}"] = getattr(part, field.name)
    return arrays
