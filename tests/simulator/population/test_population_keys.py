"""Every key of a population moves its own statistic, in the direction its description says."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from simulator.world.clicks import Cause
from tests.simulator.population.driving import Show, anything, distinct, from_pool, live, population

WORLD = ("users.count=4000",)
LINKED = (*WORLD, "links.strength=1", "links.density=1")
BUSY = ("users.count=2000", "sessions.per_user=20")


class Effect(NamedTuple):
    low: str
    high: str
    rises: Callable[[Population], float]
    others: tuple[str, ...] = ()
    world: tuple[str, ...] = WORLD


def traits(of: Population, log: pl.DataFrame) -> pl.DataFrame:
    """Impressions with the hidden traits of their items."""
    catalogue = of._world.catalogue
    items = pl.DataFrame(
        {
            "item": np.arange(len(catalogue)),
            "appeal": np.log(catalogue.appeal),
            "group": catalogue.group.astype(np.int64),
            "subcategory": catalogue.subcategory.astype(np.int64),
            "clickbait": catalogue.clickbait,
            "published_s": catalogue.published_s,
        }
    )
    return log.join(items, on="item", how="left", maintain_order="left")


def odds_ratio(log: pl.DataFrame, special: pl.Expr) -> float:
    """Log odds of a click on what is special and looked at, above those of the rest."""
    rate = log.filter("examined").group_by(special.alias("special")).agg(pl.col("clicked").mean()).sort("special")
    (plain, marked) = rate["clicked"].to_numpy()
    return float(np.log(marked / (1 - marked)) - np.log(plain / (1 - plain)))


def click_rate(of: Population) -> float:
    return float(live(of, 2)["clicked"].mean())


def looks(of: Population) -> float:
    return float(live(of, 2)["examined"].mean())


def first_place(of: Population) -> float:
    return odds_ratio(live(of, 3).with_columns(examined=True), pl.col("place") == 0)


def next_look_after(clicked: bool) -> Callable[[Population], float]:
    def statistic(of: Population) -> float:
        log = live(of, 3).with_columns(next=pl.col("examined").shift(-1)).filter(pl.col("place") < 9, "examined")
        return float(log.filter(pl.col("clicked") == clicked)["next"].mean())

    return statistic


def several_clicks(of: Population) -> float:
    clicks = live(of, 4).group_by("day", "visit", "request").agg(pl.col("clicked").sum())["clicked"]
    return float((clicks >= 2).sum() / (clicks >= 1).sum())


def interest(of: Population) -> float:
    log = traits(of, live(of, 3))
    now = of._traits.interests_at(log["user"].to_numpy(), log["now_s"].to_numpy())
    return odds_ratio(log.with_columns(mine=(now == log["subcategory"].to_numpy()).any(axis=0)), pl.col("mine"))


def appeal(of: Population) -> float:
    log = traits(of, live(of, 3))
    return odds_ratio(log, pl.col("appeal") > log["appeal"].median())


def newness(of: Population) -> float:
    log = traits(of, live(of, 4)).filter(pl.col("day") > 0)
    return odds_ratio(log, pl.col("now_s") - pl.col("published_s") < 30_000)


def same_group(of: Population) -> float:
    log = traits(of, live(of, 4, from_pool(np.arange(60))))
    latest = log.filter("clicked").group_by("day", "visit", "request").agg(pl.col("group").last().alias("source"))
    after = log.join(latest.with_columns(pl.col("request") + 1), on=["day", "visit", "request"])
    return odds_ratio(after, pl.col("group") == pl.col("source"))


def staples(of: Population) -> float:
    log = live(of, 4)
    rows, now_s = log["user"].to_numpy(), log["now_s"].to_numpy()
    mine = of._traits.staples(rows, of._traits.interests_at(rows, now_s))
    return odds_ratio(log.with_columns(staple=(mine == log["item"].to_numpy()).any(axis=0)), pl.col("staple"))


def clicks_by_links(of: Population) -> float:
    return float((live(of, 3)["cause"] == int(Cause.LINK)).sum())


def first_clicks_by_links(of: Population) -> float:
    return float((live(of, 4).filter(pl.col("request") == 0)["cause"] == int(Cause.LINK)).sum())


def lying_titles(of: Population) -> float:
    return odds_ratio(traits(of, live(of, 3)), pl.col("clickbait"))


def one_slate(of: Population, visits, rows, now_s, request) -> np.ndarray:  # type: ignore[no-untyped-def]
    """The same slate throughout a visit."""
    return distinct(np.arange(300), visits.key[rows], 0)


def over_again(of: Population) -> float:
    """How readily users click what they clicked at the request before."""
    log = live(of, 3, one_slate)
    before = log.select("day", "visit", "item", pl.col("request") + 1, pl.col("clicked").alias("before"))
    return odds_ratio(log.join(before, on=["day", "visit", "item", "request"]), pl.col("before"))


def perseverance(show: Show = anything) -> Callable[[Population], float]:
    return lambda of: odds_ratio(live(of, 3, show), pl.col("request") >= 2)


def narrow(of: Population, visits, rows, now_s, request) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Items of one subcategory."""
    pool = np.flatnonzero((of._world.catalogue.subcategory == 0) & (of._world.catalogue.published_s < 0))
    return distinct(pool, visits.key[rows], request)


