"""Progress lines: what a log file gets, on a clock that the test moves."""

import io

import pytest

from micrec import progress
from micrec.progress import LineProgress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now_s = 100.0

        def monotonic(self):
            return self.now_s

    moved = Clock()
    monkeypatch.setattr(progress, "time", moved)
    return moved


def test_a_line_tells_the_rate_and_what_is_left(clock):
    stream = io.StringIO()
    shown = LineProgress(stream, every_s=10.0)
    shown.start("train", 5_000, "samples")
    clock.now_s += 1.0
    shown.advance(100)  # the first line comes soon
    clock.now_s += 4.0
    shown.advance(400)  # too soon for the next
    clock.now_s += 6.0
    shown.advance(1_500, "loss 0.5")
    clock.now_s += 14.0
    shown.advance(3_000)
    shown.finish()
    assert stream.getvalue().splitlines() == [
        "train: 100/5,000 samples, 100 samples/s, 49 s left",
        "train: 2,000/5,000 samples, 182 samples/s, 16 s left, loss 0.5",
        "train: 5,000/5,000 samples, 200 samples/s, 25.0 s",
    ]


@pytest.mark.parametrize(
    ("seconds", "done", "lines"),
    [
        (40.0, 5, ["all models: 5/10 models, 8 s each, 40 s left"]),  # slower than one a second
        (1.0, 10, []),  # done in a moment
    ],
)
def test_slow_things_tell_seconds_each_and_quick_ones_nothing(clock, seconds, done, lines):
    stream = io.StringIO()
    shown = LineProgress(stream)
    shown.start("all models", 10, "models")
    clock.now_s += seconds
    shown.advance(done)
    if done == 10:
        shown.finish()
    assert stream.getvalue().splitlines() == lines


def test_work_inside_other_work_tells_its_own_numbers(clock):
    """A model is trained among others: its samples do not mix with the count of models."""
    stream = io.StringIO()
    shown = LineProgress(stream)
    shown.start("all models", 2, "models")
    for model in ("one", "two"):
        shown.start(model, 100, "samples")
        clock.now_s += 20.0
        shown.advance(100)
        shown.finish()
        shown.advance(1)
    shown.finish()
    assert stream.getvalue().splitlines() == [
        "one: 100/100 samples, 5 samples/s, 20.0 s",
        "all models: 1/2 models, 20 s each, 20 s left",
        "two: 100/100 samples, 5 samples/s, 20.0 s",
        "all models: 2/2 models, 20 s each, 40.0 s",
    ]


def test_no_rate_where_nothing_is_done_yet_and_never_more_than_all(clock):
    stream = io.StringIO()
    shown = LineProgress(stream)
    shown.start("day 1, models", 6, "models")
    clock.now_s += 30.0
    shown.advance(0, "training ican")
    clock.now_s += 30.0
    shown.advance(7)
    shown.finish()
    assert stream.getvalue().splitlines() == [
        "day 1, models: 0/6 models, training ican",
        "day 1, models: 6/6 models, 10 s each, 60.0 s",
    ]
