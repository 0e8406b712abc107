"""Checks a value against a JSON Schema, as far as our exported schemas use it; an unknown keyword is an error."""

import re
from typing import Any

_SILENT = {"title", "description", "default", "$schema", "$defs", "format", "writeOnly", "type"}
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def fits(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """Tell whether the value is valid. Raises ValueError for a schema that uses something unknown."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    kind_fits = "type" not in schema or (
        isinstance(value, _KINDS[schema["type"]]) and (schema["type"] == "boolean" or not isinstance(value, bool))
    )
    # Every keyword is looked at, also where the kind already decides, so that an unknown one doesn't go unnoticed.
    results = [_keyword_fits(key, value, schema, root) for key in schema.keys() - _SILENT]
    return kind_fits and all(results)


def _keyword_fits(key: str, value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    limit = schema[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match key:
        case "anyOf":
            return any(fits(value, branch, root) for branch in limit)
        case "enum":
            return value in limit
        case "const":
            return bool(value == limit)
        case "pattern":
            return not isinstance(value, str) or re.search(limit, value) is not None
        case "minimum":
            return not number or value >= limit
        case "exclusiveMinimum":
            return not number or value > limit
        case "maximum":
            return not number or value <= limit
        case "minItems" | "maxItems" | "items" | "prefixItems":
            return not isinstance(value, list) or _list_fits(key, value, limit, root)
        case "required" | "properties" | "additionalProperties":
            return not isinstance(value, dict) or _object_fits(key, value, schema, root)
        case _:
            raise ValueError(f"unknown keyword {key}")


def _list_fits(key: str, value: list[Any], limit: Any, root: dict[str, Any]) -> bool:
    match key:
        case "minItems":
            return len(value) >= int(limit)
        case "maxItems":
            return len(value) <= int(limit)
        case "items":
            return all(fits(item, limit, root) for item in value)
        case _:
            return all(fits(item, schema, root) for item, schema in zip(value, limit, strict=False))


def _object_fits(key: str, value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    declared = schema.get("properties", {})
    match key:
        case "required":
            return value.keys() >= set(schema["required"])
        case "properties":
            return all(fits(value[name], inner, root) for name, inner in declared.items() if name in value)
        case _:
            extra = [item for name, item in value.items() if name not in declared]
            return all(fits(item, schema["additionalProperties"], root) for item in extra)