def good_items_please(of: Population) -> float:
    """Satisfaction where the best items are shown above that where the worst are."""
    quality = of._world.quality
    ranked = np.argsort(quality + np.where(of._world.catalogue.published_s < 0, 0.0, 100.0))
    ranked = ranked[: int((of._world.catalogue.published_s < 0).sum())]
    start = of.state()
    daily_user_state = []
    for pool in (ranked[:100], ranked[-100:]):
        of.restore(start)
        live(of, 1, from_pool(pool))
        daily_user_state.append(of.satisfaction.sum())
    return float(daily_user_state[1] - daily_user_state[0])


def pleases(column: str) -> Callable[[Population], float]:
    """Correlation over first visits of satisfaction with the sum of a column, given the number of clicks."""

    def statistic(of: Population) -> float:
        log = live(of, 1).filter("clicked").with_columns(dwell_s=pl.col("dwell_s").log())
        users = log.group_by("user").agg(pl.len(), pl.col(column).mean()).filter(pl.col("len") == 1)
        return float(np.corrcoef(of.satisfaction[users["user"].to_numpy()], users[column].to_numpy())[0, 1])

    return statistic


def lies_displease(of: Population) -> float:
    live(of, 1, from_pool(np.flatnonzero(of._world.catalogue.clickbait & (of._world.catalogue.published_s < 0))))
    return -float(of.satisfaction.sum())


def outages_displease(of: Population) -> float:
    visits = of.begin_day(0)
    of.abandon(np.arange(len(visits.user)), visits.start_s, np.zeros(len(visits.user), int))
    of.end_day(0)
    return -float(of.satisfaction.sum())


def moved(of: Population) -> float:
    live(of, 1)
    return float(of.satisfaction.std())


def requests(of: Population) -> float:
    log = live(of, 3)
    return len(log) / 10 / log.select("day", "visit").n_unique()


def fewer_requests(of: Population) -> float:
    return -requests(of)


def fewer_requests_tomorrow(of: Population) -> float:
    live(of, 3)
    log = live(of, range(3, 5))
    return -len(log) / 10 / log.select("day", "visit").n_unique()


def the_pleased_stay(of: Population) -> float:
    slates = live(of, 3).group_by("day", "visit", "request").agg(pl.col("clicked").sum(), pl.col("leave").first())
    many, none = slates.filter(pl.col("clicked") >= 3)["leave"], slates.filter(pl.col("clicked") == 0)["leave"]
    return float(none.mean() - many.mean())


def the_pleased_return(of: Population) -> float:
    of.satisfaction[:] = 1.0
    return float(len(of.begin_day(0).user))


def the_displeased_go(of: Population) -> float:
    of.satisfaction[:] = -1.0
    of.begin_day(0)
    of.end_day(0)
    return float(of.gone.sum())


def differing_users(of: Population) -> float:
    """Covariance of the clicks of the same user on neighbouring days, per look."""
    log = live(of, 6).with_columns(above=pl.col("clicked") - pl.col("clicked").sum() / pl.col("examined").sum())
    days = log.filter("examined").group_by("user", "day").agg(pl.col("above").sum(), pl.len())
    pairs = days.join(days.with_columns(pl.col("day") + 1), on=["user", "day"])
    return float((pairs["above"] * pairs["above_right"]).sum() / (pairs["len"] * pairs["len_right"]).sum())


def back_after(of: Population, gap: int) -> float:
    there = []
    for day in range(12):
        there.append(np.bincount(of.begin_day(day).user, minlength=len(of.gone)) > 0)
        of.end_day(day)
    return float(np.mean([before & after for before, after in zip(there[:-gap], there[gap:], strict=True)]))


def back_tomorrow(of: Population) -> float:
    return back_after(of, 1)


def back_later(of: Population) -> float:
    """After four days, beside after one."""
    start = of.state()
    tomorrow = back_after(of, 1)
    of.restore(start)
    return back_after(of, 4) / tomorrow


