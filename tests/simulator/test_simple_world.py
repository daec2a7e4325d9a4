"""The simple world: its laws, its planted truth, and the effect of every key."""

import dataclasses
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.sparse
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from micrec.data.store import read_dataset
from micrec.errors import MicrecError
from simulator.cli import app
from simulator.world.simple import SimpleTables, SimpleWorld, draw_simple_world, load_simple_world, make_simple_world
from simulator.world.simple_sampler import GroupSampler

START_S = 1_704_067_200
SLOT_S, HOUR_S, DAY_S = 7_200, 3_600, 86_400
SMALL = {"users": 300, "items": 400, "days": 7, "tags": 40, "sessions_per_user": 6.0, "activity_sd": 0.6}
PRESET = Path(__file__).parents[2] / "scenarios" / "worlds" / "simple.yaml"


@lru_cache(maxsize=8)
def default_world() -> SimpleTables:
    return draw_simple_world(SimpleWorld())


def small_world(**keys: object) -> SimpleTables:
    return draw_simple_world(SimpleWorld.model_validate({**SMALL, **keys}))


def clicks_with_truth(world: SimpleTables) -> pl.DataFrame:
    """Clicks in order of user and time, with the slot that names the session and the traits of the item."""
    item_truth = world.items.select("item_id", "category", "published").join(world.oracle["items"], on="item_id")
    slot = ((pl.col("timestamp") - START_S) // SLOT_S).alias("slot")
    ordered = world.clicks.sort("user_id", "timestamp", maintain_order=True).with_columns(slot)
    return ordered.join(item_truth, on="item_id", maintain_order="left")


def steps(world: SimpleTables) -> pl.DataFrame:
    """Consecutive clicks of one session: the traits of the former as ``previous_*``."""
    same = (pl.col("user_id") == pl.col("user_id").shift()) & (pl.col("slot") == pl.col("slot").shift())
    columns = [pl.col(name).shift().alias(f"previous_{name}") for name in ("item_id", "taste_tag", "link_group")]
    return clicks_with_truth(world).with_columns(*columns).filter(same)


def partner_groups(world: SimpleTables) -> pl.DataFrame:
    return world.oracle["links"].select("source_group", "target_group").unique()


# Laws of the log


@pytest.mark.parametrize("keys", [{}, {"clicks_per_session": 20.0, "dwell_log_mean": 6.0, "dwell_log_sd": 0.5}])
def test_paper_sessions_are_the_planted_ones(keys: dict[str, float]) -> None:
    """The paper's one-hour window, as a loop over clicks, finds one session per two-hour slot; long ones are cut."""
    clicks = clicks_with_truth(small_world(**keys))
    found, opened, last_user = 0, 0, -1
    for user, timestamp in clicks.select("user_id", "timestamp").iter_rows():
        if user != last_user or timestamp - opened > HOUR_S:
            found, opened, last_user = found + 1, timestamp, user
    assert found == clicks.select("user_id", "slot").n_unique()
    assert clicks["dwell_s"].min() >= 0
    per_session = clicks.group_by("user_id", "slot").agg(
        first=pl.col("timestamp").min(), end=(pl.col("timestamp") + pl.col("dwell_s")).max()
    )
    longest_s = (per_session["end"] - per_session["first"]).max()
    assert longest_s <= HOUR_S + 0.1
    if keys:  # a session of 20 clicks would take over two hours
        assert longest_s > HOUR_S - 2
        assert len(clicks) / found < 10


def test_times_rise_within_a_session() -> None:
    ordered = small_world().clicks.sort("user_id", "timestamp")
    assert ordered.select("user_id", "timestamp").is_duplicated().sum() == 0


def test_a_user_clicks_an_item_once() -> None:
    clicks = small_world(sessions_per_user=60.0).clicks
    assert clicks.select("user_id", "item_id").is_duplicated().sum() == 0


def test_every_click_is_on_a_published_item() -> None:
    clicks = clicks_with_truth(small_world(new_items=0.9))
    assert clicks.filter(pl.col("published") > pl.col("timestamp")).is_empty()


def test_a_user_who_has_seen_the_catalogue_stops_clicking() -> None:
    """Three items, many sessions: nobody can click more than three times."""
    world = draw_simple_world(
        SimpleWorld(users=20, items=3, categories=2, subcategories=1, tags=2, sessions_per_user=200.0, new_items=0.0)
    )
    assert world.clicks.group_by("user_id").len()["len"].to_list() == [3] * 20


def test_default_world_has_the_promised_size_and_calibrated_rates() -> None:
    """Dwell, like and follow as in KuaiRand: mu 3.30, sd 1.07, .032 and .0026 per click."""
    clicks = default_world().clicks
    n = len(clicks)
    assert 100_000 < n < 150_000
    log_dwell = clicks["dwell_s"].log().to_numpy()
    assert log_dwell.mean() == pytest.approx(3.30, abs=0.05)
    assert log_dwell.std() == pytest.approx(1.07, abs=0.03)
    assert clicks["like"].mean() == pytest.approx(0.032, abs=4 * np.sqrt(0.032 / n))
    assert clicks["follow"].mean() == pytest.approx(0.0026, abs=4 * np.sqrt(0.0026 / n))
    liked_if_followed = clicks.filter("follow")["like"].mean()
    assert liked_if_followed == pytest.approx(0.45, abs=4 * np.sqrt(0.25 / (0.0026 * n)))


def test_nights_are_quiet() -> None:
    """Sessions by slot: the peak is from 20 to 22 h, the low from 4 to 6 h, 13 times lower (Globo)."""
    sessions = clicks_with_truth(default_world()).unique(["user_id", "slot"])
    counts = np.bincount(sessions["slot"].to_numpy() % 12, minlength=12)
    assert counts.argmin() == 2
    assert counts.argmax() == 10
    assert 1 / 13 < counts.min() / counts.max() < 1.6 / 13  # slots of busy users hold several arrivals at the peak


def test_likes_keep_their_rate_and_rise_with_dwell() -> None:
    """Weakly, as in KuaiRand: .022 to .083 over the whole range of watch ratios."""
    clicks = draw_simple_world(SimpleWorld(users=1500, like_rate=0.2)).clicks
    assert clicks["like"].mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / len(clicks)))
    by_dwell = clicks.sort("dwell_s")["like"].to_numpy()
    third = len(clicks) // 3
    assert 1.5 < by_dwell[-third:].mean() / by_dwell[:third].mean() < 4


