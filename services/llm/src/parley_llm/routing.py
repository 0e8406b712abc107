"""Which targets stand behind the name of a model, and who may call: one object, replaced as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parley_llm.callers import Caller, CallerDirectory, CallerKey, Limits, MinuteBucket
from parley_llm.config import (
    DEFAULT_ALIAS,
    PASS_THROUGH,
    CallerSettings,
    HashedKey,
    LLMSettings,
    ModelSettings,
    key_digest,
)
from parley_llm.errors import InvalidRequestError, PermissionDeniedError, model_not_found
from parley_llm.retry import Circuit, RetryPolicy
from parley_llm.upstream.shaping import Params, is_allowed
from parley_llm.upstream.upstream import Upstream, build_upstream


@dataclass(slots=True, eq=False)
class Target:
    """A model at an upstream; an empty `model` means the alias."""

    upstream: Upstream
    model: str
    params: Params
    circuit: Circuit


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits in seconds."""

    connect: float
    first_token: float
    idle: float
    total: float


@dataclass(frozen=True, slots=True)
class Route:
    """What stands behind an alias."""

    alias: str
    targets: tuple[Target, ...]
    timeouts: Timeouts
    retry: RetryPolicy

    def model_at(self, target: Target, asked: str) -> str:
        """Return the model's name at a target when the caller asked for `asked`."""
        if self.alias == PASS_THROUGH and asked not in ("", DEFAULT_ALIAS):
            return asked
        return target.model or self.alias

    def usable(self, upstream: str, urls: Sequence[str]) -> tuple[Target, ...]:
        """Return the targets at `upstream` (empty: any) that may see these URLs.

        Raises
            PermissionDeniedError: the alias has no target at that upstream.
            InvalidRequestError: no target may see one of the URLs.
        """
        targets = self.targets
        if upstream:
            targets = tuple(target for target in targets if target.upstream.name == upstream)
            if not targets:
                raise PermissionDeniedError(
                    f"x-parley-upstream: the model {self.alias!r} has no target at an upstream of that name."
                )
        if urls:
            targets = tuple(
                target for target in targets if all(is_allowed(url, target.upstream.media_hosts) for url in urls)
            )
            if not targets:
                raise InvalidRequestError(
                    "The conversation names a URL whose host is not allowed; send the content as a data: URL,"
                    " or have the operator add the host to the upstream's media_hosts.",
                    param="messages",
                )
        return targets


class Routing:
    """The routes, the upstreams and the callers of one version of the settings."""

    def __init__(
        self, routes: Mapping[str, Route], upstreams: Mapping[str, Upstream], callers: CallerDirectory
    ) -> None:
        self.routes = dict(routes)
        self.upstreams = dict(upstreams)
        self.callers = callers

    def route(self, name: str) -> Route:
        """Return the route of a name; empty or `default` is the alias `default`, `"*"`, or the first alias.

        Raises ModelNotFoundError.
        """
        route = self.routes.get(name or DEFAULT_ALIAS) or self.routes.get(PASS_THROUGH)
        if route is None and name in ("", DEFAULT_ALIAS):
            route = next(iter(self.routes.values()))
        if route is None:
            raise model_not_found(name)
        return route

    def close(self) -> None:
        """Close the upstreams' idle connections."""
        for upstream in self.upstreams.values():
            upstream.transport.close()


def build_routing(settings: LLMSettings, env: Mapping[str, str]) -> Routing:
    """Make the running objects. Raises ValueError or OSError as `build_upstream` does."""
    upstreams = {name: build_upstream(name, one, env) for name, one in settings.upstreams.items()}
    routes = {alias: _route(alias, model, upstreams) for alias, model in settings.models.items()}
    keys = [key for caller in settings.callers for key in _caller_keys(caller)]
    return Routing(routes, upstreams, CallerDirectory(keys))


def _route(alias: str, model: ModelSettings, upstreams: Mapping[str, Upstream]) -> Route:
    targets = tuple(
        Target(
            upstreams[target.upstream],
            target.model,
            Params.from_settings(target.params),
            Circuit(model.circuit.failures, model.circuit.open_for),
        )
        for target in model.targets
    )
    return Route(alias, targets, Timeouts(**model.timeouts.model_dump()), RetryPolicy(**model.retry.model_dump()))


def _caller_keys(settings: CallerSettings) -> list[CallerKey]:
    limits = Limits(
        MinuteBucket(settings.requests_per_minute) if settings.requests_per_minute else None,
        MinuteBucket(settings.tokens_per_minute) if settings.tokens_per_minute else None,
        settings.concurrency,
    )
    caller = Caller(settings.name, frozenset(settings.models) or None, limits)
    return [
        CallerKey(key_digest(key), caller, key.expiry() if isinstance(key, HashedKey) else None)
        for key in settings.keys
    ]
