"""Columns of users made of events, retention, conversion, caps and quantiles, against loops over the rows."""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from scipy import stats

import abtest
from abtest.analysis import rollup
from abtest.analysis.metrics import metrics_of
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.userlog import log_of
from micrec.errors import MicrecError

HOUR = 3600
START = 1_760_000_000  # seconds, 08:53 UTC
COLUMNS = {
    "longest": {"take": "max", "of": "dwell_s"},
    "items": {"take": "distinct", "of": "item_id"},
    "bought_items": {"take": "distinct", "of": "item_id", "event": "buy"},
    "newest": {"take": "last", "of": "price * 2"},
    "oldest": {"take": "first", "of": "price", "where": "price > 2"},
    "revenue": {"take": "sum", "of": "price", "event": "buy"},
    "buys": {"take": "count", "event": "buy"},
    "early_buys": {"take": "count", "event": "buy", "within_h": 24},
    "after_show": {"take": "any", "event": "buy", "within_h": 5, "exposure": "show"},
}
FILE = {
    "primary": ["spend"],
    "secondary": [*COLUMNS, "buy24", "retention-1", "back3"],
    "metrics": {
        **{name: {"value": name} for name in COLUMNS},
        "spend": {"value": "revenue + 1"},
        "buy24": {"conversion": "buy", "within_h": 24},
        "back3": {"retention": 3},
    },
    "user_columns": COLUMNS,
}


