"""Adam that touches only the rows of an embedding table that a step reads."""

from micrec.optim.adam import RowSparseAdam

__all__ = ["RowSparseAdam"]
