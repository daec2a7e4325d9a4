"""Config keys whose value is a name in a registry, and options that the named thing checks itself."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from micrec.faults import KeyFaults, fault_lines
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


def checked_options(model: type[BaseModel], given: Mapping[str, Any]) -> Any:
    """Options as an instance of the class that checks them; nothing is converted but integers to numbers.

    Raises:
        KeyFaults: Every key that is unknown or wrong.
    """
    try:
        return model.model_validate_json(json.dumps(given, default=str), strict=True)
    except ValidationError as fault:
        raise KeyFaults(fault_lines(model, fault, given)) from None


def inlined_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model in which no part refers to another, so that it may stand inside another schema."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(part) for part in node]
        if not isinstance(node, dict):
            return node
        if reference := node.get("$ref"):
            rest = {key: value for key, value in node.items() if key != "$ref"}
            return {**inline(definitions[reference.rsplit("/", 1)[-1]]), **inline(rest)}
        return {key: inline(value) for key, value in node.items()}

    found = inline(schema)
    assert isinstance(found, dict)
    return found