def test_items_appear_every_day() -> None:
    items = small_world(new_items=0.5).items
    day = (items["published"].to_numpy() - START_S) // DAY_S
    assert np.mean(day < 0) == 0.5
    assert (np.bincount(day[day >= 0], minlength=7) > 15).all()  # 200 items in 7 days


# Planted links


def test_links_join_whole_groups_of_different_categories() -> None:
    world = default_world()
    members = world.oracle["items"].group_by("link_group").agg(pl.col("item_id"))
    groups = dict(members.iter_rows())
    expected = sorted(
        (source, target)
        for source_group, target_group in partner_groups(world).iter_rows()
        for source in groups[source_group]
        for target in groups[target_group]
    )
    links = world.oracle["links"]
    assert links.select("source_item_id", "target_item_id").rows() == expected
    category = world.items["category"].to_numpy()
    source, target = links["source_item_id"].to_numpy(), links["target_item_id"].to_numpy()
    assert (category[source] != category[target]).all()
    assert max(len(items) for items in groups.values()) == 10
    assert len(partner_groups(world)) == round(0.5 * len(groups))


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.8])
def test_links_are_followed_as_often_as_their_strength(strength: float) -> None:
    """Many items and few clicks per user, so that hardly anyone runs out of partners; chance is about 0.1 %."""
    world = draw_simple_world(
        SimpleWorld(
            users=1500, items=6000, group_size=40, popularity_exponent=0.0, activity_sd=0.3, link_strength=strength
        )
    )
    linked = steps(world).join(partner_groups(world), left_on="previous_link_group", right_on="source_group")
    followed = (linked["link_group"] == linked["target_group"]).mean()
    assert followed == pytest.approx(strength, abs=0.005 + 4 * np.sqrt(0.25 / len(linked)))


def test_links_act_within_a_session_only() -> None:
    """At strength 1 the first click of a session owes nothing to the last click of the session before."""
    world = draw_simple_world(SimpleWorld(users=1500, items=6000, group_size=40, link_strength=1.0))
    before = (pl.col("link_group", "user_id", "slot")).shift().name.prefix("previous_")
    openers = (
        clicks_with_truth(world)
        .with_columns(before)
        .filter(pl.col("user_id") == pl.col("previous_user_id"), pl.col("slot") != pl.col("previous_slot"))
    )
    linked = openers.join(partner_groups(world), left_on="previous_link_group", right_on="source_group")
    assert (linked["link_group"] == linked["target_group"]).mean() < 0.15  # a user's tastes lead to the same links


