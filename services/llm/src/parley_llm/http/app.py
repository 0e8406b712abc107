"""The ASGI application: the endpoints that make calls, `/v1/models`, `/v1/models/{id}`, `/v1/parley/me`."""

import asyncio
from urllib.parse import urlsplit

import orjson
import structlog
from prometheus_client import Gauge

from parley_llm.calls.core import Core
from parley_llm.catalog import Catalog, ModelInfo
from parley_llm.errors import (
    InternalError,
    InvalidRequestError,
    LLMError,
    PermissionDeniedError,
)
from parley_llm.forms.form import FormLimits
from parley_llm.http.calls import HTTPCalls
from parley_llm.http.exchange import ClientGoneError, HTTPExchange, Receive, Scope
from parley_llm.limits.report import me
from parley_llm.operations.registry import OPERATIONS
from parley_llm.upstream.proxy import is_loopback

_log = structlog.get_logger("parley_llm.http")


class HTTPApp:
    """Translates between HTTP and the core; decides nothing about models."""

    def __init__(
        self,
        core: Core,
        catalog: Catalog,
        inflight: Gauge,
        *,
        prefix: str,
        keep_alive_s: float,
        max_body: int,
        forms: FormLimits,
    ) -> None:
        self._core = core
        self._catalog = catalog
        self._inflight = inflight
        self._calls = HTTPCalls(core, keep_alive_s=keep_alive_s, max_body=max_body, forms=forms)
        self._operations = {f"{prefix}/v1{operation.path}": operation for operation in OPERATIONS}
        self._models_path = f"{prefix}/v1/models"
        self._me_path = f"{prefix}/v1/parley/me"

    async def __call__(self, scope: Scope, receive: Receive, _send: object) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        exchange = HTTPExchange(scope, receive)
        self._inflight.inc()
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
        finally:
            self._inflight.dec()

    async def _serve(self, exchange: HTTPExchange) -> None:
        callers = self._core.routing.callers
        if callers.open:
            _refuse_foreign(exchange)
        path = exchange.path
        operation = self._operations.get(path)
        if operation is not None:
            _require(exchange, "POST")
            await self._calls.serve(exchange, operation)
        elif path == self._models_path:
            _require(exchange, "GET")
            caller = callers.authenticate(exchange.header(b"authorization"))
            models = await self._catalog.models(caller)
            await exchange.answer(200, orjson.dumps({"object": "list", "data": [_model(model) for model in models]}))
        elif path == self._me_path:
            _require(exchange, "GET")
            caller = callers.authenticate(exchange.header(b"authorization"))
            names = [model.id for model in await self._catalog.models(caller)]
            await exchange.answer(200, orjson.dumps(me(caller.name, names, await caller.account.report())))
        elif path.startswith(self._models_path + "/"):
            _require(exchange, "GET")
            caller = callers.authenticate(exchange.header(b"authorization"))
            model = await self._catalog.model(caller, path[len(self._models_path) + 1 :])
            await exchange.answer(200, orjson.dumps(_model(model)))
        else:
            raise _UnknownURLError(
                f"There is nothing at {path[:100]!r}; the API begins with {self._models_path[:-7]!r}."
            )


class _UnknownURLError(InvalidRequestError):
    """The path leads nowhere."""

    reason = "UNKNOWN_URL"
    http_status = 404


class _WrongMethodError(InvalidRequestError):
    """The path does not take this method."""

    reason = "METHOD_NOT_ALLOWED"
    http_status = 405


def _model(model: ModelInfo) -> dict[str, object]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}


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
    if exchange.method == "POST" and content_type not in ("application/json", "multipart/form-data"):
        raise InvalidRequestError("Content-Type must be application/json or multipart/form-data.")
