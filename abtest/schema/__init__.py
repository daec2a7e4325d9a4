"""JSON schemas of the files that other programs read."""

import json
from importlib.resources import files
from typing import Any


def results_schema() -> dict[str, Any]:
    """The schema of ``results.json`` (JSON Schema 2020-12)."""
    schema = json.loads(files("abtest.schema").joinpath("results.schema.json").read_text("utf-8"))
    assert isinstance(schema, dict)
    return schema
