"""What the core asks of an endpoint: check a request, make its body for a target, read the answer, follow the stream.

The defaults fit an endpoint that takes a JSON object and answers with one; a module beside this one overrides what
differs. An operation holds no state: whatever belongs to one call is in the `Call`.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from parley_llm.errors import InvalidRequestError, LLMError, UpstreamProtocolError
from parley_llm.exchange import Answer, Call
from parley_llm.jsontext import load
from parley_llm.presets.schema import OperationName
from parley_llm.upstream.body import Upload
from parley_llm.upstream.errors import error_from_event, reports_error
from parley_llm.upstream.events import StreamEvent
from parley_llm.upstream.shaping import shape_body
from parley_llm.upstream.source import Source
from parley_llm.upstream.sse import MAX_EVENT
from parley_llm.usage import Usage, counted, estimated

if TYPE_CHECKING:
    from parley_llm.calls.routing import Target

_ACCEPT_JSON = b"accept: application/json\r\ncontent-type: application/json\r\n"
_ACCEPT_EVENTS = b"accept: text/event-stream\r\ncontent-type: application/json\r\n"


class Judge(Protocol):
    """Follows one stream. After `feed` or `end`, `error` says what went wrong behind the returned events."""

    error: LLMError | None
    over: bool
    """Whether the answer came to its regular end."""
    usage: dict[str, Any] | None
    text: int
    """Length of the answer so far in bytes of text, for when the upstream counts no tokens."""
    response_id: str
    response_model: str

    @property
    def complete(self) -> bool:
        """Tell whether nothing but formalities can be missing."""

    @property
    def reasons(self) -> list[str]:
        """Why the answer ended, by choice."""

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Return the events that `data` completes."""

    def end(self, cause: str = "") -> list[StreamEvent]:
        """Return what the end of the body completes; `cause` says why the body ended, if not regularly."""


class Operation:
    """An endpoint. `name` is its name in metrics and presets, `gen_ai` OpenTelemetry's name of the kind of work."""

    name: ClassVar[OperationName]
    gen_ai: ClassVar[str]
    path: ClassVar[str]
    answer_type: ClassVar[str] = "json"
    """What the media type of a whole answer contains; empty when there may be any."""
    max_event: ClassVar[int] = MAX_EVENT
    """Length of the longest event of a stream in bytes."""
    named_events: ClassVar[bool] = False
    """Whether a stream's events have names, and an event instead of `[DONE]` ends it."""
    takes_form: ClassVar[bool] = False
    """Whether the request may be multipart/form-data."""
    model_needed: ClassVar[bool] = True
    """Whether a request must name a model; else the default model serves it, or the upstream's own."""
    default_model: ClassVar[bool] = False
    """Whether the configured default model is of the right kind for a request that names none."""

    def check(self, call: Call) -> None:
        """Refuse a request that no upstream could answer. Raises InvalidRequestError."""
        if not isinstance(call.values.get("model", ""), str):
            raise InvalidRequestError("model must be a string.", param="model")
        if self.model_needed and not self.default_model and not call.model:
            raise InvalidRequestError("model is required: name one of the models that /v1/models lists.", param="model")

    def streams(self, values: Mapping[str, Any]) -> bool:
        """Tell whether a request asks for its answer in pieces. Raises InvalidRequestError."""
        streaming = values.get("stream")
        if streaming is not None and not isinstance(streaming, bool):
            raise InvalidRequestError("stream must be true or false.", param="stream")
        return bool(streaming)

    def raw(self, call: Call) -> bool:
        """Tell whether an answer in pieces is raw bytes instead of events."""
        return False

    def media(self, call: Call) -> Iterator[str]:
        """Give every URL that an upstream might fetch for the request."""
        return iter(())

    def refers_to_state(self, call: Call) -> bool:
        """Tell whether a request refers to what the upstream keeps, so that only the first target can serve it."""
        return False

    def lacking(self, call: Call, target: "Target", model: str) -> Mapping[str, str]:
        """Return what the request uses and a target's model lacks, with the parameter that asks for each."""
        return {}

    def headers(self, call: Call, body: bytes | Upload) -> bytes:
        """Return header lines of the request to an upstream, apart from its key."""
        if isinstance(body, bytes):
            return _ACCEPT_EVENTS if call.stream else _ACCEPT_JSON
        accept = "text/event-stream" if call.stream else "*/*"
        return f"accept: {accept}\r\ncontent-type: {body.content_type}\r\n".encode("latin-1")

    def bodies(self, call: Call, target: "Target", model: str) -> list[bytes] | list[Upload]:
        """Return the request's body for a target; several where the upstream takes only so much at a time."""
        adapted: list[str] = []
        body = shape_body(call.texts, model, target.profiles.own, ask_usage=False, adapted=adapted)
        call.course.adapted = tuple(dict.fromkeys(adapted))
        return [body]

    def answer(self, source: Source, call: Call, data: bytes, content_type: str) -> Answer:
        """Read a whole answer. Raises LLMError: a status of 200 proves nothing."""
        decoded = decoded_answer(source, data)
        self.check_answer(source, decoded)
        return Answer(data, decoded, self.usage(call, decoded, len(data)))

    def check_answer(self, source: Source, decoded: dict[str, Any]) -> None:
        """Raise UpstreamProtocolError unless an answer is what the endpoint answers."""

    def merged(self, call: Call, answers: list[Answer]) -> Answer:
        """Return one answer from those to several bodies."""
        raise NotImplementedError

    def follow(self, source: Source, call: Call, media_type: str) -> Judge | None:
        """Return what follows an answer in pieces of a media type; None when that is not what was asked for."""
        return self.judge(source, call) if "event-stream" in media_type or not media_type else None

    def judge(self, source: Source, call: Call) -> Judge:
        """Return what follows a stream of events."""
        raise NotImplementedError

    def usage(self, call: Call, decoded: Mapping[str, Any], said: int) -> Usage:
        """Return what a call used: `decoded` holds the upstream's `usage` if it counted, `said` is the answer's length.

        `decoded` is a whole answer, or what a stream said of its usage.
        """
        usage = decoded.get("usage")
        return counted(usage) if isinstance(usage, dict) else estimated(self.asked(call), said)

    def asked(self, call: Call) -> int:
        """Return the length of the request's text in bytes, for when the upstream counts no tokens."""
        return 0


def decoded_answer(source: Source, data: bytes) -> dict[str, Any]:
    """Decode a JSON answer. Raises LLMError when it isn't an object, or reports an error."""
    try:
        decoded = load(data)
    except ValueError as exc:
        raise protocol_error(source, "something that is not JSON") from exc
    if isinstance(decoded, dict) and reports_error(decoded, source.preset):
        raise error_from_event(source.name, source.preset, decoded, source.secret)
    if not isinstance(decoded, dict):
        raise protocol_error(source, "JSON that is not an object")
    return decoded


def protocol_error(source: Source, what: str) -> UpstreamProtocolError:
    """Return the error for an answer that is `what` instead of what the endpoint answers."""
    return UpstreamProtocolError(f"Upstream {source.name!r} answered with {what}.", metadata={"upstream": source.name})
