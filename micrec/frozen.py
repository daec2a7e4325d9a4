"""The base of all configs."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of all configs: immutable, finite, unknown keys refused, no silent type conversion but int to float.

    Keys that may be infinite stay so when a config is written as JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")
