"""A model against the simple baselines over test users, and what its numbers must be read with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.baselines import BASELINES, BaselineModel
from micrec.comparison import results_as_dict
from micrec.evaluation import EvalResult, Reach
from micrec.evaluation.notes import judged_lines, notes
from micrec.evaluation.standing import standings, verdict
from micrec.shares import percent, seen_line, share_lines, warnings

REACH = Reach(
    lines=1000,
    judged=800,
    judged_users=40,
    skipped_users=9,
    unknown=80,
    removed=0,
    repeats=160,
    candidates=5000,
    filtered=False,
    ceiling={10: 0.85, 50: 0.9},
    chance={10: 0.002, 50: 0.01},
)


def result(hits: np.ndarray, lines: np.ndarray, *, reach: Reach = REACH, **metrics: float) -> EvalResult:
    """Hits (V, 2) of users at 10 and 50, and their lines (V,)."""
    at = {f"hit@{n}": float(hits[:, column].sum() / lines.sum()) for column, n in enumerate(reach.ceiling)}
    return EvalResult(
        metrics={**at, **{f"coverage@{n}": 0.5 for n in reach.ceiling}, **metrics},
        slices={},
        users=len(lines),
        queries=len(lines),
        lines=int(lines.sum()),
        pairs=int(lines.sum()),
        unknown_lines=reach.unknown,
        reach=reach,
        candidates=reach.candidates,
        cutoffs=tuple(reach.ceiling),
        user_ids=np.arange(len(lines), dtype=np.int32),
        user_hits=hits,
        user_lines=lines,
    )


def drawn(rates: tuple[float, float], seed: int, n_users: int = 400, lines: np.ndarray | None = None) -> EvalResult:
    rng = np.random.default_rng(seed)
    lines = np.full(n_users, 5) if lines is None else lines
    return result(np.stack([rng.binomial(lines, rate) for rate in rates], axis=1), lines)


class TestStandings:
    def test_outcomes_by_hand(self):
        """Users with 4 lines each; three hit once more with the model than with the baseline, the fourth does not."""
        lines = np.full(4, 4)
        model = result(np.array([[2, 4]] * 4), lines)
        other = result(np.array([[1, 4], [1, 4], [1, 4], [2, 4]]), lines)
        first, second = standings({"m": model, "popularity": other})
        assert (first.baseline, first.cutoff, first.difference) == ("popularity", 10, 3 / 16)
        # per-user differences 1/4, 1/4, 1/4, 0: mean 3/16, standard error 1/16, t with 3 degrees of freedom 3.182
        assert first.interval == pytest.approx((3 / 16 - 3.182446305 / 16, 3 / 16 + 3.182446305 / 16))
        assert first.outcome == "not distinguishable from"
        assert (second.difference, second.interval, second.outcome) == (0.0, (0.0, 0.0), "not distinguishable from")

    def test_better_worse_and_alike(self):
        model, better, worse = drawn((0.3, 0.5), 1), drawn((0.5, 0.6), 2), drawn((0.1, 0.5), 3)
        worse.user_hits[:, 1] = model.user_hits[:, 1]
        found = standings({"m": model, "item_knn": better, "popularity": worse})
        assert [(one.baseline, one.cutoff, one.outcome) for one in found] == [
            ("item_knn", 10, "below"),
            ("item_knn", 50, "below"),
            ("popularity", 10, "above"),
            ("popularity", 50, "not distinguishable from"),
        ]
        assert verdict(found, model) == (
            "it does not pass item-kNN and popularity: below item-kNN at every N; above popularity at 10, not "
            "distinguishable from it at 50 (each at 95 % over 400 users)"
        )

    def test_a_model_above_all(self):
        model = drawn((0.4, 0.6), 1)
        found = standings({"m": model, "popularity": drawn((0.1, 0.2), 2), "ease": drawn((0.2, 0.3), 3)})
        assert verdict(found, model) == "above popularity and EASE at every N (each at 95 % over 400 users)"

    def test_no_model_is_blamed_for_standing_below_a_ceiling(self):
        BASELINES.register("all_known", BaselineModel("all known", print, is_ceiling=True))
        try:
            found = standings(
                {"m": drawn((0.4, 0.6), 1), "all_known": drawn((0.9, 0.9), 2), "ease": drawn((0.2, 0.3), 3)}
            )
        finally:
            BASELINES.remove("all_known")
        assert {(one.baseline, one.outcome) for one in found} == {("ease", "above")}

    def test_equal_models_are_told_apart_in_one_of_twenty(self):
        """Users differ in their lines and in how well they are served by both models."""
        rng, wrong = np.random.default_rng(0), 0
        for _ in range(600):
            lines, rates = rng.geometric(0.2, 60), rng.beta(1, 4, 60)
            first, second = (np.stack([rng.binomial(lines, rates)] * 2, axis=1) for _ in range(2))
            found = standings({"m": result(first, lines), "popularity": result(second, lines)})
            wrong += found[0].outcome != "not distinguishable from"
        assert 0.025 < wrong / 600 < 0.085  # 5 %, give or take four standard errors

    def test_lists_of_the_whole_catalogue_are_not_compared(self):
        small = REACH._replace(candidates=50)
        model, other = (result(np.array([[1, 2], [0, 2]]), np.array([2, 2]), reach=small) for _ in range(2))
        found = standings({"m": model, "popularity": other})
        assert [one.cutoff for one in found] == [10]
        assert verdict(found, model) == (
            "it does not pass popularity: not distinguishable from popularity at 10 (each at 95 % over 2 users)"
        )
        assert verdict([], model).startswith("none, as there is no baseline, or every list holds the whole catalogue")

    def test_one_user_tells_nothing(self):
        model, other = (result(np.array([[hits, 2]]), np.array([2])) for hits in (2, 0))
        (first, _) = standings({"m": model, "popularity": other})
        assert (first.difference, first.interval, first.outcome) == (1.0, None, "not distinguishable from")


class TestWords:
    def test_what_is_judged_and_why_the_rest_is_not(self):
        judged, hit = judged_lines(REACH, "test")
        assert judged == (
            "80.0 % of the 1,000 test clicks are judged (800). Not judged: 200 of 9 users without a click before the "
            "test part (--set users=all judges them too, with an empty history)."
        )
        assert hit == (
            "90.0 % of the judged clicks can be hit (720). Not: 80 on items that nobody clicked before "
            "(--set candidates=all ranks them too, by their fields)."
        )
        whole = REACH._replace(lines=800, unknown=0, removed=3)
        assert judged_lines(whole, "validation") == [
            "100.0 % of the 800 validation clicks are judged (800).",
            "99.6 % of the judged clicks can be hit (797). Not: 3 on items that seen=filter removes (--set seen=keep).",
        ]

    def test_low_shares_are_warned_about(self):
        assert warnings(REACH.shares()) == []
        (few,) = warnings(REACH._replace(lines=8000).shares(), "validation clicks")
        assert few.startswith("only 10.0 % of the validation clicks are judged")
        (new,) = warnings(REACH._replace(unknown=672).shares())
        assert new.startswith("only 16.0 % of the judged clicks can be hit at all")
        assert len(warnings(REACH._replace(lines=8000, unknown=672).shares())) == 2
        (none,) = warnings(REACH._replace(unknown=800).shares())
        assert none.startswith("none of the judged clicks can be hit at all")

    def test_a_log_without_repeats_wants_seen_items_filtered(self):
        hits, lines = np.array([[1, 2]] * 3), np.full(3, 4)
        none = REACH._replace(repeats=0)
        model = result(hits, lines, reach=none, **{"seen_places@10": 0.115, "seen_places@50": 0.05})
        other = result(hits, lines, reach=none, **{"seen_places@10": 0.3125, "seen_places@50": 0.2})
        (note,) = notes({"fm": model, "item_knn": other})
        assert note == (
            "none of the judged clicks go to items that the user had clicked before, yet such items take up places in "
            "the lists of 10 (fm 11.5 %, item-kNN 31.2 %), where they can hardly hit: evaluation.seen: filter gives "
            "these places to others."
        )
        some = result(hits, lines, reach=REACH._replace(repeats=160), **{"seen_places@10": 0.115})
        free = result(hits, lines, reach=none, **{"seen_places@10": 0.01})
        filtered = result(hits, lines, reach=none._replace(filtered=True), **{"seen_places@10": 0.115})
        assert [notes({"fm": one}) for one in (some, free, filtered)] == [[], [], []]

    def test_few_repeats_are_told_as_few(self):
        rows = {f"m{i}": {"repeat_share": 0.004, "seen_places@50": 0.1 * i} for i in range(6)}
        (line,) = seen_line(rows, 50)
        assert line.startswith("only 0.4 % of the judged clicks go to items")
        assert "the lists of 50 (m1 10.0 %, m2 20.0 %, m3 30.0 % and 2 more)" in line

    def test_lists_near_the_catalogue_say_little(self):
        hits, lines = np.array([[1, 2]] * 3), np.full(3, 4)
        small = REACH._replace(candidates=50, chance={10: 0.18, 50: 0.9})
        (note,) = notes({"fm": result(hits, lines, reach=small)})
        assert note == (
            "hit@50: a list of 50 holds all 50 candidates, whatever the model, so it says nothing. Use lists that are "
            "short beside the catalogue: --set cutoffs=[1,5]."
        )
        tiny = REACH._replace(candidates=20, chance={10: 0.45, 50: 0.9})
        whole, large = notes({"fm": result(hits, lines, reach=tiny)})
        assert whole.startswith("hit@50: a list of 50 holds all 20 candidates")
        assert large.startswith("hit@10: of 20 candidates random lists hit 0.4500 at 10 already, so it says little.")
        assert large.endswith("--set cutoffs=[1].")
        one = REACH._replace(candidates=1, repeats=0)
        (note,) = notes({"fm": result(hits, lines, reach=one, **{"seen_places@10": 1.0})})
        assert note.startswith("hit@10, hit@50: a list of 10 holds the only candidate, whatever the model")

    def test_ties_that_are_above_the_ceiling_are_told(self):
        model = result(np.array([[9, 10]]), np.array([10]))
        (note,) = notes({"fm": model})
        assert note.startswith("above the highest possible HIT: hit@10 of fm, hit@50 of fm: many items have the very")

    def test_a_line_for_reports(self):
        rows = {name: {**REACH.shares(), "hit@10": 0.3} for name in ("ICAN", "MicRec")}
        assert share_lines(rows, [10, 50]) == [
            "80.0 % of the test clicks are judged; 90.0 % of these can be hit at all; highest possible HIT: 0.8500 at "
            "10, 0.9000 at 50."
        ]
        assert share_lines(rows, []) == ["80.0 % of the test clicks are judged; 90.0 % of these can be hit at all."]
        assert share_lines({**rows, "old": {"hit@10": 0.1}}, [10]) == []
        low = {name: REACH._replace(unknown=672).shares() for name in rows}
        assert share_lines(low, [10])[1].startswith("Warning: only 16.0 % of the judged clicks can be hit at all")

    @given(st.integers(0, 10**9), st.integers(1, 10**9))
    @settings(max_examples=200)
    def test_a_share_is_not_rounded_to_all_or_nothing(self, part, whole):
        share = min(part, whole) / whole
        assert (percent(share) == "100.0 %") == (share == 1)
        assert (percent(share) == "0.0 %") == (share == 0)


def test_the_data_behind_the_summary():
    found = results_as_dict({"fm": drawn((0.3, 0.5), 1), "popularity": drawn((0.1, 0.2), 2)})
    assert found["reach"]["judged"] == 800
    assert found["reach"]["hit_ceiling@50"] == 0.9
    assert [(one["baseline"], one["outcome"]) for one in found["standings"]] == [("popularity", "above")] * 2
    assert (found["warnings"], found["notes"]) == ([], [])
    assert list(found["models"]) == ["fm", "popularity"]
