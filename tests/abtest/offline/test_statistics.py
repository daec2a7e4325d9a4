"""Table 1: counts beside the paper's."""

import csv
import io

import jsonschema
import pytest
import yaml

from abtest.offline.dataset_statistics import count_table, run_statistics, shape_table
from abtest.scenario_files import load_scenario
from abtest.schema import results_schema
from micrec.errors import MicrecError

from .fakes import tiny_dataset

KEYS = {
    "kind": "statistics",
    "name": "tiny",
    "datasets": {"shop": {"data": "shop", "paper": "video"}, "other": {"data": "other", "label": "Other & more"}},
    "paper": {"video": {"label": "Video-636M", "counts": {"users": 1000, "items": 100, "clicks": 25_000}}},
}


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)


def file(folder, **changes):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**KEYS, **changes}, sort_keys=False), encoding="utf-8")
    return path


def test_counts_and_ratios(tmp_path):
    scenario, resolved = load_scenario(file(tmp_path))
    out = tmp_path / "run"
    results = run_statistics(scenario, out, resolved=resolved, command="x", read=lambda path: tiny_dataset(path.name))
    jsonschema.validate(results, results_schema())
    rows = {row[0]: row[1:] for row in count_table(results).rows}
    assert rows["shop"][:2] == ("3", "2")
    assert rows["shop"][3:6] == ("20", "16", "4")
    assert rows["Video-636M (the paper's)"] == ("1,000", "100", "", "25,000", "", "", "")
    header, *ratios = (shape_table(results).header, *shape_table(results).rows)
    place = header.index("clicks per user")
    assert [row[place] for row in ratios] == ["6.67", "6.67", "25"]
    assert "Other \\& more" in (out / "table.tex").read_text("utf-8")
    assert "Other &amp; more" in (out / "report.html").read_text("utf-8")
    lines = list(csv.DictReader(io.StringIO((out / "table.csv").read_text("utf-8"))))
    assert [line["clicks"] for line in lines] == ["20", "20", "25000"]


def test_one_dataset_by_data(tmp_path):
    scenario, resolved = load_scenario(file(tmp_path), ["data=my/log"])
    results = run_statistics(scenario, tmp_path / "r", resolved=resolved, read=lambda path: tiny_dataset(path.name))
    assert list(results["datasets"]) == ["log"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("datasets.shop.paper=vdeo", "datasets.shop.paper: the paper has no vdeo: did you mean video?"),
        (
            "datasets.shop.base={train: {epochs: 1}}",
            "datasets.shop: base and rows are of models, and nothing is trained",
        ),
        ("split.test_fracton=0.1", "split.test_fracton: unknown key, did you mean test_fraction?"),
        ("datasets={}", "datasets"),
    ],
)
def test_what_is_refused(tmp_path, override, message):
    path = file(tmp_path, datasets={}) if override == "datasets={}" else file(tmp_path)
    with pytest.raises(MicrecError) as caught:
        load_scenario(path, [override])
    assert message in str(caught.value)
