"""Carriers of topics tell nothing beyond the subcategory at 0, whatever the others tell, and much at 1."""

import functools

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest, chi2_contingency
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_predict

from micrec.data.store import read_dataset
from simulator.world.generate import generate_world
from simulator.world.item_table import item_frame
from simulator.world.items import make_catalogue
from tests.simulator.worlds import small_config

TOPICS, SUBCATEGORIES = 4, 4
BASE = (
    "items.count=3200", "items.categories=2", "items.subcategories=2", f"items.topics={TOPICS}", "items.providers=40",
    "tags.count=160", "content.dim=24", "items.fields.kind.values=60", "items.near_duplicate_share=0",
)  # fmt: skip
DIALS = {
    "tags": "signals.tags",
    "provider": "signals.provider",
    "content": "signals.content",
    "kind": "items.fields.kind.topic",
}
COLUMNS = (*DIALS, "title", "published")  # the last two follow from no dial here


@functools.cache
def world(*overrides: str) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Item table, subcategory and topic within it."""
    config = small_config(*BASE, *overrides)
    catalogue = make_catalogue(config)
    return item_frame(config, catalogue), catalogue.subcategory, catalogue.topic % TOPICS


def dials(**values: float) -> tuple[str, ...]:
    return tuple(f"{DIALS[name]}={value}" for name, value in values.items())


def features(frame: pl.DataFrame, column: str) -> np.ndarray:
    """One row per item: words, values or numbers of the column."""
    values = frame[column]
    if values.dtype == pl.List(pl.Float32):
        return np.array(values.to_list())
    if column == "published":
        return (values.to_numpy()[:, None] - values.mean()) / values.std()
    texts = values.list.join(" ") if isinstance(values.dtype, pl.List) else values
    return np.asarray(CountVectorizer(token_pattern=r"\S+").fit_transform(texts.to_list()).todense(), float)


def accuracy(column: str, *overrides: str) -> tuple[int, int]:
    """Items whose topic a linear classifier finds within their subcategory, on items it has not seen; and all items."""
    frame, subcategory, topic = world(*overrides)
    right = 0
    for place in range(SUBCATEGORIES):
        rows = np.flatnonzero(subcategory == place)
        x = features(frame[rows], column)
        found = cross_val_predict(RidgeClassifier(alpha=3.0), x, topic[rows], cv=4)
        right += int((found == topic[rows]).sum())
    return right, len(frame)


def group_p_value(column: str, *overrides: str) -> float:
    """Whether a linear classifier finds the group of items within their subcategory more often than by luck."""
    config = small_config(*BASE, "items.groups=3", "titles.filler=0", *overrides)
    catalogue = make_catalogue(config)
    frame, right, least = item_frame(config, catalogue), 0, 0.0
    for place in range(SUBCATEGORIES):
        rows = np.flatnonzero(catalogue.subcategory == place)
        group = catalogue.group[rows]
        found = cross_val_predict(RidgeClassifier(alpha=3.0), features(frame[rows], column), group, cv=4)
        right += int((found == group).sum())
        least += np.bincount(group % 3).max()
    return binomtest(right, len(frame), least / len(frame), alternative="greater").pvalue


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_carrier_at_0_tells_nothing_though_all_others_tell_all(column, seed):
    others = dials(**{name: 0.0 if name == column else 1.0 for name in DIALS})
    right, total = accuracy(column, f"seed={seed}", *others)
    assert binomtest(right, total, 1 / TOPICS).pvalue > 1e-3
    assert right / total < 1 / TOPICS + 0.03


@pytest.mark.parametrize(("column", "least"), [("tags", 0.9), ("provider", 0.9), ("content", 0.75), ("kind", 0.85)])
def test_a_carrier_at_1_tells_and_halfway_it_tells_less(column, least):
    shares = [right / total for right, total in (accuracy(column, *dials(**{column: dial})) for dial in (0.2, 0.5, 1))]
    assert shares == sorted(shares)
    assert 1 / TOPICS + 0.03 < shares[0] < shares[-1] - 0.1
    assert shares[-1] > least


@pytest.mark.parametrize("column", ["provider", "kind"])
def test_single_values_pass_the_chi_square_at_0(column):
    frame, subcategory, topic = world(*dials(**{name: 0.0 if name == column else 1.0 for name in DIALS}))
    p_values = []
    for place in range(SUBCATEGORIES):
        rows = np.flatnonzero(subcategory == place)
        codes = frame[column][rows].rank("dense").to_numpy() - 1
        table = np.zeros((int(codes.max()) + 1, TOPICS))
        np.add.at(table, (codes, topic[rows]), 1)
        p_values.append(chi2_contingency(table[table.sum(axis=1) >= 20]).pvalue)
    assert min(p_values) > 1e-3


@pytest.mark.parametrize("column", ["tags", "title", "content"])
@pytest.mark.parametrize("seed", [0, 1])
def test_groups_are_hidden_where_nothing_is_to_tell_them(column, seed):
    """Links and similar clicks follow groups: what tells these, tells of clicks."""
    assert group_p_value(column, f"seed={seed}", "signals.groups=0") > 1e-3
    assert group_p_value(column, f"seed={seed}") < 1e-6


def test_tags_and_providers_stay_at_home():
    """A topic's tags are of its subcategory's vocabulary, and its providers of its category's."""
    plain, subcategory, _ = world(*dials(tags=0.0, provider=0.0), "tags.stray=0")
    told, _, _ = world(*dials(tags=1.0, provider=1.0), "tags.stray=0")
    for column, place in (("tags", subcategory), ("provider", subcategory // 2)):
        used, usual = (
            pl.DataFrame({"place": place, "value": frame[column]}).explode("value").unique()
            if column == "tags"
            else pl.DataFrame({"place": place, "value": frame[column]}).unique()
            for frame in (told, plain)
        )
        assert len(used.join(usual, on=["place", "value"], how="anti")) == 0


@pytest.mark.parametrize("column", ["subcategory", "tags", "provider", "kind", "title"])
def test_shares_of_absent_and_wrong_values_are_as_set(column):
    """Absent: a null. Wrong: the value of another item; that may be the right one, with a chance that is known."""
    right, _, _ = world()
    frame, _, _ = world("signals.missing=0.2", "signals.noise=0.3")
    absent = frame[column].is_null()
    assert binomtest(int(absent.sum()), len(frame), 0.2).pvalue > 1e-3
    text = [f[column].list.join(" ") if column == "tags" else f[column] for f in (right, frame)]
    same = float((text[0] == text[1]).filter(~absent).mean())
    agree = float(((text[0].value_counts()["count"] / len(right)) ** 2).sum())  # of two items picked at random
    assert 1 - same == pytest.approx(0.3 * (1 - agree), abs=4 * np.sqrt(0.21 / len(frame)))


def test_faults_fall_on_each_field_by_itself():
    frame, _, _ = world("signals.missing=0.3")
    absent = np.stack(
        [frame[name].is_null().to_numpy() for name in ("subcategory", "tags", "provider", "kind", "title")]
    )
    correlation = np.corrcoef(absent)[np.triu_indices(5, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(len(frame))
    assert frame["category"].null_count() == frame["content"].null_count() == frame["published"].null_count() == 0


def test_more_days_leave_wrong_values_where_they_are():
    keys = ("signals.noise=0.5", "signals.missing=0.2", "items.new_share=0.3", "signals.tags=0.5")
    short, long = world(*keys, "days=7")[0], world(*keys, "days=30")[0]
    assert len(long) > len(short)
    assert long.head(len(short)).equals(short)


def test_a_world_with_absent_and_wrong_values_is_a_dataset(tmp_path):
    generate_world(small_config("signals.missing=0.3", "signals.noise=0.2", "items.topics=3"), tmp_path / "world")
    dataset = read_dataset(tmp_path / "world")
    for name in ("subcategory", "tags", "provider", "title"):
        absent = dataset.items.frame[name].null_count() / len(dataset.items)
        assert 0.25 < absent < 0.35