def events(seed: int, rows: int = 3000, users: int = 90) -> pl.DataFrame:
    """Rows in no order, many at equal times."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, rows)
    return pl.DataFrame(
        {
            "user_id": user,
            "arm": np.where(user % 2 == 0, "A", "B"),
            "timestamp": START + rng.integers(0, 400, rows) * HOUR // 4,
            "event": rng.choice(["click", "buy", "show", "scroll"], rows, p=[0.5, 0.1, 0.3, 0.1]),
            "item_id": rng.integers(0, 15, rows),
            "price": rng.integers(0, 9, rows) / 2,
            "dwell_s": rng.exponential(20.0, rows),
        }
    )


def by_loop(table: pl.DataFrame) -> dict[str, dict[int, float]]:
    """The same columns, row by row in plain Python."""
    of_user = defaultdict(list)
    for row in table.iter_rows(named=True):
        of_user[row["user_id"]].append(row)
    end = max(table["timestamp"])
    days = sorted({time // 86400 for time in table["timestamp"]})
    found = defaultdict(dict)
    for user, rows in of_user.items():
        rows = sorted(rows, key=lambda row: row["timestamp"])  # stable
        first = rows[0]["timestamp"]
        buys = [row for row in rows if row["event"] == "buy"]
        shows = [row["timestamp"] for row in rows if row["event"] == "show"]
        found["longest"][user] = max(row["dwell_s"] for row in rows)
        found["items"][user] = len({row["item_id"] for row in rows})
        found["bought_items"][user] = len({row["item_id"] for row in buys})
        found["newest"][user] = 2 * rows[-1]["price"]
        found["oldest"][user] = next((row["price"] for row in rows if row["price"] > 2), 0.0)
        found["revenue"][user] = sum(row["price"] for row in buys)
        found["buys"][user] = len(buys)
        early = [row for row in buys if row["timestamp"] <= first + 24 * HOUR]
        found["early_buys"][user] = len(early)
        found["after_show"][user] = float(
            any(shows and shows[0] <= row["timestamp"] <= shows[0] + 5 * HOUR for row in buys)
        )
        observed = first + 24 * HOUR <= end
        found["buy24"][user] = (float(bool(early) and observed), float(observed))
        there = {row["timestamp"] // 86400 for row in rows}
        for name, k in (("retention-1", 1), ("back3", 3)):
            could = min(there) + k <= days[-1]
            found[name][user] = (float(could and min(there) + k in there), float(could))
    return found


def made_of(table: pl.DataFrame, file=FILE) -> tuple[pl.DataFrame, dict]:
    metrics, _ = metrics_of(file, "metrics")
    log = log_of(table, AnalysisPlan("A", ("B",), metrics=tuple(metrics), planned_days=9, rows="events"))
    return log.users.collect(), {metric.name: metric for metric in log.metrics}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [97, 1 << 20])
def test_every_column_is_that_of_a_loop(seed, batch, monkeypatch):
    monkeypatch.setattr(rollup, "BATCH_ROWS", batch)
    table = events(seed)
    users, metrics = made_of(table)
    expected = by_loop(table)
    for name, values in expected.items():
        metric = metrics[name]
        for row in users.select(
            "user_id", value=metric.value.expr, per=metric.per.expr if metric.per else 0.0
        ).iter_rows():
            want = values[row[0]]
            got = row[1:] if metric.per else row[1]
            assert got == pytest.approx(want), (name, row[0])


def test_text_ids_and_text_values():
    table = events(5).with_columns(user_id=pl.format("u{}", "user_id"), item_id=pl.format("i{}", "item_id"))
    users, _ = made_of(table)
    expected = table.group_by("user_id").agg(pl.col("item_id").n_unique().cast(pl.Float64)).sort("user_id")
    assert users.select("user_id", "items").sort("user_id").rows() == expected.rows()


def test_the_verdict_is_welchs_test_on_the_column():
    table = events(6, rows=20_000, users=2_000)
    result = abtest.analyze(table, control="A", treatment="B", metrics=FILE, planned_days=9)
    values = by_loop(table)["revenue"]
    a, b = ([values[u] for u in values if u % 2 == parity] for parity in (0, 1))
    expected = stats.ttest_ind(b, a, equal_var=False)
    found = result.to_frame().filter(pl.col("metric") == "spend").row(0, named=True)
    assert found["p"] == pytest.approx(expected.pvalue, rel=1e-10)


def test_retention_counts_eligible_users_alone():
    """Users first seen on the last day could not come back: they are in neither number."""
    day = {"A": [(1, [1, 2]), (2, [1]), (3, [3])], "B": [(4, [1, 2]), (5, [2, 3]), (6, [3])]}
    rows = [(user, arm, d) for arm, users in day.items() for user, days in users for d in days]
    table = pl.DataFrame(rows, schema=["user_id", "arm", "day"], orient="row").with_columns(clicks=1)
    result = abtest.analyze(
        table, control="A", treatment="B", metrics={"primary": ["ACC"], "secondary": ["retention-1"]}, planned_days=3
    )
    found = result.to_frame().filter(pl.col("metric") == "retention-1").row(0, named=True)
    assert (found["control_mean"], found["treatment_mean"]) == pytest.approx((1 / 2, 2 / 2))


def test_mistakes_are_told():
    table = events(1)
    for change, part in (
        ({"user_columns": {"x": {"take": "sum"}}}, "need of"),
        ({"user_columns": {"x": {"take": "distinct", "of": "a + b"}}}, "distinct takes a column"),
        ({"user_columns": {"x": {"take": "max", "of": "pri"}}}, "needs a column 'pri', did you mean price?"),
        ({"user_columns": {"x": {"take": "count", "exposure": "show"}}}, "give the hours too"),
        ({"metrics": {"spend": {"retention": 0}}}, "metrics.spend.retention"),
        ({"metrics": {"spend": {"conversion": "buy"}}}, "conversion and within_h go together"),
        ({"metrics": {"spend": {"value": "price", "retention": 1}}}, "give either value"),
    ):
        file = {"primary": ["spend"], "metrics": {"spend": {"value": "x"}}, "user_columns": {}} | change
        with pytest.raises(MicrecError) as fault:
            abtest.analyze(table, control="A", treatment="B", metrics=file, planned_days=9)
        assert part in str(fault.value), part
    users = pl.DataFrame({"user_id": range(4), "arm": ["A", "B"] * 2, "price": [1.0] * 4})
    with pytest.raises(MicrecError, match="the log has one row per user"):
        abtest.analyze(users, control="A", treatment="B", metrics=FILE)


def test_looks_need_a_metric_that_days_can_cut():
    file = {"primary": ["longest"], "metrics": {"longest": {"value": "m"}}}
    file |= {"user_columns": {"m": {"take": "max", "of": "dwell_s"}}}
    table = events(2)
    with pytest.raises(MicrecError, match="no primary metric is a sum over days"):
        abtest.analyze(table, control="A", treatment="B", metrics=file, planned_days=9, looks="daily")
    assert abtest.analyze(table, control="A", treatment="B", metrics=file, planned_days=9).valid


class TestCaps:
    TABLE = pl.DataFrame(
        {
            "user_id": range(4000),
            "arm": ["A", "B"] * 2000,
            "revenue": np.random.default_rng(1).pareto(1.5, 4000) + 0.01,
            "visits": np.random.default_rng(2).poisson(4, 4000) + 1,
        }
    )

    def frame(self, metrics, table=TABLE):
        file = {"primary": list(metrics), "metrics": metrics}
        return abtest.analyze(table, control="A", treatment="B", metrics=file)

    def test_a_capped_mean_is_the_mean_of_clipped_values(self):
        found = self.frame({"r": {"value": "revenue", "cap": {"upper": 0.95, "lower": 0.1}}})
        values = self.TABLE["revenue"].to_numpy()
        low = np.quantile(values, 0.1, method="lower")
        high = np.quantile(values, 0.95, method="higher")
        clipped = np.clip(values, low, high)
        expected = stats.ttest_ind(clipped[1::2], clipped[::2], equal_var=False)
        row = found.to_frame().row(0, named=True)
        assert row["p"] == pytest.approx(expected.pvalue, rel=1e-10)
        raw = stats.ttest_ind(values[1::2], values[::2], equal_var=False)
        beside = found.to_dict()["effects"][0]["others"]["uncapped"]
        assert beside["p"] == pytest.approx(raw.pvalue, rel=1e-10)
        assert any(f"capped at {high:g} (quantile 0.95)" in note for note in found.notes)

    def test_both_sides_of_a_ratio_are_capped_on_the_same_users(self):
        cap = {"upper": 0.9}
        found = self.frame({"r": {"numerator": "revenue", "denominator": "visits", "cap": cap}})
        x, n = (self.TABLE[name].to_numpy().astype(float) for name in ("revenue", "visits"))
        x, n = np.minimum(x, np.quantile(x, 0.9, method="higher")), np.minimum(n, np.quantile(n, 0.9, method="higher"))
        row = found.to_frame().row(0, named=True)
        assert row["control_mean"] == pytest.approx(x[::2].sum() / n[::2].sum())
        one = self.frame({"r": {"numerator": "revenue", "denominator": "visits", "cap": cap | {"side": "numerator"}}})
        assert one.to_frame()["control_mean"][0] == pytest.approx(x[::2].sum() / self.TABLE["visits"][::2].sum())

    def test_sparse_revenue_is_explained_and_capped_among_buyers(self):
        sparse = self.TABLE.with_columns(revenue=pl.when(pl.col("user_id") < 20).then("revenue").otherwise(0.0))
        with pytest.raises(MicrecError) as fault:
            self.frame({"r": {"value": "revenue", "cap": {"upper": 0.99}}}, sparse)
        assert "only 0.5 % of the users have any" in str(fault.value)
        assert "among: nonzero" in str(fault.value)
        found = self.frame({"r": {"value": "revenue", "cap": {"upper": 0.9, "among": "nonzero"}}}, sparse)
        assert found.to_frame()["control_mean"][0] > 0
        plain = self.frame({"r": {"value": "revenue"}}, sparse).to_dict()["effects"][0]
        assert "fewer than 1 % of them have any" in plain["others"]["capped"]["reason"]

    @pytest.mark.parametrize("cap", [{}, {"upper": 0.5, "lower": 0.6}, {"upper": 1.0}, {"upper": 0.9, "x": 1}])
    def test_mistakes(self, cap):
        with pytest.raises(MicrecError, match=r"metrics\.r\.cap"):
            self.frame({"r": {"value": "revenue", "cap": cap}})


class TestQuantiles:
    def test_of_rows_with_users_as_clusters(self):
        """Coverage of the lift's interval where a user's rows are alike: rows as units would miss far more often."""
        hits = {"rows": 0, "users": 0}
        runs = 150
        for seed in range(runs):
            rng = np.random.default_rng(seed)
            user = np.repeat(np.arange(400), 10)
            value = np.exp(rng.normal(0, 1, 400)[user] + rng.normal(0, 0.3, 4000)) * np.where(user % 2, 1.1, 1.0)
            log = pl.DataFrame({"user_id": user, "arm": np.where(user % 2, "B", "A"), "latency": value, "clicks": 1})
            file = {
                "primary": ["n"],
                "metrics": {"n": {"value": "clicks", "quantiles": [0.5], "quantiles_of": "latency"}},
            }
            metrics, _ = metrics_of(file, "m")
            plan = AnalysisPlan("A", ("B",), metrics=tuple(metrics), rows="parts", checks=False)
            from abtest.analysis.robust import asked_quantiles

            (check,) = asked_quantiles(log_of(log, plan), plan.metrics[0], plan, {"B": 0.05})
            low, high = check.estimate.lift_ci
            hits["users"] += low <= 0.1 <= high
            naive = abtest.stats.quantile_difference(value[user % 2 == 0], value[user % 2 == 1], 0.5).lift_ci
            hits["rows"] += naive[0] <= 0.1 <= naive[1]
        assert 0.91 < hits["users"] / runs < 0.985
        assert hits["rows"] / runs < 0.7

    def test_of_users(self):
        table = TestCaps.TABLE
        file = {"primary": ["r"], "metrics": {"r": {"value": "revenue", "quantiles": [0.25, 0.9]}}}
        result = abtest.analyze(table, control="A", treatment="B", metrics=file, checks=False)
        found = result.to_dict()["quantiles"]
        assert [one["quantile"] for one in found] == [0.25, 0.9]
        control = table.filter(pl.col("arm") == "A")["revenue"].to_numpy()
        assert found[1]["control"] == pytest.approx(np.quantile(control, 0.9))

    def test_rows_are_needed(self):
        file = {"primary": ["r"], "metrics": {"r": {"value": "revenue", "quantiles": [0.5], "quantiles_of": "visits"}}}
        with pytest.raises(MicrecError, match="the log has one row per user"):
            abtest.analyze(TestCaps.TABLE, control="A", treatment="B", metrics=file)


def test_the_file_of_the_guide_is_valid_and_runs():
    page = (Path(__file__).parents[3] / "docs" / "judging.md").read_text(encoding="utf-8")
    block = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]
    table = events(8, rows=20_000, users=800).with_columns(
        event=pl.col("event").replace({"buy": "purchase", "scroll": "impression"}),
        quantity=pl.lit(2),
        topic=pl.col("item_id") % 4,
        latency_ms=pl.col("dwell_s") * 10 + 5,
    )
    found = abtest.analyze(table, control="A", treatment="B", metrics=yaml.safe_load(block), planned_days=9).to_frame()
    assert set(found["metric"]) == {"revenue", "retention-7", "buy24", "longest", "speed", "variety"}
    assert found.filter(pl.col("metric") != "retention-7")["p"].null_count() == 0  # the log is 5 days long


class TestSoundness:
    """Every kind of metric in thousands of random splits of one log, and against other implementations."""

    TABLE = events(11, rows=60_000, users=4_000)

    def test_false_alarms_and_coverage(self):
        names = ["spend", "longest", "items", "newest", "early_buys", "buy24", "retention-1"]
        file = FILE | {"primary": names, "secondary": []}
        file = file | {"metrics": {name: spec for name, spec in FILE["metrics"].items() if name in names}}
        file["metrics"]["capped"] = {"value": "revenue", "cap": {"upper": 0.9, "among": "nonzero"}}
        file["primary"] = [*names, "capped"]
        found = abtest.aa(self.TABLE, metrics=file, splits=4000, lifts=[0.05]).to_frame()
        assert set(found["metric"]) == set(file["primary"])
        assert found["rate"].is_between(0.04, 0.06).all(), found
        assert found["coverage"].is_between(0.94, 0.96).all(), found
        assert found["sound"].all()

    def test_retention_and_conversion_are_proportions_of_eligible_users(self):
        """On eligible users alone: the same difference, and scipy's p up to the n - 1 of those left out."""
        result = abtest.analyze(self.TABLE, control="A", treatment="B", metrics=FILE, planned_days=9).to_frame()
        expected = by_loop(self.TABLE)
        for name in ("retention-1", "buy24"):
            values = {user: hit for user, (hit, eligible) in expected[name].items() if eligible}
            a, b = ([hit for user, hit in values.items() if user % 2 == parity] for parity in (0, 1))
            row = result.filter(pl.col("metric") == name).row(0, named=True)
            assert row["difference"] == pytest.approx(np.mean(b) - np.mean(a))
            assert row["p"] == pytest.approx(stats.ttest_ind(b, a, equal_var=False).pvalue, rel=0.01)

    def test_a_ratio_with_covariates_is_a_regression(self):
        """CUPED on a ratio: the linearised ratio regressed on arm and covariate by statsmodels, one slope for both."""
        import statsmodels.api as sm

        rng = np.random.default_rng(2)
        n = 20_000
        taste = rng.gamma(2.0, 1.0, n)
        impressions, arm = rng.poisson(5 * taste) + 1, rng.integers(0, 2, n)
        clicks = rng.binomial(impressions, np.clip(0.1 * taste**0.3 * (1 + 0.05 * arm), 0, 1))
        table = {"user_id": np.arange(n), "arm": np.where(arm == 1, "B", "A"), "clicks": clicks}
        table |= {"impressions": impressions, "pre_clicks": rng.poisson(taste)}
        found = abtest.analyze(table, control="A", treatment="B").to_dict()
        effect = next(e for e in found["effects"] if e["metric"] == "CTR")
        ratio = clicks.sum() / impressions.sum()
        linear = np.empty(n)
        for side in (0, 1):
            here = arm == side
            own = clicks[here].sum() / impressions[here].sum()
            linear[here] = own + (clicks[here] - own * impressions[here]) / impressions[here].mean()
        pooled = (clicks - ratio * impressions) / impressions.mean()
        x = table["pre_clicks"] - table["pre_clicks"].mean()
        slope = sm.OLS(pooled, sm.add_constant(x)).fit().params[1]
        adjusted = linear - slope * x
        expected = stats.ttest_ind(adjusted[arm == 1], adjusted[arm == 0], equal_var=False)
        assert effect["others"]["cuped"]["difference"] == pytest.approx(
            adjusted[arm == 1].mean() - adjusted[arm == 0].mean(), rel=1e-6
        )
        assert effect["others"]["cuped"]["p"] == pytest.approx(expected.pvalue, rel=1e-6)
