"""The file of past lifts: what is written is read back, and mistakes are told."""

import json

import pytest

from abtest.analysis.lift_prior import LiftPrior, load_prior, write_prior
from micrec.errors import MicrecError


def test_what_is_written_is_read_back(tmp_path):
    priors = {"ACC": LiftPrior(mean=0.004, sd=0.012, tests=14, mean_se=0.003), "CTR": LiftPrior(mean=0.0, sd=0.0)}
    write_prior(tmp_path / "prior.yaml", priors)
    assert load_prior(tmp_path / "prior.yaml") == priors


def test_json_is_read_too(tmp_path):
    path = tmp_path / "prior.json"
    path.write_text(json.dumps({"schema": "micrec-lift-prior/1", "metrics": {"ACC": {"mean": 0, "sd": 0.02}}}))
    assert load_prior(path)["ACC"].sd == 0.02


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("schema: micrec-lift-prior/2\nmetrics: {ACC: {mean: 0, sd: 1}}", "schema"),
        ("schema: micrec-lift-prior/1\nmetrics: {ACC: {mean: 0, sd: -1}}", "metrics.ACC.sd"),
        ("schema: micrec-lift-prior/1\nmetrics: {ACC: {mean: 0}}", "metrics.ACC.sd"),
        ("schema: micrec-lift-prior/1\nmetrics: {}", "metrics"),
    ],
)
def test_mistakes(tmp_path, text, part):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(MicrecError, match=part):
        load_prior(tmp_path / "p.yaml")
