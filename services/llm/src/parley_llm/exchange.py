"""What the fronts and the core hand each other: a call, its course, an answer."""

import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from parley_llm.callers import Caller
from parley_llm.errors import InvalidRequestError
from parley_llm.limits.base import Standing
from parley_llm.usage import Usage

if TYPE_CHECKING:
    from parley_llm.forms.form import Form
    from parley_llm.operations.base import Operation

MAX_ATTEMPTS = 20
MAX_TIMEOUT_MS = 24 * 3600 * 1000
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class Course:
    """How a call went so far, for headers, trailing metadata and logs; the core writes it, the fronts read it."""

    attempts: int = 0
    upstream: str = ""
    model: str = ""
    standing: Standing | None = None
    """Where the caller's limits stood when it was let in or refused; None before."""
    content_type: str = ""
    """The media type of an answer that is raw bytes."""
    adapted: tuple[str, ...] = ()
    """The caller's parameters that the last attempt's target got in another form, or not at all."""
    joined: bool = False
    """Whether the answer is that of an earlier call with the same idempotency key."""


@dataclass(slots=True)
class Call:
    """One call to carry out. Members of the body: `texts` as spelled by the caller, `values` decoded.

    `form` holds the fields and files of an upload; the text fields are among `values` too. `timeout_s` is the caller's
    deadline as seconds from the start, None when it set none. `stream` says that the answer is passed on in pieces.
    """

    operation: "Operation"
    caller: Caller
    request_id: str
    values: dict[str, Any]
    texts: dict[str, str] = field(repr=False)
    form: "Form | None" = field(default=None, repr=False)
    stream: bool = False
    wants_usage: bool = True
    timeout_s: float | None = None
    max_attempts: int | None = None
    upstream: str = ""
    app: str = ""
    """The part of the caller that calls, such as a bot, in its own words."""
    idempotency_key: str = ""
    """Under which the caller may repeat the call and have it made once; empty for none."""
    context: Context | None = None
    course: Course = field(default_factory=Course)
    model: str = field(init=False)
    """The model's name as the caller wrote it, empty when it wrote none."""

    def __post_init__(self) -> None:
        model = self.values.get("model")
        self.model = model if isinstance(model, str) else ""


@dataclass(slots=True)
class Answer:
    """A whole answer: the bytes that leave with their media type, what they used, and decoded if they are JSON."""

    data: bytes
    decoded: dict[str, Any]
    usage: Usage
    content_type: str = "application/json"


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
