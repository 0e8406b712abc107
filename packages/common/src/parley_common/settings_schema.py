"""The JSON Schema of a section as a file may write it.

A reference such as `${PORT}` is text until it is replaced, so the schema lets it stand for any scalar.
"""

from typing import Any

from pydantic import BaseModel

_REFERENCE = {"type": "string", "pattern": r"\$\{"}
_SCALARS = {"integer", "number", "boolean", "string"}
_ANNOTATIONS = ("title", "description", "default", "examples", "writeOnly")
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def settings_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a section's model."""
    schema: dict[str, Any] = _relaxed(model.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _relaxed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    # Pydantic leaves the bounds of a validated number under its own names.
    schema = {_BOUNDS.get(key, key): _inner(key, value) for key, value in schema.items()}
    if "oneOf" in schema:
        # With a reference as its discriminator a value may fit several branches.
        schema["anyOf"] = schema.pop("oneOf")
        schema.pop("discriminator", None)
    if not _limits_a_scalar(schema):
        return schema
    annotations = {key: schema.pop(key) for key in _ANNOTATIONS if key in schema}
    return {**annotations, "anyOf": [schema, _REFERENCE]}


def _inner(key: str, value: Any) -> Any:
    if key in ("properties", "$defs", "patternProperties"):
        return {name: _relaxed(schema) for name, schema in value.items()}
    if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [_relaxed(schema) for schema in value]
    if key in ("items", "additionalProperties"):
        return _relaxed(value)
    return value


def _limits_a_scalar(schema: dict[str, Any]) -> bool:
    """Tell whether the schema would refuse some text where a scalar stands."""
    if "const" in schema or "enum" in schema:
        return True
    kind = schema.get("type")
    if kind == "string":
        return not schema.keys() <= {"type", "format", *_ANNOTATIONS} or schema.get("format") not in (None, "password")
    return kind in _SCALARS