def unanswered(column: str, sign: float = 1.0) -> Callable[[Population], float]:
    def statistic(of: Population) -> float:
        visits = of.begin_day(0)
        rows = np.arange(len(visits.user))
        done = of.abandon(rows, visits.start_s, 0 * rows)
        return float(sign * getattr(done, column)[~done.leave if column == "busy_s" else slice(None)].mean())

    return statistic


def waiting(of: Population) -> float:
    rows = np.arange(len(of.begin_day(0).user))
    return float(np.median(of.wait_s(rows, 0 * rows)))


CASCADE = ("examination.kind=cascade", "click_rate=0.1")
LONG = ("lifecycle.requests=8", "lifecycle.stay_fatigue=0", "click_rate=0.15")
EFFECTS = {
    "click_rate": Effect("0.08", "0.2", click_rate),
    "slate_size": Effect("5", "20", click_rate, ("click_rate=0.1",)),
    "examination.kind": Effect("position", "choice", looks),
    "examination.decay": Effect("0.2", "1.2", first_place, ("click_rate=0.1",)),
    "examination.after_click": Effect("0.3", "0.9", next_look_after(True), CASCADE),
    "examination.after_skip": Effect("0.7", "0.98", next_look_after(False), CASCADE),
    "examination.again": Effect("0.2", "0.9", several_clicks, ("examination.kind=choice", "click_rate=0.08")),
    "utility.variant": Effect("popularity", "taste", interest),
    "utility.taste": Effect("1", "4", interest),
    "utility.popularity": Effect("0", "1", appeal),
    "utility.freshness": Effect("0", "2", newness, world=(*WORLD, "items.evergreen_share=1", "items.new_share=0.6")),
    "utility.similarity": Effect("0", "2", same_group, LONG),
    "utility.staple": Effect("0", "2", staples),
    "utility.link": Effect("1", "8", clicks_by_links, world=LINKED),
    "utility.link_fading": Effect("0", "1", clicks_by_links, LONG, LINKED),
    "utility.link_memory_h": Effect("0.1", "1000", first_clicks_by_links, world=(*LINKED, "sessions.per_user=10")),
    "utility.clickbait": Effect("0", "2", lying_titles),
    "utility.clicked": Effect("-4", "0", over_again),
    "utility.satiation": Effect("-1", "0", perseverance(narrow), LONG),
    "utility.click_propensity_sd": Effect("0", "1.2", differing_users),
    "utility.weariness": Effect("-0.1", "0", perseverance(), LONG),
    "satisfaction.quality": Effect("0", "2", good_items_please),
    "satisfaction.dwell": Effect("0", "2", pleases("dwell_s")),
    "satisfaction.like": Effect("0", "4", pleases("like")),
    "satisfaction.clickbait": Effect("0", "2", lies_displease),
    "satisfaction.outage": Effect("0.2", "2", outages_displease),
    "satisfaction.visit_weight": Effect("0.05", "0.5", moved),
    "lifecycle.requests": Effect("2", "6", requests),
    "lifecycle.stay_satisfaction": Effect("0", "1", the_pleased_stay),
    "lifecycle.stay_fatigue": Effect("0", "0.1", fewer_requests),
    "lifecycle.rest_h": Effect("0.5", "200", fewer_requests_tomorrow, ("lifecycle.stay_fatigue=0.05",), BUSY),
    "lifecycle.return_satisfaction": Effect("0", "0.6", the_pleased_return),
    "lifecycle.habit": Effect("0", "0.8", back_tomorrow),
    "lifecycle.habit_days": Effect("0.3", "5", back_later, ("lifecycle.habit=0.6",)),
    "lifecycle.churn_satisfaction": Effect("0", "1.5", the_displeased_go),
    "lifecycle.retry": Effect("0.2", "0.8", unanswered("leave", -1.0)),
    "lifecycle.retry_s": Effect("2", "20", unanswered("busy_s")),
    "lifecycle.wait_s": Effect("2", "20", waiting),
}


@pytest.mark.parametrize("key", list(EFFECTS))
def test_key_moves_its_statistic(key):
    effect = EFFECTS[key]
    low, high = (
        effect.rises(population(*effect.others, f"{key}={value}", world=effect.world))
        for value in (effect.low, effect.high)
    )
    assert high > low + 0.05 * max(abs(low), abs(high)), (low, high)


def all_keys(model: type = PopulationConfig, prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        nested = isinstance(inner, type) and hasattr(inner, "model_fields")
        found += all_keys(inner, f"{prefix}{name}.") if nested else [prefix + name]
        assert field.description
    return found


def test_every_key_has_its_effect():
    assert sorted([*EFFECTS, "seed"]) == sorted(all_keys())  # the seed moves everything: test_population.py


def test_unknown_keys_are_refused():
    with pytest.raises(Exception, match="did you mean"):
        population("utility.tast=1")