def test_strength_moves_the_choices_alone() -> None:
    """Worlds of different strength share users, items, titles, sessions and the links themselves."""
    off, on = small_world(link_strength=0.0), small_world(link_strength=0.8)
    assert off.users.equals(on.users)
    assert off.items.equals(on.items)
    assert all(off.oracle[name].equals(on.oracle[name]) for name in ("links", "items", "users"))
    first = [world.clicks.group_by("user_id").agg(pl.col("timestamp").min()).sort("user_id") for world in (off, on)]
    assert first[0].equals(first[1])
    assert not off.clicks["item_id"].equals(on.clicks["item_id"])


def tag_matrix(world: SimpleTables) -> np.ndarray:
    """Unit rows (N, T)."""
    return unit_rows(world.items.select("item_id", token="tags").explode("token", empty_as_null=True))


def word_matrix(world: SimpleTables) -> np.ndarray:
    """Unit TF-IDF rows (N, words)."""
    words = world.items.select("item_id", token=pl.col("title").str.split(" "))
    return unit_rows(words.explode("token", empty_as_null=True))


def unit_rows(tokens: pl.DataFrame) -> np.ndarray:
    _, code = np.unique(tokens["token"].to_numpy(), return_inverse=True)
    matrix = np.zeros((tokens["item_id"].max() + 1, code.max() + 1))
    np.add.at(matrix, (tokens["item_id"].to_numpy(), code), 1.0)
    matrix *= np.log(len(matrix) / (matrix > 0).sum(axis=0))
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("features", [tag_matrix, word_matrix])
def test_linked_items_look_no_more_alike_than_chance(features, seed: int) -> None:
    """Among 400 random rewirings to groups of other categories, the planted one is not extreme."""
    world = draw_simple_world(SimpleWorld(seed=seed, users=1))
    vectors, group = features(world), world.oracle["items"]["link_group"].to_numpy()
    n_groups = group.max() + 1
    centroids = np.stack([vectors[group == g].mean(axis=0) for g in range(n_groups)])
    similarity = centroids @ centroids.T  # mean similarity of the items of two groups
    category = np.array([world.items["category"][int(np.argmax(group == g))] for g in range(n_groups)])
    source, target = partner_groups(world).to_numpy().T
    rng = np.random.default_rng(seed)
    rewired = []
    for _ in range(400):
        other = np.array([rng.choice(np.flatnonzero(category != category[s])) for s in source])
        rewired.append(similarity[source, other].mean())
    rank = np.mean(np.array(rewired) < similarity[source, target].mean())
    assert 0.005 < rank < 0.995


def test_titles_tell_the_tag() -> None:
    """Items of one tag have more title words in common than items of different categories."""
    world = default_world()
    similarity = word_matrix(world) @ word_matrix(world).T
    np.fill_diagonal(similarity, np.nan)
    tag, category = world.oracle["items"]["taste_tag"].to_numpy(), world.items["category"].to_numpy()
    same_tag = np.nanmean(similarity[tag[:, None] == tag])
    same_category = np.nanmean(similarity[(category[:, None] == category) & (tag[:, None] != tag)])
    apart = np.nanmean(similarity[category[:, None] != category])
    assert same_tag > 2 * same_category > 2 * apart


# Signal: what a model can and cannot learn


def link_precision(world: SimpleTables, scores: np.ndarray) -> float:
    """Share of true partners among the ten best of every source item."""
    links = world.oracle["links"]
    truth = np.zeros(scores.shape, bool)
    truth[links["source_item_id"].to_numpy(), links["target_item_id"].to_numpy()] = True
    sources = np.flatnonzero(truth.any(axis=1))
    best = np.argsort(-scores[sources], axis=1, kind="stable")[:, :10]
    return float(truth[sources[:, None], best].mean())


def session_cosine(world: SimpleTables) -> np.ndarray:
    """Item-item cosine of session co-occurrence, (N, N)."""
    clicks, n = clicks_with_truth(world), len(world.items)
    session = clicks.select("user_id", "slot").to_numpy() @ [10_000, 1]
    _, session = np.unique(session, return_inverse=True)
    seen = scipy.sparse.csr_array((np.ones(len(session), np.float32), (session, clicks["item_id"].to_numpy())))
    together = np.zeros((n, n), np.float32)
    counts = (seen.T @ seen).toarray()
    together[: len(counts), : len(counts)] = counts
    clicked = np.sqrt(np.maximum(np.diag(together), 1.0))
    np.fill_diagonal(together, 0.0)
    return together / clicked / clicked[:, None]


