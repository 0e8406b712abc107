"""The ASGI application: `/v1/chat/completions`, `/v1/models`, `/v1/models/{id}`, `/v1/parley/me`."""

import asyncio
from urllib.parse import urlsplit

import orjson
import structlog
from opentelemetry.propagate import extract

from parley_llm.callers import Caller
from parley_llm.catalog import Catalog, ModelInfo
from parley_llm.completions import Completions
from parley_llm.errors import (
    InternalError,
    InvalidRequestError,
    LLMError,
    PermissionDeniedError,
)
from parley_llm.exchange import MAX_ATTEMPTS, MAX_TIMEOUT_MS, ChatCall
from parley_llm.http.exchange import ClientGoneError, HTTPExchange, Receive, Scope
from parley_llm.jsontext import parse_object
from parley_llm.streams import ChatStream
from parley_llm.upstream.proxy import is_loopback
from parley_llm.upstream.stream import StreamEvent

_log = structlog.get_logger("parley_llm.http")
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


class HTTPApp:
    """Translates between HTTP and the core; decides nothing about models."""

    def __init__(
        self, completions: Completions, catalog: Catalog, *, prefix: str, keep_alive_s: float, max_body: int
    ) -> None:
        self._completions = completions
        self._catalog = catalog
        self._chat_path = f"{prefix}/v1/chat/completions"
        self._models_path = f"{prefix}/v1/models"
        self._me_path = f"{prefix}/v1/parley/me"
        self._keep_alive_s = keep_alive_s
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, _send: object) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        exchange = HTTPExchange(scope, receive)
        try:
            await self._serve(exchange)
        except LLMError as error:
            await exchange.fail(error)
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            if not exchange.gone:
                raise
        except Exception:  # noqa: BLE001 - the boundary: a defect becomes an answer and a log line
            _log.exception("request failed", request_id=exchange.request_id)
            await exchange.fail(InternalError(f"Internal error; the log has it under {exchange.request_id}."))

    async def _serve(self, exchange: HTTPExchange) -> None:
        callers = self._completions.routing.callers
        if callers.open:
            _refuse_foreign(exchange)
        path = exchange.path
        if path == self._chat_path:
            _require(exchange, "POST")
            await self._chat(exchange)
        elif path == self._models_path:
            _require(exchange, "GET")
            caller = callers.authenticate(exchange.header(b"authorization"))
            models = await self._catalog.models(caller)
            await exchange.answer(200, orjson.dumps({"object": "list", "data": [_model(model) for model in models]}))
        elif path == self._me_path:
            _require(exchange, "GET")
            caller = callers.authenticate(exchange.header(b"authorization"))
            await exchange.answer(200, orjson.dumps(_standing(caller, await self._catalog.models(caller))))
        elif path.startswith(self._models_path + "/"):
            _require(exchange, "GET")
            caller = callers.authenticate(exchange.header(b"authorization"))
            model = await self._catalog.model(caller, path[len(self._models_path) + 1 :])
            await exchange.answer(200, orjson.dumps(_model(model)))
        else:
            raise _UnknownURLError(
                f"There is nothing at {path[:100]!r}; the API begins with {self._models_path[:-7]!r}."
            )

    async def _chat(self, exchange: HTTPExchange) -> None:
        caller = self._completions.routing.callers.authenticate(exchange.header(b"authorization"))
        timeout_ms = exchange.number(b"x-parley-timeout-ms", MAX_TIMEOUT_MS)
        max_attempts = exchange.number(b"x-parley-max-attempts", MAX_ATTEMPTS)
        data = await exchange.body(self._max_body)
        try:
            body = parse_object(data)
        except ValueError as exc:
            raise InvalidRequestError(f"The body must be a JSON object: {exc}.") from exc
        streaming = body.values.get("stream")
        if streaming is not None and not isinstance(streaming, bool):
            raise InvalidRequestError("stream must be true or false.", param="stream")
        options = body.values.get("stream_options")
        traceparent = exchange.header(b"traceparent")
        call = ChatCall(
            caller,
            exchange.request_id,
            body.values,
            body.texts,
            wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
            timeout_s=timeout_ms / 1000 if timeout_ms is not None else None,
            max_attempts=max_attempts,
            upstream=exchange.header(b"x-parley-upstream"),
            context=extract({"traceparent": traceparent}) if traceparent else None,
            course=exchange.course,
        )
        exchange.watch()
        try:
            if streaming:
                await self._stream(exchange, call)
            else:
                completion = await self._completions.complete(call)
                await exchange.answer(200, completion.data)
        finally:
            exchange.unwatch()

    async def _stream(self, exchange: HTTPExchange, call: ChatCall) -> None:
        stream = await self._open(exchange, call)
        try:
            while (events := await stream.read(self._keep_alive_s)) is not None:
                await exchange.write(_spell(events) or KEEP_ALIVE)
        finally:
            stream.close()
        await exchange.end(DONE)

    async def _open(self, exchange: HTTPExchange, call: ChatCall) -> ChatStream:
        """Wait for the stream's first content; a long wait begins the answer with comments, as a sign of life."""
        opening = asyncio.ensure_future(self._completions.stream(call))
        try:
            while not (await asyncio.wait({opening}, timeout=self._keep_alive_s))[0]:
                await exchange.write(KEEP_ALIVE)
        except BaseException:
            opening.cancel()
            (opened,) = await asyncio.gather(opening, return_exceptions=True)
            if isinstance(opened, ChatStream):
                opened.close()
            raise
        return opening.result()


