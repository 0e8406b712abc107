"""JSON objects as text: the values for reading, the original spelling of each member for passing on.

Decoding a request and encoding it again would change numbers (`1e400`, integers beyond 64 bits, long
decimals) and so corrupt parameters we do not even know. Here a member that nobody changes keeps its text.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Numbers are only ever looked at, never passed on from here, so a float is enough and bounds the work.
# Both functions are the decoder's own, in C; type stubs leave them out.
_scan_value: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(
    parse_int=float, parse_constant=_refuse_constant
).scan_once  # type: ignore[attr-defined]
_scan_string: Callable[[str, int, bool], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]
_skip_space = re.compile(r"[ \t\n\r]*").match
# A member's name without escapes, with all that stands around it before the value: one match instead of four steps.
_plain_name = re.compile(r'[ \t\n\r]*"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*').match


@dataclass(slots=True)
class JSONObject:
    """An object's members in order: `values` decoded (numbers as floats), `texts` as they were spelled."""

    values: dict[str, Any]
    texts: dict[str, str]


def _space_end(text: str, start: int) -> int:
    match = _skip_space(text, start)
    return match.end() if match else start


def parse_object(data: bytes | str) -> JSONObject:
    """Parse one JSON object. Raises ValueError when it is anything else, or nested too deeply."""
    try:
        text = data.decode() if isinstance(data, bytes) else data
        return _parse_object(text)
    except (StopIteration, IndexError, RecursionError):
        raise ValueError("not a complete JSON object") from None


def _parse_object(text: str) -> JSONObject:
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    at = _space_end(text, 0)
    if text[at] != "{":
        raise ValueError("not a JSON object")
    at = _space_end(text, at + 1)
    if text[at] == "}":
        at += 1
    else:
        while True:
            plain = _plain_name(text, at)
            name, start = (plain[1], plain.end()) if plain else _name(text, _space_end(text, at))
            values[name], end = _scan_value(text, start)
            texts[name] = text[start:end]
            at = end if text[end] in ",}" else _space_end(text, end)
            if text[at] == "}":
                at += 1
                break
            if text[at] != ",":
                raise ValueError(f"',' or '}}' is expected at character {at}")
            at += 1
    if _space_end(text, at) != len(text):
        raise ValueError(f"something follows the JSON object at character {at}")
    return JSONObject(values, texts)


def _name(text: str, at: int) -> tuple[str, int]:
    """Return the name of the member at a position, and where its value begins."""
    if text[at] != '"':
        raise ValueError(f"a member name is expected at character {at}")
    name, at = _scan_string(text, at + 1, True)
    at = _space_end(text, at)
    if text[at] != ":":
        raise ValueError(f"':' is expected at character {at}")
    return name, _space_end(text, at + 1)


def parse_array(text: str) -> list[str]:
    """Split a JSON array into the texts of its elements. Raises ValueError when it is anything else."""
    elements: list[str] = []
    try:
        at = _space_end(text, 0)
        if text[at] != "[":
            raise ValueError("not a JSON array")
        at = _space_end(text, at + 1)
        while text[at] != "]":
            _, end = _scan_value(text, at)
            elements.append(text[at:end])
            at = _space_end(text, end)
            if text[at] == ",":
                at = _space_end(text, at + 1)
            elif text[at] != "]":
                raise ValueError(f"',' or ']' is expected at character {at}")
    except (StopIteration, IndexError, RecursionError):
        raise ValueError("not a complete JSON array") from None
    return elements


def repeats_a_name(text: str) -> bool:
    """Tell whether an object anywhere in a JSON text has two members of one name.

    Readers disagree about which of the two counts (RFC 8259, 4), so what was checked may not be what is used.
    """
    try:
        _STRICT.decode(text)
    except _RepeatedNameError:
        return True
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return False


class _RepeatedNameError(Exception):
    """Ends decoding at the first object with two members of one name."""


def _distinct(members: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in members}) < len(members):
        raise _RepeatedNameError


_STRICT = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=float)


def _name_text(name: str) -> str:
    return f'"{name}"' if name.isidentifier() and name.isascii() else json.dumps(name)


def join_object(texts: Mapping[str, str]) -> str:
    """Spell an object from the texts of its members."""
    return "{" + ",".join([f"{_name_text(name)}:{text}" for name, text in texts.items()]) + "}"


def join_array(texts: Iterable[str]) -> str:
    """Spell an array from the texts of its elements."""
    return "[" + ",".join(texts) + "]"


def load(data: bytes) -> Any:
    """Decode any JSON value. Raises ValueError.

    The fast decoder refuses numbers beyond a double's range and halves of surrogate pairs, which are JSON all the
    same (RFC 8259, 6 and 8.2), and which a vendor may send; the standard library takes them.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data, parse_constant=_refuse_constant)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def dump(value: object) -> str:
    """Spell a plain value (string, number, list, dict) as JSON text. Raises ValueError when it is anything else."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # Integers beyond 64 bits and halves of surrogate pairs; see `load`.
        try:
            return json.dumps(value, allow_nan=False)
        except TypeError as exc:
            raise ValueError(str(exc)) from exc