def test_sessions_reveal_the_links_and_nothing_else_does() -> None:
    world = default_world()
    n = len(world.items)
    chance = link_precision(world, np.random.default_rng(0).random((n, n)))
    tags = tag_matrix(world) @ tag_matrix(world).T
    popularity = np.tile(np.bincount(world.clicks["item_id"], minlength=n), (n, 1))
    assert link_precision(world, session_cosine(world)) > 25 * chance
    assert link_precision(world, tags) < 2 * chance
    assert link_precision(world, popularity) < 4 * chance  # a few popular groups are targets


def test_sessions_reveal_no_links_at_strength_zero() -> None:
    world = draw_simple_world(SimpleWorld(link_strength=0.0))
    assert link_precision(world, session_cosine(world)) < 0.012  # chance is 0.006


def test_taste_beats_popularity_by_far() -> None:
    """HIT@50 on the last fifth of the log: the hidden taste reaches far more than the popularity ranking."""
    world, n = default_world(), len(default_world().items)
    cut = len(world.clicks) * 4 // 5
    test = world.clicks[cut:]
    user, item = test["user_id"].to_numpy(), test["item_id"].to_numpy()
    popularity = np.bincount(world.clicks[:cut]["item_id"], minlength=n)
    truth = world.oracle["items"].select("item_id", "taste_tag", "appeal")
    share = pl.col("appeal") / pl.col("appeal").sum().over("taste_tag")
    interests = world.oracle["users"].explode("interests", "interest_share", empty_as_null=True)
    pairs = interests.join(truth.with_columns(share), left_on="interests", right_on="taste_tag")
    taste = np.zeros((len(world.users), n))
    score = (pairs["interest_share"] * pairs["appeal"]).to_numpy()
    np.add.at(taste, (pairs["user_id"].to_numpy(), pairs["item_id"].to_numpy()), score)

    def hit_at_50(scores: np.ndarray) -> float:
        best = np.argsort(-scores, axis=1)[:, :50]
        return float((best[user] == item[:, None]).any(axis=1).mean())

    hit_popularity = hit_at_50(np.tile(popularity, (len(world.users), 1)))
    assert 0.05 < hit_popularity < 0.25
    assert hit_at_50(taste) > 1.75 * hit_popularity


# Every key has an effect


def gini(counts: np.ndarray) -> float:
    ranked = np.sort(counts)
    return float(1 - 2 * np.cumsum(ranked).sum() / ranked.sum() / len(ranked) + 1 / len(ranked))


def age_gap(world: SimpleTables) -> float:
    """Total variation between the category shares of the age bands and of everybody."""
    clicks = clicks_with_truth(world).join(world.users, on="user_id")
    table = clicks.group_by("age_band").agg(pl.col("category").value_counts(normalize=True)).explode("category")
    shares = table.unnest("category")
    overall = clicks["category"].value_counts(normalize=True, name="overall")
    joined = shares.join(overall, on="category")
    return float((joined["proportion"] - joined["overall"]).abs().sum())


def in_own_interests(world: SimpleTables) -> float:
    clicks = clicks_with_truth(world).join(world.oracle["users"], on="user_id")
    return float(clicks.select(pl.col("interests").list.contains(pl.col("taste_tag"))).to_series().mean())


def follow_share(world: SimpleTables) -> float:
    linked = steps(world).join(partner_groups(world), left_on="previous_link_group", right_on="source_group")
    return float((linked["link_group"] == linked["target_group"]).mean())


def clicks_per_user(world: SimpleTables) -> np.ndarray:
    return np.bincount(world.clicks["user_id"], minlength=len(world.users))


def top_tag_share(world: SimpleTables) -> float:
    per_tag = clicks_with_truth(world).group_by("user_id", "taste_tag").len()
    per_user = per_tag.group_by("user_id").agg(pl.col("len").max() / pl.col("len").sum(), n=pl.col("len").sum())
    return float(per_user.filter(pl.col("n") >= 10)["len"].mean())


def quality_correlation(world: SimpleTables) -> float:
    clicks = clicks_with_truth(world)
    return float(np.corrcoef(clicks["dwell_s"].log(), clicks["quality"])[0, 1])


