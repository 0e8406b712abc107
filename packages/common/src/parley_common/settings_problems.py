"""Turns a validation error into sentences that name the option and say what would be right.

Pydantic's own path of a mistake holds more than the option's: in a union also the branch it tried. Which pieces are the
option's can't be seen from the pieces, so the path is followed through the model's annotations.
"""

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_KINDS = {
    "missing": "is required",
    "model_type": "must be a mapping of options",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "invalid_key": "the option's name must be text",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the settings."""

    path: str
    """The option, such as `llm.upstreams.main.base_url`, or the file."""
    message: str

    def __str__(self) -> str:
        """Return the line that a person reads."""
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class _Found:
    path: tuple[str, ...]
    message: str
    misfit: bool
    """Whether the value is of another kind than one branch of a union."""


def problems_from(
    error: ValidationError, model: type[BaseModel], section: str, origins: Mapping[str, str]
) -> list[Problem]:
    """Return one problem for each option that is wrong; `origins` names the variable an option's value came from."""
    found = [_found(detail, model) for detail in error.errors(include_url=False, include_input=False)]
    messages: dict[str, list[str]] = {}
    for one in found:
        # A mistake inside one branch of a union tells more than that the value doesn't fit the others at all.
        if one.misfit and any(not other.misfit and other.path[: len(one.path)] == one.path for other in found):
            continue
        said = messages.setdefault(".".join((section, *one.path)), [])
        if one.message not in said:
            said.append(one.message)
    return [Problem(path, " or ".join(said) + _origin(path, origins)) for path, said in messages.items()]


def closest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: a suggestion, or what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _origin(path: str, origins: Mapping[str, str]) -> str:
    return f" (set by {origins[path]})" if path in origins else ""


def _found(detail: ErrorDetails, model: type[BaseModel]) -> _Found:
    kind = detail["type"]
    path: list[str] = []
    parents: list[Any] = []
    places: list[Any] = [model]
    branch = False
    for piece in detail["loc"]:
        parents = places
        branches = [member for place in places if len(_members(place)) > 1 for member in _members(place)]
        branch = bool(branches)
        if branch:
            named = [member for member in branches if str(piece) in _labels(member)]
            places = named or branches
        elif piece == "[key]":
            break
        else:
            path.append(str(piece))
            places = [inner for place in places for inner in _inside(place, piece)]
    if kind == "extra_forbidden":
        known = [name for parent in parents for section in _models(parent) for name in section.model_fields]
        return _Found(tuple(path), "unknown option" + closest(path[-1], known), misfit=False)
    context = detail.get("ctx", {})
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        # Pydantic's text would repeat the value.
        path.append(str(context["discriminator"]).strip("'"))
        expected = str(context.get("expected_tags", ""))
        return _Found(tuple(path), f"must be one of {expected}" if expected else "is required", misfit=False)
    if kind == "string_pattern_mismatch":
        return _Found(tuple(path), f"must match the pattern {context['pattern']}", misfit=False)
    return _Found(tuple(path), _message(kind, detail["msg"]), misfit=branch and kind.endswith("_type"))


def _members(annotation: Any) -> list[Any]:
    """Return what a value may be: the branches of a union without None, else the annotation alone."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [member for arg in get_args(annotation) if arg is not type(None) for member in _members(arg)]
    return [annotation]


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [member for member in _members(annotation) if isinstance(member, type) and issubclass(member, BaseModel)]


def _labels(member: Any) -> set[str]:
    """Return how pydantic may call this branch of a union: by its class, or by the value of its discriminator."""
    labels = {getattr(member, "__name__", "")}
    for model in _models(member):
        fixed = (field.annotation for field in model.model_fields.values() if get_origin(field.annotation) is Literal)
        labels.update(str(value) for annotation in fixed for value in get_args(annotation))
    return labels


def _inside(annotation: Any, piece: int | str) -> list[Any]:
    """Return the annotations of what a value has under this name, key or index."""
    (place,) = _members(annotation)
    sections = _models(place)
    if sections:
        field = sections[0].model_fields.get(str(piece))
        return [] if field is None else [field.annotation]
    args = get_args(place)
    if isinstance(get_origin(place), type) and issubclass(get_origin(place), Mapping):
        return [args[1]]
    if get_origin(place) is tuple and Ellipsis not in args and isinstance(piece, int):
        return list(args[piece : piece + 1])
    return list(args[:1])


def _message(kind: str, text: str) -> str:
    if kind in _KINDS:
        return _KINDS[kind]
    if kind == "value_error":
        return text.removeprefix("Value error, ")
    return "must be" + text.removeprefix("Input should be") if text.startswith("Input should be") else text
