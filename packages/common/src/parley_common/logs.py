"""Logs: one JSON object a line on standard output, with the ids of the current trace, without the known secrets."""

import json
import logging
import sys
from collections import deque
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

import structlog
from opentelemetry import trace

MIN_SECRET = 6
"""Shorter values are not searched for: they would blank out ordinary text."""

KEPT_GENERATIONS = 20
"""How many sets of secrets are hidden: those before the last change may still be in use by work begun earlier."""


class Logs:
    """The logs of this process, to be told when the settings change."""

    def __init__(self, redacting: "_Redacting") -> None:
        """`configure_logs` makes it."""
        self._redacting = redacting

    def hide(self, secrets: Iterable[str]) -> None:
        """Hide these secrets from now on, besides those hidden before."""
        self._redacting.learn(secrets)

    def set_level(self, level: str) -> None:
        """Leave out what is less severe than `debug`, `info`, `warning` or `error`."""
        root = logging.getLogger()
        root.setLevel(level.upper())
        for noisy in ("httpx", "httpx2", "httpcore", "httpcore2", "uvicorn", "websockets", "Lark"):
            logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))


def configure_logs(
    service: str, version: str, level: str, *, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> Logs:
    """Send structlog and standard logging through the same processors. Called once, when the process starts."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _add_trace,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _add_service(service, version),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    redacting = _Redacting(formatter)
    handler.setFormatter(redacting)
    logging.getLogger().handlers[:] = [handler]
    logs = Logs(redacting)
    logs.hide(secrets)
    logs.set_level(level)
    return logs


def _forms(secret: str) -> set[str]:
    """Return how a secret may look in a finished line: as JSON writes it, plain, quoted for a URL or in a `repr`."""
    looks = {secret, repr(secret)[1:-1], ascii(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)}
    looks |= {json.dumps(look, ensure_ascii=escaped)[1:-1] for look in looks for escaped in (False, True)}
    return {json.dumps(look, ensure_ascii=False)[1:-1] for look in looks}


class _Redacting(logging.Formatter):
    """Replaces known secrets in the finished line, wherever they came from."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner
        self._generations: deque[set[str]] = deque(maxlen=KEPT_GENERATIONS)
        self._hidden: list[str] = []

    def learn(self, secrets: Iterable[str]) -> None:
        self._generations.append({form for secret in secrets if len(secret) >= MIN_SECRET for form in _forms(secret)})
        # The longest first, or a secret that contains another would be left in pieces.
        self._hidden = sorted(set().union(*self._generations), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        line = self._inner.format(record)
        for secret in self._hidden:
            line = line.replace(secret, "[secret]")
        return line


def _add_service(service: str, version: str) -> structlog.types.Processor:
    def add(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        event["version"] = version
        return event

    return add


def _add_trace(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event
