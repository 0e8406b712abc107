"""One call over HTTP: the request becomes a `Call`, the answer or stream leaves in OpenAI's format."""

import asyncio
from dataclasses import dataclass
from typing import Any

from opentelemetry.propagate import extract

from parley_llm.calls.core import Core
from parley_llm.calls.idempotency import SharedStream, idempotency_key
from parley_llm.calls.streams import Stream
from parley_llm.errors import InvalidRequestError
from parley_llm.exchange import MAX_ATTEMPTS, MAX_TIMEOUT_MS, Call
from parley_llm.forms.form import Form, FormLimits
from parley_llm.forms.multipart import read_form
from parley_llm.http.exchange import HTTPExchange
from parley_llm.jsontext import dump, parse_object
from parley_llm.operations.base import Operation
from parley_llm.upstream.events import StreamEvent

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


class HTTPCalls:
    """Serves the endpoints that make calls. `keep_alive_s` is the interval of a waiting event stream's comments."""

    def __init__(self, core: Core, *, keep_alive_s: float, max_body: int, forms: FormLimits) -> None:
        self._core = core
        self._keep_alive_s = keep_alive_s
        self._max_body = max_body
        self._forms = forms

    async def serve(self, exchange: HTTPExchange, operation: Operation) -> None:
        """Carry out one request. Raises LLMError, ClientGoneError."""
        caller = self._core.routing.callers.authenticate(exchange.header(b"authorization"))
        timeout_ms = exchange.number(b"x-parley-timeout-ms", MAX_TIMEOUT_MS)
        max_attempts = exchange.number(b"x-parley-max-attempts", MAX_ATTEMPTS)
        key = exchange.header(b"idempotency-key") if b"idempotency-key" in exchange.headers else None
        body = await self._read(exchange, operation)
        try:
            options = body.values.get("stream_options")
            traceparent = exchange.header(b"traceparent")
            call = Call(
                operation,
                caller,
                exchange.request_id,
                body.values,
                body.texts,
                form=body.form,
                stream=operation.streams(body.values),
                wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
                timeout_s=timeout_ms / 1000 if timeout_ms is not None else None,
                max_attempts=max_attempts,
                upstream=exchange.header(b"x-parley-upstream"),
                app=exchange.header(b"x-parley-app"),
                idempotency_key=idempotency_key("idempotency-key", key) if key is not None else "",
                context=extract({"traceparent": traceparent}) if traceparent else None,
                course=exchange.course,
            )
            await self._carry_out(exchange, call)
        finally:
            if body.form is not None:
                body.form.close()

    async def _read(self, exchange: HTTPExchange, operation: Operation) -> "_Body":
        """Read the request's body: a form where the endpoint takes one, else a JSON object."""
        content_type = exchange.header(b"content-type")
        if operation.takes_form and content_type.lower().startswith("multipart/"):
            async with exchange.pieces() as pieces:
                form = await read_form(pieces, content_type, self._forms)
            try:
                return _Body.of_form(form)
            except BaseException:
                form.close()
                raise
        data = await exchange.body(self._max_body)
        try:
            parsed = parse_object(data)
        except ValueError as exc:
            wanted = "multipart/form-data or a JSON object" if operation.takes_form else "a JSON object"
            raise InvalidRequestError(f"The body must be {wanted}: {exc}.") from exc
        return _Body(parsed.values, parsed.texts)

    async def _carry_out(self, exchange: HTTPExchange, call: Call) -> None:
        exchange.watch()
        try:
            if call.stream:
                await self._stream(exchange, call)
            else:
                answer = await self._core.answer(call)
                await exchange.answer(200, answer.data, content_type=answer.content_type)
        finally:
            exchange.unwatch()

    async def _stream(self, exchange: HTTPExchange, call: Call) -> None:
        if call.operation.raw(call):
            await self._raw(exchange, call)
            return
        exchange.named_events = call.operation.named_events
        stream = await self._open(exchange, call)
        try:
            while (events := await stream.read(self._keep_alive_s)) is not None:
                await exchange.write(_spell(events) or KEEP_ALIVE)
                if exchange.named_events and events:
                    exchange.sequence = _sequence(events[-1], exchange.sequence)
        finally:
            stream.close()
        await exchange.end(b"" if call.operation.named_events else DONE)

    async def _raw(self, exchange: HTTPExchange, call: Call) -> None:
        """Pass bytes on as they come; there is nothing that could be sent while none do."""
        stream = await self._core.stream(call)
        try:
            exchange.send_raw(stream.content_type)
            while (pieces := await stream.read(self._keep_alive_s)) is not None:
                if data := b"".join([piece.data for piece in pieces]):
                    await exchange.write(data)
        finally:
            stream.close()
        await exchange.end(b"")

    async def _open(self, exchange: HTTPExchange, call: Call) -> Stream | SharedStream:
        """Wait for the stream's first content; a long wait begins the answer with comments, as a sign of life."""
        opening = asyncio.ensure_future(self._core.stream(call))
        try:
            while not (await asyncio.wait({opening}, timeout=self._keep_alive_s))[0]:
                await exchange.write(KEEP_ALIVE)
        except BaseException:
            opening.cancel()
            (opened,) = await asyncio.gather(opening, return_exceptions=True)
            if isinstance(opened, Stream | SharedStream):
                opened.close()
            raise
        return opening.result()


@dataclass(slots=True)
class _Body:
    """A request's body: its members decoded and as spelled, and the form they stood in."""

    values: dict[str, Any]
    texts: dict[str, str]
    form: Form | None = None

    @classmethod
    def of_form(cls, form: Form) -> "_Body":
        """Read a form's text fields. Raises InvalidRequestError."""
        values: dict[str, Any] = dict(form.texts())
        if isinstance(streaming := values.get("stream"), str) and streaming.lower() in ("true", "false"):
            values["stream"] = streaming.lower() == "true"
        return cls(values, {name: dump(value) for name, value in values.items()}, form)


def _sequence(event: StreamEvent, before: int) -> int:
    number = event.chunk.get("sequence_number")
    return number if isinstance(number, int) else before + 1


def _spell(events: list[StreamEvent]) -> bytes:
    # A line break inside a chunk can only be white space between its tokens, and would end the event's line.
    return b"".join(
        [
            b"event: %b\ndata: %b\n\n" % (event.name, event.data.replace(b"\n", b" "))
            if event.name
            else b"data: %b\n\n" % event.data.replace(b"\n", b" ")
            for event in events
        ]
    )
