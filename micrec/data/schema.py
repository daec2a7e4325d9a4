"""``dataset.yaml``: the description of a dataset folder."""

import re
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from micrec.data.times import LogDays, check_timezone
from micrec.errors import MicrecError


class FieldType(StrEnum):
    """What a column holds; only the first four can be embedded by a tower."""

    ID = "id"
    CATEGORICAL = "categorical"
    MULTI_CATEGORICAL = "multi_categorical"
    NUMERIC = "numeric"
    TEXT = "text"
    TIMESTAMP = "timestamp"
    VECTOR = "vector"


EMBEDDABLE = (FieldType.ID, FieldType.CATEGORICAL, FieldType.MULTI_CATEGORICAL, FieldType.NUMERIC)


class Roles(BaseModel):
    """Which item fields play which part; each is the name of an item field or null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str | None = Field(None, description="Text field shown to users; semantic positives come from it.")
    category: str | None = Field(None, description="Categorical field; session pairs within one category are boosted.")
    taxonomy: str | None = Field(None, description="Categorical or multi-valued field of the taxonomy positives.")
    content: str | None = Field(None, description="Vector field of the content positives.")


class DatasetSchema(BaseModel):
    """The contents of ``dataset.yaml``.

    ``users.parquet`` holds ``user_id`` and the fields of ``users``; ``items.parquet`` holds ``item_id`` and the
    fields of ``items``; clicks hold ``user_id, item_id, timestamp`` and any of ``dwell_s, like, follow``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    micrec_dataset: Literal[1] = Field(1, description="Version of this layout.")
    name: str = Field(description="Short name, printed in tables.")
    licence: str = Field("unknown", description="Licence of the data.")
    source: str = Field("", description="Where the data came from, with its citation.")
    time_unit: Literal["s", "ms", "datetime"] = Field("s", description="Unit of clicks.timestamp.")
    timezone: str = Field("UTC", description="IANA zone whose days count, as for split.test_days: Europe/Oslo.")
    day_starts_at: str = Field("00:00", description="Clock time at which a day starts, HH:MM.")
    users: dict[str, FieldType] = Field(default_factory=dict, description="User fields with their types.")
    items: dict[str, FieldType] = Field(default_factory=dict, description="Item fields with their types.")
    roles: Roles = Field(default_factory=Roles, description="Which item fields play which part.")
    provenance: dict[str, Any] = Field(
        default_factory=dict, description="Reader, input files, and counts of dropped rows."
    )

    @field_validator("micrec_dataset", mode="before")
    @classmethod
    def _is_a_number(cls, version: object) -> object:
        if isinstance(version, bool):  # which equals 1
            raise ValueError("must be 1")
        return version

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            check_timezone(name, "")
        except MicrecError as fault:
            raise ValueError(str(fault).removeprefix(": ")) from None
        return name

    @field_validator("day_starts_at", mode="before")
    @classmethod
    def _is_a_clock_time(cls, time: object) -> object:
        if isinstance(time, int) and not isinstance(time, bool) and 0 <= time < 1440:  # 10:00 in YAML 1.1 is 600
            time = f"{time // 60:02d}:{time % 60:02d}"
        if isinstance(time, str) and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", time):
            raise ValueError("must be a clock time such as 04:00")
        return time

    @property
    def days(self) -> LogDays:
        """How the log is cut into days."""
        return LogDays(self.timezone, self.day_starts_at)
