"""Writes the tables of docs/configuration.md from the settings' classes; `--check` says whether they are current."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from parley_formatter.config import FormatterSettings
from parley_gateway.config import GatewaySettings
from parley_llm.config import LLMSettings
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
BEGIN, END = "<!-- options: begin -->", "<!-- options: end -->"
SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("gateway", GatewaySettings),
    ("llm", LLMSettings),
    ("formatter", FormatterSettings),
)


def main() -> int:
    """Write or check; return 1 when the page is stale."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    current = f"{before}{BEGIN}\n{tables()}{END}{after}"
    if "--check" in sys.argv:
        if current != text:
            print("docs/configuration.md is stale: run scripts/settings_docs.py", file=sys.stderr)
        return int(current != text)
    PAGE.write_text(current, encoding="utf-8")
    return 0


def tables() -> str:
    """Return one heading and table for each service."""
    parts = []
    for name, model in SECTIONS:
        rows = "".join(
            f"| `{path}` | {kind} | {default} | {field.description or ''} |\n"
            for path, field, kind, default in options(model, name)
        )
        parts.append(f"\n### `{name}`\n\n| option | type | default | meaning |\n|---|---|---|---|\n{rows}\n")
    return "".join(parts)


def options(model: type[BaseModel], path: str) -> Iterator[tuple[str, FieldInfo, str, str]]:
    """Yield path, field, type and default of every option below a section, depth first."""
    for name, field in model.model_fields.items():
        here = f"{path}.{name}"
        inner, suffix = section_in(field.annotation)
        if inner is None:
            yield here, field, kind_of(field), default_of(field)
        else:
            yield here + suffix, field, "section" if not suffix else "sections", default_of(field)
            yield from options(inner, here + suffix)


def section_in(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """Return the section that an option holds, and how its path goes on: `[]` for lists, `.<name>` for mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return section_in(arguments[1])[0], ".<name>"
    if origin in (tuple, list):
        return section_in(arguments[0])[0], "[]"
    for argument in arguments if origin in (Union, UnionType, Annotated) else ():
        found, suffix = section_in(argument)
        if found is not None:
            return found, suffix
    return None, ""


def kind_of(field: FieldInfo) -> str:
    """Return the type in words."""
    if any("_duration" in repr(each) for each in field.metadata):
        return "duration"
    return words_of(field.annotation)


def words_of(annotation: Any) -> str:
    """Return a type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return words_of(arguments[0])
    if origin is Literal:
        return " \\| ".join(f"`{each}`" for each in arguments)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(words_of(each) for each in arguments if each is not NoneType))
    if origin in (tuple, list):
        return f"list of {words_of(arguments[0])}"
    if origin is dict:
        return "mapping"
    simple = {str: "text", bool: "yes/no", int: "number", float: "number", SecretStr: "secret"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return simple.get(annotation, "path" if "Path" in repr(annotation) else "value")


def default_of(field: FieldInfo) -> str:
    """Return the default as it would be written."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True) if field.default is PydanticUndefined else field.default
    if isinstance(value, BaseModel) or value in (None, "", (), [], {}):
        return ""
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, float) and any("_duration" in repr(each) for each in field.metadata):
        return f"`{duration(value)}`"
    if isinstance(value, dict | list | tuple):
        return ""
    return f"`{value}`"


def duration(seconds: float) -> str:
    """Return seconds in the largest unit that leaves a whole number."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s"


if __name__ == "__main__":
    sys.exit(main())