class _UnknownURLError(InvalidRequestError):
    """The path leads nowhere."""

    reason = "UNKNOWN_URL"
    http_status = 404


class _WrongMethodError(InvalidRequestError):
    """The path does not take this method."""

    reason = "METHOD_NOT_ALLOWED"
    http_status = 405


def _spell(events: list[StreamEvent]) -> bytes:
    # A line break inside a chunk can only be white space between its tokens, and would end the event's line.
    return b"".join([b"data: %b\n\n" % event.data.replace(b"\n", b" ") for event in events])


def _model(model: ModelInfo) -> dict[str, object]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}


def _standing(caller: Caller, models: list[ModelInfo]) -> dict[str, object]:
    """Describe what a caller may do, what is left of it and what it used; needs no place within the limits itself."""
    limits = caller.limits
    buckets = {"requests_per_minute": limits.requests, "tokens_per_minute": limits.tokens}
    described: dict[str, object] = {
        name: {"limit": bucket.limit, "remaining": bucket.remaining()}
        for name, bucket in buckets.items()
        if bucket is not None
    }
    if limits.concurrency is not None:
        left = max(0, limits.concurrency - limits.running)
        described["concurrency"] = {"limit": limits.concurrency, "remaining": left}
    return {
        "name": caller.name,
        "models": [model.id for model in models],
        "limits": described,
        "usage": {"requests": limits.requests_used, "tokens": limits.tokens_used},
    }


def _require(exchange: HTTPExchange, method: str) -> None:
    if exchange.method != method:
        raise _WrongMethodError(f"{exchange.path} takes {method}, not {exchange.method[:20]}.")


def _names_loopback(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def _refuse_foreign(exchange: HTTPExchange) -> None:
    """Without callers' keys, keep web pages that a local browser shows from using the service (DNS rebinding, CSRF)."""
    origin = exchange.header(b"origin")
    if not _names_loopback("//" + exchange.header(b"host")) or (origin and not _names_loopback(origin)):
        raise PermissionDeniedError(
            "Without configured callers only this machine may call: Host and Origin must be loopback addresses."
        )
    content_type = exchange.header(b"content-type").partition(";")[0].strip().lower()
    if exchange.method == "POST" and content_type != "application/json":
        raise InvalidRequestError("Content-Type must be application/json.")
