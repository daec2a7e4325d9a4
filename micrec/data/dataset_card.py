"""The card of a dataset folder: a README.md whose front matter the Hugging Face hub and its ``datasets`` read.

It names the three tables as configurations (``load_dataset(FOLDER, "clicks")``), licence, sizes and what each column
means. It is for people and hubs: MicRec itself reads ``dataset.yaml``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from micrec.data.schema import DatasetSchema, FieldType

CARD_FILE = "README.md"
LICENCES = {"MIT": "mit", "CC BY 4.0": "cc-by-4.0", "CC BY-SA 4.0": "cc-by-sa-4.0", "CC0 1.0": "cc0-1.0"}
UNKNOWN = "unknown"
SIZES = ((10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M"), (10**9, "1B"))
MEANINGS = {
    FieldType.ID: "identifier of something",
    FieldType.CATEGORICAL: "one of several values",
    FieldType.MULTI_CATEGORICAL: "a list of values",
    FieldType.NUMERIC: "number",
    FieldType.TEXT: "text",
    FieldType.TIMESTAMP: "moment",
    FieldType.VECTOR: "vector of numbers",
}
ROLES = {
    "title": "shown to users",
    "category": "the category of the item",
    "taxonomy": "its place in the taxonomy",
    "content": "its content, encoded",
}
CLICK_MEANINGS = {
    "user_id": "who clicked, a row of `users`",
    "item_id": "what was clicked, a row of `items`",
    "dwell_s": "seconds spent on the item",
    "like": "whether it was liked",
    "follow": "whether its provider was followed from it",
}
TIMES = {"s": "seconds since 1970-01-01 UTC", "ms": "milliseconds since 1970-01-01 UTC", "datetime": "a date and time"}


def write_card(folder: Path, schema: DatasetSchema) -> None:
    """Write README.md into a folder that holds all else; the same folder gives the same bytes."""
    (folder / CARD_FILE).write_text(card_of(folder, schema), encoding="utf-8")


def card_of(folder: Path, schema: DatasetSchema) -> str:
    """The text of the card, from the schema and the Parquet files of a folder."""
    files = {"clicks": _click_files(folder), "users": "users.parquet", "items": "items.parquet"}
    scans = {  # listed here, as Polars would take the folder's own name for a pattern too
        name: pl.scan_parquet(sorted(folder.glob(pattern)), glob=False, hive_partitioning=False)
        for name, pattern in files.items()
    }
    rows = {name: int(scan.select(pl.len()).collect().item()) for name, scan in scans.items()}
    columns = list(scans["clicks"].collect_schema())
    tables = [
        _table("clicks", rows["clicks"], _click_columns(columns, schema)),
        _table("users", rows["users"], {"user_id": "identifier of the user", **_fields(schema.users, {})}),
        _table("items", rows["items"], {"item_id": "identifier of the item", **_fields(schema.items, _roles(schema))}),
    ]
    front = yaml.safe_dump(_front_matter(schema, rows["clicks"], files), sort_keys=False, allow_unicode=True, width=120)
    truth = (
        ["`ground_truth/` holds what no model may see: why each click was made, hidden tastes and topics.\n"]
        if (folder / "ground_truth").is_dir()
        else []
    )
    parts = [f"---\n{front}---", f"# {schema.name}\n", *_origin(schema), *tables, *truth, _use(schema)]
    return "\n".join(parts)


def _front_matter(schema: DatasetSchema, clicks: int, files: Mapping[str, str]) -> dict[str, Any]:
    licence = LICENCES.get(schema.licence, UNKNOWN if schema.licence == UNKNOWN else "other")
    named = {"license_name": schema.licence} if licence == "other" else {}
    return {
        "license": licence,
        **named,
        "pretty_name": schema.name,
        "size_categories": [_size(clicks)],
        "tags": ["recommendation", "click-log", "micrec"],
        "configs": [
            {"config_name": name, "data_files": pattern, **({"default": True} if name == "clicks" else {})}
            for name, pattern in files.items()
        ],
    }


def _click_files(folder: Path) -> str:
    return "clicks.parquet" if (folder / "clicks.parquet").is_file() else "clicks/part-*.parquet"


def _size(rows: int) -> str:
    """The hub's word for a number of rows."""
    names = ["n", *(name for _, name in SIZES)]
    place = sum(rows >= least for least, _ in SIZES)
    if place == 0:
        return "n<1K"
    return f"{names[place]}<n<{names[place + 1]}" if place < len(SIZES) else "n>1B"


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _origin(schema: DatasetSchema) -> list[str]:
    told = [f"{schema.source}\n"] if schema.source else []
    told.append(f"Licence: {schema.licence}. Days are those of {schema.timezone}, from {schema.day_starts_at}.\n")
    dropped = schema.provenance.get("dropped")
    if isinstance(dropped, Mapping) and dropped:
        told.append(
            "Left out of the source:\n\n" + "".join(f"- {why}: {_count(count)}\n" for why, count in dropped.items())
        )
    return told


def _table(name: str, rows: int, columns: Mapping[str, str]) -> str:
    lines = "".join(f"| `{_cell(column)}` | {meaning} |\n" for column, meaning in columns.items())
    return f"## {name}: {rows:,} rows\n\n| column | meaning |\n|---|---|\n{lines}"


def _cell(text: str) -> str:
    """Text that does not end its cell of a Markdown table."""
    return text.replace("|", "\\|")


def _click_columns(columns: list[str], schema: DatasetSchema) -> dict[str, str]:
    meanings = {**CLICK_MEANINGS, "timestamp": TIMES[schema.time_unit]}
    return {column: meanings.get(column, "") for column in columns}


def _roles(schema: DatasetSchema) -> dict[str, str]:
    """What a field is for, by its name."""
    return {field: ROLES[role] for role, field in schema.roles.model_dump().items() if field is not None}


def _fields(fields: Mapping[str, FieldType], roles: Mapping[str, str]) -> dict[str, str]:
    return {name: f"{MEANINGS[kind]}{f'; {roles[name]}' if name in roles else ''}" for name, kind in fields.items()}


def _use(schema: DatasetSchema) -> str:
    return (
        "## Use\n\n```python\nfrom datasets import load_dataset\n\n"
        'clicks = load_dataset("FOLDER", "clicks", split="train")  # users, items likewise\n```\n\n'
        "```bash\nmicrec describe FOLDER\nmicrec train FOLDER OUT\n```\n"
    )
