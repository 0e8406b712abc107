"""What the fronts and the core hand each other: a call, its course, an answer."""

import random
import re
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.context import Context

from parley_llm.callers import Caller
from parley_llm.errors import InvalidRequestError

MAX_CHOICES = 128
MAX_ATTEMPTS = 20
MAX_TIMEOUT_MS = 24 * 3600 * 1000
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class Course:
    """How a call went so far, for headers, trailing metadata and logs; the core writes it, the fronts read it."""

    attempts: int = 0
    upstream: str = ""
    model: str = ""
    adapted: tuple[str, ...] = ()
    """The caller's parameters that the last attempt's target got in another form, or not at all."""


@dataclass(slots=True)
class ChatCall:
    """One chat completion to carry out. Members of the body: `texts` as spelled by the caller, `values` decoded.

    `timeout_s` is the caller's deadline as seconds from the start, None when it set none.
    """

    caller: Caller
    request_id: str
    values: dict[str, Any]
    texts: dict[str, str] = field(repr=False)
    wants_usage: bool = True
    timeout_s: float | None = None
    max_attempts: int | None = None
    upstream: str = ""
    context: Context | None = None
    course: Course = field(default_factory=Course)
    model: str = field(init=False)
    """The model's name as the caller wrote it, empty when it wrote none."""

    def __post_init__(self) -> None:
        model = self.values.get("model")
        self.model = model if isinstance(model, str) else ""

    @property
    def choices(self) -> int:
        """How many choices the caller asked for; 1 when it did not say or said nonsense, which the upstream refuses."""
        number = self.values.get("n")
        return int(number) if isinstance(number, float) and 1 <= number <= MAX_CHOICES else 1


@dataclass(slots=True)
class Completion:
    """A complete answer: the JSON text that leaves, and decoded."""

    data: bytes
    decoded: dict[str, Any]


def whole_number(name: str, text: str, most: int) -> int | None:
    """Return what a header or metadata entry says, None when it is empty. Raises InvalidRequestError."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:12]) <= most:
        raise InvalidRequestError(f"{name} must be a whole number from 1 to {most}.")
    return int(text)


def printable(text: str) -> str:
    """Return text as a header value: a model's name may come from the caller and hold anything."""
    if text.isascii() and text.isprintable():
        return text[:200]
    return "".join(character for character in text if " " <= character <= "~")[:200]


def request_id_from(offered: str | None) -> str:
    """Return the caller's request id when it is harmless, else a new one."""
    return offered if offered and _REQUEST_ID.fullmatch(offered) else f"{random.getrandbits(128):032x}"
