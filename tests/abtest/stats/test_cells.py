"""Cells beside numpy, from every kind of source."""

import json

import numpy as np
import polars as pl
import pytest

from abtest.stats import CellMoments, Moments
from abtest.stats.grouped_moments import BLOCK_ROWS
from micrec.errors import MicrecError

COLUMNS = ["clicks", "dwell_s", "liked"]
KEYS = ["arm", "cold", "day"]


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "arm": np.array(["A", "B", "holdout"])[rng.integers(0, 3, n)],
        "cold": rng.random(n) < 0.3,
        "day": rng.integers(20260801, 20260804, n),
        "clicks": rng.poisson(3, n),
        "dwell_s": rng.lognormal(3, 1, n).astype(np.float32),
        "liked": rng.random(n) < 0.1,
    }


def check(cells, rows):
    arms, colds, days = (np.unique(rows[key]).tolist() for key in KEYS)
    seen = 0
    for arm in arms:
        for cold in colds:
            for day in days:
                here = (rows["arm"] == arm) & (rows["cold"] == cold) & (rows["day"] == day)
                if not here.any():
                    continue
                cell = cells.cells[(arm, cold, day)]
                values = np.stack([rows[name][here].astype(np.float64) for name in COLUMNS])
                assert cell.n == here.sum()
                assert cell.mean == pytest.approx(values.mean(axis=1), rel=1e-12)
                if cell.n > 1:
                    assert cell.comoment / (cell.n - 1) == pytest.approx(np.cov(values), rel=1e-9, abs=1e-12)
                seen += 1
    assert seen == len(cells.cells)


@pytest.mark.parametrize("n", [1, 40, 2 * BLOCK_ROWS + 17])
def test_mapping_of_vectors(n):
    rows = table(n)
    check(CellMoments.of(rows, COLUMNS, KEYS), rows)


@pytest.mark.parametrize("kind", ["frame", "lazy", "parquet", "csv", "batches"])
def test_every_source_gives_the_same(kind, tmp_path):
    rows = table(5000)
    frame = pl.DataFrame(rows)
    frame.write_parquet(tmp_path / "log.parquet")
    frame.write_csv(tmp_path / "log.csv")
    source = {
        "frame": frame,
        "lazy": frame.lazy(),
        "parquet": tmp_path / "log.parquet",
        "csv": str(tmp_path / "log.csv"),
        "batches": (frame[at : at + 700] for at in range(0, 5000, 700)),
    }[kind]
    columns = COLUMNS[:2] if kind == "csv" else COLUMNS  # a CSV's true and false are read as such, floats less exactly
    got = CellMoments.of(source, columns, KEYS)
    if kind == "csv":
        want = CellMoments.of(frame, columns, KEYS).total(arm="A")
        assert got.total(arm="A").comoment == pytest.approx(want.comoment, rel=1e-5)
    else:
        check(got, rows)


def test_totals_and_labels():
    rows = table(3000)
    cells = CellMoments.of(rows, COLUMNS, KEYS)
    assert cells.labels("arm") == ["A", "B", "holdout"]
    assert cells.labels("cold") == [False, True]
    here = (rows["arm"] == "B") & np.isin(rows["day"], [20260801, 20260803])
    want = Moments.of({name: rows[name][here] for name in COLUMNS})
    got = cells.total(arm="B", day=[20260801, 20260803])
    assert got.n == want.n
    assert got.comoment == pytest.approx(want.comoment, rel=1e-10)
    assert cells.total().n == 3000
    assert cells.total(arm="nobody").n == 0
    with pytest.raises(ValueError, match="no key country, there are arm, cold, day"):
        cells.total(country="DE")


def test_shards_add_and_survive_json():
    rows, more = table(2000), table(1500, seed=1)
    both = CellMoments.of(rows, COLUMNS, KEYS) + CellMoments.of(more, COLUMNS, KEYS)
    check(both, {name: np.concatenate([rows[name], more[name]]) for name in rows})
    back = CellMoments.from_dict(json.loads(json.dumps(both.to_dict())))
    assert back.cells.keys() == both.cells.keys()
    for label, cell in both.cells.items():
        assert back.cells[label].comoment.tobytes() == cell.comoment.tobytes()


def test_many_labels():
    rng = np.random.default_rng(0)
    rows = {
        "arm": rng.integers(0, 100_000, 3000),
        "city": rng.integers(0, 500, 3000).astype(str),
        "x": rng.random(3000),
    }
    cells = CellMoments.of(rows, ["x"], ["arm", "city"])
    assert len(cells.cells) == len({*zip(rows["arm"].tolist(), rows["city"].tolist(), strict=True)})
    assert cells.total().mean_of("x") == pytest.approx(rows["x"].mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": ["a", "b", "c"]}, "x: must be a column of numbers"),
        ({"x": [1.0, np.inf, 2.0]}, "x: 1 values are missing or not finite, first in row 1"),
        ({"x": [1e300, -1e300, 2.0]}, "too large: their squares overflow"),
        ({"arm": ["A", None, "B"]}, "arm: 1 of 3 rows have no value"),
        ({"x": [1.0, 2.0]}, "columns must have one length"),
        ({"arm": None}, "no column arm: there are x"),
    ],
)
def test_bad_tables(change, text):
    rows = {
        key: value for key, value in {"arm": ["A", "A", "B"], "x": [1.0, 2, 3], **change}.items() if value is not None
    }
    with pytest.raises(MicrecError, match=text):
        CellMoments.of(rows, ["x"])


@pytest.mark.parametrize("kind", [pl.Decimal(12, 2), pl.Int128, pl.UInt128, pl.Boolean, pl.Int8, pl.Float32], ids=str)
def test_columns_of_every_type(kind):
    rows = pl.DataFrame({"arm": ["A", "B", "A", "B"], "x": pl.Series([1, 0, 0, 1]).cast(kind)})
    cells = CellMoments.of(rows, ["x"])
    assert (cells.total(arm="A").mean_of("x"), cells.total(arm="A").var_of("x")) == (0.5, 0.5)


def test_a_truth_value_that_is_missing_is_told():
    with pytest.raises(MicrecError, match="x: 1 values are missing or not finite, first in row 1"):
        CellMoments.of(pl.DataFrame({"arm": ["A", "B", "B"], "x": [True, None, False]}), ["x"])


def test_bad_files(tmp_path):
    pl.DataFrame({"arm": ["A"], "x": [1.0]}).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(MicrecError, match="no column y: there are arm, x"):
        CellMoments.of(tmp_path / "log.parquet", ["y"])
    with pytest.raises(MicrecError, match=r"must end in \.parquet or \.csv"):
        CellMoments.of(tmp_path / "log.xlsx", ["x"])