EFFECTS = {  # key: low, high, what must rise from low to high
    "users": (200, 400, lambda w: len(w.users)),
    "items": (300, 600, lambda w: len(w.items)),
    "days": (3, 9, lambda w: (w.clicks["timestamp"].max() - START_S) / DAY_S),
    "categories": (3, 12, lambda w: w.items["category"].n_unique()),
    "subcategories": (1, 4, lambda w: w.items["subcategory"].n_unique()),
    "tags": (30, 90, lambda w: w.items["tags"].explode(empty_as_null=True).n_unique()),
    "tags_per_item": (1.0, 5.0, lambda w: w.items["tags"].list.len().mean()),
    "providers": (10, 90, lambda w: w.items["provider"].n_unique()),
    "popularity_exponent": (0.2, 1.5, lambda w: gini(np.bincount(w.clicks["item_id"], minlength=len(w.items)))),
    "new_items": (0.1, 0.6, lambda w: (w.items["published"] >= START_S).mean()),
    "group_size": (3, 12, lambda w: w.oracle["items"]["link_group"].value_counts()["count"].max()),
    "link_density": (0.2, 0.9, lambda w: w.oracle["links"]["source_item_id"].n_unique()),
    "link_strength": (0.1, 0.7, follow_share),
    "interests": (1, 8, lambda w: -top_tag_share(w)),
    "taste_focus": (0.1, 10.0, top_tag_share),
    "session_focus": (0.0, 1.0, lambda w: (steps(w)["taste_tag"] == steps(w)["previous_taste_tag"]).mean()),
    "demographic_effect": (0.0, 2.0, age_gap),
    "popularity_share": (0.0, 0.8, lambda w: -in_own_interests(w)),
    "novelty": (
        0.0,
        0.5,
        lambda w: (clicks_with_truth(w)["timestamp"] - clicks_with_truth(w)["published"] < 2 * DAY_S).mean(),
    ),
    "sessions_per_user": (4.0, 12.0, lambda w: clicks_with_truth(w).select("user_id", "slot").n_unique()),
    "activity_sd": (0.2, 1.5, lambda w: clicks_per_user(w).std() / clicks_per_user(w).mean()),
    "clicks_per_session": (1.5, 5.0, lambda w: clicks_with_truth(w).group_by("user_id", "slot").len()["len"].mean()),
    "dwell_log_mean": (2.0, 3.5, lambda w: w.clicks["dwell_s"].log().mean()),
    "dwell_log_sd": (0.5, 1.2, lambda w: w.clicks["dwell_s"].log().std()),
    "quality_effect": (0.0, 0.8, quality_correlation),
    "like_rate": (0.01, 0.2, lambda w: w.clicks["like"].mean()),
    "follow_rate": (0.01, 0.2, lambda w: w.clicks["follow"].mean()),
}


@pytest.mark.parametrize("key", EFFECTS)
def test_every_key_moves_its_statistic(key: str) -> None:
    low, high, statistic = EFFECTS[key]
    below, above = statistic(small_world(**{key: low})), statistic(small_world(**{key: high}))
    assert above > below + 0.1 * abs(below)


def test_every_key_is_tested_and_documented() -> None:
    assert {*EFFECTS, "seed"} == set(SimpleWorld.model_fields)
    assert all(field.description for field in SimpleWorld.model_fields.values())
    assert yaml.safe_load(PRESET.read_text()) == SimpleWorld().model_dump()
    assert load_simple_world(PRESET) == SimpleWorld()


# The sampler against a slow reference

members = st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 5.0), st.integers(-5, 5)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(members, st.integers(-1, 4), st.integers(-7, 7), st.integers(-7, 7))
def test_sampler_draws_by_weight_within_group_and_interval(table, group: int, since: int, before: int) -> None:
    groups, weights, times = (np.array(column) for column in zip(*table, strict=True))
    uniforms = (np.arange(2000) + 0.5) / 2000  # an even grid: frequencies are the weights up to one cell
    drawn = GroupSampler(groups, weights, times).draw(np.full(2000, group), uniforms, since=since, before=before)
    legal = [row for row, (g, _, t) in enumerate(table) if g == group and since <= t < before]
    if not legal:
        assert (drawn == -1).all()
        return
    total = sum(table[row][1] for row in legal)
    for row in range(len(table)):
        expected = table[row][1] / total if row in legal else 0.0
        assert np.mean(drawn == row) == pytest.approx(expected, abs=1.01 / 2000)


