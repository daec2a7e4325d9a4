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
    clock.now_s += 5.0
    shown.advance(500)  # too soon for a line
    clock.now_s += 5.0
    shown.advance(1_500, "loss 0.5")
    clock.now_s += 15.0
    shown.advance(3_000)
    shown.finish()
    assert stream.getvalue().splitlines() == [
        "train: 2,000/5,000 samples, 200 samples/s, 15 s left, loss 0.5",
        "train: 5,000/5,000 samples, 200 samples/s, 0 s left",
        "train: 5,000/5,000 samples, 200 samples/s, 25.0 s",
    ]


def test_what_takes_seconds_each_is_told_so(clock):
    stream = io.StringIO()
    shown = LineProgress(stream)
    shown.start("all models", 10, "models")
    clock.now_s += 40.0
    shown.advance(5)
    assert stream.getvalue() == "all models: 5/10 models, 8 s each, 40 s left\n"


def test_what_is_done_in_a_moment_leaves_no_line(clock):
    stream = io.StringIO()
    shown = LineProgress(stream)
    shown.start("reading", 3, "files")
    clock.now_s += 1.0
    shown.advance(3)
    shown.finish()
    assert stream.getvalue() == ""
