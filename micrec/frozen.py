"""The base of all configs."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of all configs: immutable, finite, unknown keys refused, no silent type conversion but int to float."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
