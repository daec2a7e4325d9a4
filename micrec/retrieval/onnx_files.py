"""A bundle's towers as ONNX files, with the tables that turn a system's own ids and values into their inputs."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from micrec.errors import MicrecError
from micrec.field_encoder import FieldEncoder
from micrec.models.columns import TITLES
from micrec.retrieval.bundle import Bundle
from micrec.retrieval.exact_vectors import exact_vectors
from micrec.retrieval.onnx_towers import ExportedItemTower, ExportedUserTower, TowerInput

OPSET = 17
BLOCK = 16_384  # items embedded at a time
INLINE_BYTES = 1 << 30  # larger item tables lie in a file of their own: one message of protobuf holds 2 GB at most
TABLE = "item_fields"
NOT_EXPORTABLE = (RuntimeError, AttributeError, TypeError, ValueError, IndexError, torch.onnx.errors.OnnxExporterError)
TABLE_FILE = "item_fields.bin"


def require_onnx() -> None:
    """Refuse where the package is missing.

    Raises:
        MicrecError: With the line that installs it.
    """
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError:
        raise MicrecError('--format onnx needs onnx: pip install "micrec[onnx]", or choose parquet.') from None


def write_towers(bundle: Bundle, folder: Path, *, inline_bytes: int = INLINE_BYTES) -> dict[str, Any]:
    """Write ``user.onnx``, ``item.onnx``, ``items.parquet`` and ``fields.json``.

    Args:
        bundle: What is served.
        folder: Where to write.
        inline_bytes: The largest table of item fields that lies within ``user.onnx``.

    Returns:
        What the files take and give, for the card.

    Raises:
        MicrecError: If the model has operations that ONNX lacks.
    """
    model = bundle.model.eval()
    table = _item_fields(bundle)
    titles = bundle.items.vectors.get(TITLES)
    users, items = (
        ExportedUserTower(model, table[:2]),
        ExportedItemTower(model, 0 if titles is None else titles.shape[1]),
    )
    card = {"user.onnx": _write_tower(users, folder / "user.onnx", model.config.name)}
    _put_table(folder / "user.onnx", table, inline_bytes)
    if items.inputs:
        card["item.onnx"] = _write_tower(items, folder / "item.onnx", model.config.name)
    _items(bundle).write_parquet(folder / "items.parquet")
    fields = {"user": _fields(bundle.user_encoder), "item": _fields(bundle.item_encoder)}
    (folder / "fields.json").write_text(json.dumps(fields, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return {"history_length": model.config.history_length, "opset": OPSET, **card}


@torch.no_grad()
def _item_fields(bundle: Bundle) -> torch.Tensor:
    """Raw field vectors of all items, shape (N, F, D); one row of zeros where there is no item."""
    blocks = [
        bundle.model.embed_items(bundle.items.take(torch.arange(start, min(start + BLOCK, bundle.items.n))))
        for start in range(0, bundle.items.n, BLOCK)
    ]
    table = torch.cat(blocks).float()
    return torch.cat([table, table.new_zeros(max(0, 2 - len(table)), *table.shape[1:])])


def _write_tower(tower: ExportedUserTower | ExportedItemTower, path: Path, name: str) -> dict[str, Any]:
    inputs, outputs = tower.inputs, tower.outputs
    axes = {one.name: dict(enumerate(one.axes)) for one in inputs}
    axes |= {output: {0: inputs[0].axes[0]} for output in outputs}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer: what it takes for constants are sizes of the model
            torch.onnx.export(
                tower.eval(),
                tuple(one.example for one in inputs),
                str(path),
                input_names=[one.name for one in inputs],
                output_names=outputs,
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    except NOT_EXPORTABLE as fault:
        first = next(iter(str(fault).strip().splitlines()), type(fault).__name__)
        raise MicrecError(
            f"--format onnx: the tower {name} cannot be exported ({first}): choose parquet, which needs no tower."
        ) from fault
    return {"inputs": {one.name: _told(one) for one in inputs}, "outputs": outputs}


def _told(one: TowerInput) -> dict[str, Any]:
    fixed = [int(size) for size in one.example.shape[len(one.axes) :]]
    kind = "int64" if one.example.dtype == torch.int64 else "float32"
    return {"shape": [*one.axes, *fixed], "type": kind, "holds": one.about}


def _put_table(path: Path, table: torch.Tensor, inline_bytes: int) -> None:
    """Put the field vectors of all items in the place of the two rows that the tower was traced with."""
    import onnx
    from onnx import TensorProto, numpy_helper

    graph = onnx.load(str(path))
    place = next(one for one in graph.graph.initializer if one.name == TABLE)
    values = table.contiguous().numpy()
    if values.nbytes <= inline_bytes:
        place.CopyFrom(numpy_helper.from_array(values, TABLE))
    else:
        values.tofile(path.with_name(TABLE_FILE))
        del place.dims[:]
        place.dims.extend(values.shape)
        place.ClearField("raw_data")
        place.data_location = TensorProto.EXTERNAL
        entry = place.external_data.add()
        entry.key, entry.value = "location", TABLE_FILE
    onnx.save(graph, str(path))


def _items(bundle: Bundle) -> pl.DataFrame:
    """``item_id`` by row, ``vector`` (null where the index does not list the item), ``prior`` and ``title``."""
    rows = bundle.index_rows
    listed = rows >= 0
    vectors = np.zeros((len(rows), bundle.model.score_dim), np.float32)
    vectors[listed] = exact_vectors(bundle)[rows[listed]]
    column = pl.Series(vectors, dtype=pl.Array(pl.Float32, bundle.model.score_dim))
    found = {"item_id": bundle.item_ids, "vector": column}
    if bundle.model.prior is not None:
        found["prior"] = pl.Series(vectors[:, -1])
    if bundle.titles is not None:
        found["title"] = bundle.titles
    return pl.DataFrame(found).with_columns(pl.when(pl.Series(listed)).then(pl.col("vector")).alias("vector"))


def _fields(encoder: FieldEncoder) -> dict[str, Any]:
    """How a value of each field becomes an input."""
    found: dict[str, Any] = {}
    for spec in encoder.specs:
        if spec.own_id:
            found[spec.name] = {"type": spec.type.value, "codes": "row of the id + 1; 0 = unknown"}
        elif spec.size:
            labels = list(encoder.labels[spec.name])
            found[spec.name] = {
                "type": spec.type.value,
                "codes": "place among the values + 1; 0 = unknown",
                "values": labels,
            }
        else:
            found[spec.name] = {"type": spec.type.value, "mean": spec.mean, "std": spec.std}
    return found
