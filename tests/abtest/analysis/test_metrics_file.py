"""Metrics of one's own: read whole, refused whole."""

from pathlib import Path

import pytest

from abtest.analysis.metrics import BUILTIN, default_metrics, load_metrics
from micrec.errors import MicrecError

EXAMPLE = Path(__file__).parents[3] / "scenarios" / "metrics.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "metrics.yaml"
    path.write_text(text)
    return path


def test_the_example_is_valid():
    metrics, slices = load_metrics(EXAMPLE)
    roles = {metric.name: metric.role for metric in metrics}
    assert roles["ACC"] == "primary"
    assert "guardrail" in roles.values()
    assert slices


def test_the_paper_s_metrics_are_there_by_name():
    assert {"ACC", "ADT", "ALR", "AFR", "ACC-c", "ADT-c", "stay", "stay-c", "CTR"} == set(BUILTIN)
    found, left_out = default_metrics({"clicks", "dwell_s"})
    assert [metric.name for metric in found] == ["ACC", "ADT"]
    (line,) = left_out
    assert line.startswith("Not measured, because their columns are missing: ALR (likes), AFR (follows)")
    assert "stay (days)" in line


def test_own_metrics(tmp_path):
    path = write(
        tmp_path,
        """
primary: [LONG]
guardrails: [bounces]
slices: [country]
metrics:
  LONG: {label: long visits, value: "where(dwell_s > 60, 1, 0)"}
  bounces: {numerator: bounced, denominator: visits, direction: down, margin: 0.02}
""",
    )
    (long_, bounces), slices = load_metrics(path)
    assert (long_.label, long_.role, long_.columns) == ("long visits", "primary", ("dwell_s",))
    assert (bounces.direction, bounces.margin, bounces.columns) == ("down", 0.02, ("bounced", "visits"))
    assert bounces.per is not None
    assert slices == ["country"]


def test_every_fault_at_once(tmp_path):
    path = write(
        tmp_path,
        """
primary: [ACC, NOPE, broken]
secondary: [ACC]
metrics:
  broken: {value: "clicks +"}
  unused: {value: clicks}
""",
    )
    with pytest.raises(MicrecError) as fault:
        load_metrics(path)
    text = str(fault.value)
    for part in (
        "4 errors",
        "metrics.broken: expression 'clicks +'",
        "primary: no metric 'NOPE'",
        "secondary: 'ACC' appears twice",
        "metrics.unused: defined and in no list",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("primary: []", "primary"),
        ("metrics: {m: {value: clicks, numerator: clicks}}", "give either value, or numerator and denominator"),
        ("metrics: {m: {numerator: clicks}}", "give either value, or numerator and denominator"),
        ("metrics: {m: {value: clicks, margin: 2}}", "margin"),
        ("metrics: {m: {vlaue: clicks}}", "did you mean value?"),
        ("primery: [ACC]", "did you mean primary?"),
        ("metrics: {m: {value: clicks, direction: sideways}}", "must be one of up, down"),
    ],
)
def test_refused(tmp_path, text, part):
    with pytest.raises(MicrecError) as fault:
        load_metrics(write(tmp_path, text))
    assert part in str(fault.value)
