"""Answers with an error status, as an upstream over HTTP would give them: the core decides by these what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parley_llm.jsontext import dump


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error: HTTP status, the member `error` of the body in OpenAI's format, header fields."""

    status: int
    error: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The body of an answer."""
        return dump({"error": dict(self.error)}).encode()

    @property
    def event(self) -> bytes:
        """The event of a stream that has begun. What speaks against the request is told by the code in place of the
        status; anything else is a broken stream.
        """
        code = {"code": self.status} if self.status < 500 else {}
        return b"data: " + dump({"error": {**code, **self.error}}).encode() + b"\n\n"


class RequestError(Exception):
    """The request asks for something that the LangChain object can't give."""

    def __init__(self, message: str, *, param: str, status: int = 400) -> None:
        super().__init__(message)
        self.refusal = Refusal(status, {"message": message, "type": "invalid_request_error", "param": param})


class NoAnswerError(Exception):
    """The Runnable returned something that holds no answer."""


class CutOffError(Exception):
    """A model's answer ended before it was complete, and the Runnable did not mind."""
