"""Which models a caller can name: the aliases, and what the upstream of a pass-through alias lists itself.

The upstream is asked with OpenAI's client, imported on first use: at rest the process stays small without it.
"""

import asyncio
import importlib
import time
from dataclasses import dataclass
from types import ModuleType

import structlog

from parley_llm.callers import Caller
from parley_llm.calls.core import Core
from parley_llm.config.values import PASS_THROUGH
from parley_llm.errors import model_not_found
from parley_llm.upstream.upstream import Upstream

KEPT_S = 300.0
KEPT_AFTER_FAILURE_S = 15.0
LISTING_S = 10.0
MAX_LISTED = 5000

_log = structlog.get_logger("parley_llm.catalog")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that callers can name; `created` is in seconds since 1970, 0 when unknown."""

    id: str
    owned_by: str
    created: int = 0


class Catalog:
    """Lists models for callers; keeps an upstream's list for five minutes."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._kept: dict[str, tuple[Upstream, float, list[ModelInfo]]] = {}
        self._lock = asyncio.Lock()

    async def models(self, caller: Caller) -> list[ModelInfo]:
        """Return what the caller may use, sorted by id."""
        found: dict[str, ModelInfo] = {}
        for alias, route in self._core.routing.routes.items():
            if not caller.may_use(alias):
                continue
            first = route.targets[0]
            if alias != PASS_THROUGH:
                found[alias] = ModelInfo(alias, first.upstream.name)
                continue
            for model in await self._listed(first.upstream):
                found.setdefault(model.id, model)
            if first.model:
                found.setdefault(first.model, ModelInfo(first.model, first.upstream.name))
        return [found[name] for name in sorted(found)]

    async def model(self, caller: Caller, name: str) -> ModelInfo:
        """Return one model. Raises ModelNotFoundError."""
        for model in await self.models(caller):
            if model.id == name:
                return model
        raise model_not_found(name)

    async def _listed(self, upstream: Upstream) -> list[ModelInfo]:
        if upstream.preset.models_path is None or upstream.preset.provider == "parley_demo":
            return []
        async with self._lock:
            kept = self._kept.get(upstream.name)
            if kept is not None and kept[0] is upstream and time.monotonic() < kept[1]:
                return kept[2]
            openai = await asyncio.to_thread(importlib.import_module, "openai")
            try:
                async with asyncio.timeout(LISTING_S):
                    models = await _fetch(openai, upstream)
                until = time.monotonic() + KEPT_S
            except (openai.OpenAIError, TimeoutError) as exc:
                _log.warning("listing models failed", upstream=upstream.name, error=type(exc).__name__)
                models, until = [], time.monotonic() + KEPT_AFTER_FAILURE_S
            self._kept[upstream.name] = (upstream, until, models)
            return models


async def _fetch(openai: ModuleType, upstream: Upstream) -> list[ModelInfo]:
    now = asyncio.get_running_loop().time()
    secret = upstream.keys.choose(now).secret
    address = upstream.address
    proxy = address.proxy.url if address.proxy else None
    client = openai.DefaultAsyncHttpxClient(proxy=proxy, trust_env=False, verify=address.tls or True)
    async with openai.AsyncOpenAI(
        api_key=secret or "none", base_url=upstream.base_url, max_retries=0, http_client=client
    ) as api:
        found = []
        async for model in api.models.list():
            created = model.created if isinstance(model.created, int) else 0
            found.append(ModelInfo(str(model.id), upstream.name, created))
            if len(found) >= MAX_LISTED:
                break
        return found