# The folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first = contents(make_simple_world(SimpleWorld.model_validate(SMALL), tmp_path / "a"))
    again = contents(make_simple_world(SimpleWorld.model_validate(SMALL), tmp_path / "b"))
    other = contents(make_simple_world(SimpleWorld.model_validate({**SMALL, "seed": 1}), tmp_path / "c"))
    oracle = {f"oracle/{name}.parquet" for name in ("links", "items", "users")}
    assert set(first) == {"dataset.yaml", "users.parquet", "items.parquet", "clicks.parquet", *oracle}
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_the_dataset_loads_and_hides_the_truth(tmp_path: Path) -> None:
    folder = make_simple_world(SimpleWorld.model_validate(SMALL), tmp_path / "world")
    with_oracle = read_dataset(folder)
    assert len(with_oracle.users) == 300
    assert set(with_oracle.items.columns) == {"category", "subcategory", "tags", "provider"}
    hidden = {"taste_tag", "link_group", "appeal", "quality", "interests", "interest_share", "activity"}
    assert not hidden & {*with_oracle.items.frame.columns, *with_oracle.users.frame.columns}
    assert {field.name for field in dataclasses.fields(with_oracle.clicks)} >= {"dwell_s", "like", "follow"}
    assert with_oracle.clicks.dwell_s is not None
    assert with_oracle.schema.provenance["config"] == SimpleWorld.model_validate(SMALL).model_dump()
    shutil.rmtree(folder / "oracle")
    assert read_dataset(folder).fingerprint == with_oracle.fingerprint


def test_a_taken_folder_is_kept_unless_told(tmp_path: Path) -> None:
    config = SimpleWorld.model_validate(SMALL)
    before = contents(make_simple_world(config, tmp_path / "world"))
    with pytest.raises(MicrecError, match="exists"):
        make_simple_world(SimpleWorld.model_validate({**SMALL, "seed": 1}), tmp_path / "world")
    assert contents(tmp_path / "world") == before
    make_simple_world(SimpleWorld.model_validate({**SMALL, "seed": 1}), tmp_path / "world", overwrite=True)
    assert contents(tmp_path / "world") != before


def test_a_world_without_clicks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MicrecError, match=r"no user clicked: raise users \(1\) or sessions_per_user \(1e-09\)"):
        make_simple_world(SimpleWorld(users=1, sessions_per_user=1e-9), tmp_path / "world")
    assert list(tmp_path.iterdir()) == []


# The command and its errors


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["world-simple", *arguments])


def test_command_writes_the_world_it_is_asked_for(tmp_path: Path) -> None:
    preset = tmp_path / "small.yaml"
    preset.write_text(yaml.safe_dump(SMALL))
    out = tmp_path / "world"
    result = run(str(out), "--config", str(preset), "--users", "50", "--link-strength", "0", "--set", "novelty=0.2")
    assert result.exit_code == 0, result.output
    assert "50 users, 400 items, 7 days, seed 0" in result.output
    config = yaml.safe_load((out / "dataset.yaml").read_text())["provenance"]["config"]
    assert (config["users"], config["items"], config["link_strength"], config["novelty"]) == (50, 400, 0.0, 0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--users", "0"], "users: must be > 0, got 0"),
        (["--set", "linkstrength=0.1"], "linkstrength: unknown key, did you mean link_strength?"),
        (["--link-strength", "1.5"], "link_strength: must be <= 1, got 1.5"),
        (["--set", "tags=5"], "tags: must be >= categories x subcategories = 30, so that each has a tag, got 5"),
        (["--set", "categories=60"], "tags: must be >= categories x subcategories = 180, so that each has a tag"),
        (["--set", "popularity_share=0.99"], "novelty: must be <= 1 - popularity_share = 0.01: taste has the rest"),
        (["--set", "dwell_log_mean=.nan"], "dwell_log_mean"),
        (["--config", "no-such.yaml"], "no-such.yaml: cannot be read"),
    ],
)
def test_bad_keys_get_one_clear_error_and_nothing_is_written(tmp_path: Path, arguments, message: str) -> None:
    result = run(str(tmp_path / "world"), *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(MicrecError, match=r"2 faults\n  - users: .*\n  - novelty: .*"):
        load_simple_world(None, {"users": -1, "novelty": 2.0})
