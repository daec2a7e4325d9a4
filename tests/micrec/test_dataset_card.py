"""The card of a dataset folder: parsed as a hub would, and resolved to the very files."""

import numpy as np
import polars as pl
import pytest
import yaml

from micrec.data.dataset_card import CARD_FILE, card_of
from micrec.data.schema import DatasetSchema
from micrec.data.store import read_dataset, write_dataset

from .factories import random_frames, write_random


def front_matter(folder):
    """What stands between the first two lines of dashes."""
    text = (folder / CARD_FILE).read_text(encoding="utf-8")
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    return yaml.safe_load(head), body


@pytest.fixture
def folder(tmp_path):
    return write_random(tmp_path / "shop", np.random.default_rng(0))


def test_each_configuration_names_files_with_its_rows(folder):
    """As ``datasets`` resolves them: glob patterns relative to the card."""
    keys, body = front_matter(folder)
    dataset = read_dataset(folder)
    sizes = {"clicks": len(dataset.clicks), "users": len(dataset.users), "items": len(dataset.items)}
    assert [one["config_name"] for one in keys["configs"]] == list(sizes)
    assert [one["config_name"] for one in keys["configs"] if one.get("default")] == ["clicks"]
    for one in keys["configs"]:
        files = sorted(folder.glob(one["data_files"]))
        assert sum(len(pl.read_parquet(file)) for file in files) == sizes[one["config_name"]]
        assert f"## {one['config_name']}: {sizes[one['config_name']]:,} rows" in body


def test_every_column_is_explained(folder):
    _, body = front_matter(folder)
    for file in ("clicks.parquet", "users.parquet", "items.parquet"):
        for column in pl.scan_parquet(folder / file).collect_schema():
            assert f"| `{column}` | " in body
    assert "| `title` | text; shown to users |" in body


def test_a_folder_may_be_called_like_a_pattern_and_a_column_hold_a_bar(tmp_path):
    schema, users, items, clicks = random_frames(np.random.default_rng(0))
    folder = tmp_path / "shop [2026]*"
    write_dataset(folder, schema, users, items, clicks)
    assert f"## clicks: {len(clicks):,} rows" in (folder / CARD_FILE).read_text(encoding="utf-8")
    parts = folder / "clicks"
    parts.mkdir()
    (folder / "clicks.parquet").rename(parts / "part-00000.parquet")
    renamed = schema.model_copy(update={"items": {"a|b": next(iter(schema.items.values()))}})
    text = card_of(folder, renamed)
    assert f"## clicks: {len(clicks):,} rows" in text
    assert "| `a\\|b` | " in text


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("CC BY-SA 4.0", {"license": "cc-by-sa-4.0"}),
        ("unknown", {"license": "unknown"}),
        ("research use only", {"license": "other", "license_name": "research use only"}),
    ],
)
def test_licences_are_those_of_the_hub(tmp_path, licence, expected):
    schema, *tables = random_frames(np.random.default_rng(0))
    write_dataset(tmp_path / "shop", schema.model_copy(update={"licence": licence}), *tables)
    keys, _ = front_matter(tmp_path / "shop")
    assert {key: keys[key] for key in keys if key.startswith("license")} == expected


def test_parts_and_what_was_dropped(tmp_path):
    log = pl.DataFrame({"user_id": [1, 2], "item_id": [1, 1], "timestamp": [1_600_000_000, 1_600_000_060]})
    schema = DatasetSchema(name="parts: two", provenance={"dropped": {"cancelled": 1_234}})
    tables = pl.DataFrame({"user_id": [1, 2]}), pl.DataFrame({"item_id": [1]})
    write_dataset(tmp_path / "d", schema, *tables, iter([log[:1], log[1:]]))
    keys, body = front_matter(tmp_path / "d")
    assert keys["configs"][0]["data_files"] == "clicks/part-*.parquet"
    assert keys["pretty_name"] == "parts: two"
    assert keys["size_categories"] == ["n<1K"]
    assert "- cancelled: 1,234" in body


def test_the_card_follows_from_the_folder_and_moves_no_fingerprint(folder):
    before = read_dataset(folder).fingerprint
    text = (folder / CARD_FILE).read_text()
    assert card_of(folder, read_dataset(folder).schema) == text
    (folder / CARD_FILE).unlink()
    assert read_dataset(folder).fingerprint == before
