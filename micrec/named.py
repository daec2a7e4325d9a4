"""Config keys whose value is a name in a registry, and options that the named thing checks itself."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from micrec.faults import fault_lines
from micrec.registry import Registry


class NameIn:
    """Annotation of a text key that names a thing of a registry: ``Annotated[str, NameIn(TOWERS)]``.

    What is registered after the config class was made counts as well.
    """

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "enum": list(self.registry)}

    def _known(self, name: str) -> str:
        if name not in self.registry:
            raise ValueError(f"must be one of {', '.join(self.registry)}")
        return name


def option_faults(model: type[BaseModel], data: Mapping[str, Any], at: str) -> list[str]:
    """Faults of plain data that a model of their own checks, each line beginning with the key below ``at``."""
    try:
        model.model_validate(data)
    except ValidationError as fault:
        return fault_lines(model, fault, data, at)
    return []
