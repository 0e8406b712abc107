"""Which targets stand behind the name of a model, and who may call: one object, replaced as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parley_llm.callers import Caller, CallerDirectory, CallerKey, Limits, MinuteBucket
from parley_llm.config import (
    DEFAULT_ALIAS,
    PASS_THROUGH,
    CallerSettings,
    HashedKey,
    LLMSettings,
    ModelSettings,
    UpstreamSettings,
    key_digest,
)
from parley_llm.errors import InvalidRequestError, PermissionDeniedError, model_not_found
from parley_llm.retry import Circuit, RetryPolicy
from parley_llm.upstream.features import PARAMS, used_features
from parley_llm.upstream.profiles import Profiles
from parley_llm.upstream.shaping import is_allowed
from parley_llm.upstream.upstream import Upstream, build_upstream


@dataclass(slots=True, eq=False)
class Target:
    """A model at an upstream; an empty `model` means the alias."""

    upstream: Upstream
    model: str
    profiles: Profiles
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

    def able(
        self, targets: tuple[Target, ...], values: Mapping[str, Any], asked: str, *, stream: bool
    ) -> tuple[Target, ...]:
        """Return those of the targets whose models have the features that a request uses.

        Raises InvalidRequestError when there is none.
        """
        if not any(target.profiles.selective for target in targets):
            return targets
        used = used_features(values)
        lacking = [target.profiles.of(self.model_at(target, asked), stream=stream).refuses & used for target in targets]
        able = tuple(target for target, lacks in zip(targets, lacking, strict=True) if not lacks)
        if not able:
            missing = sorted(frozenset[str]().union(*lacking))
            raise InvalidRequestError(
                f"No target of the model {self.alias!r} has what the request uses: {', '.join(missing)}.",
                param=PARAMS[missing[0]],
            )
        return able


class Routing:
    """The routes, the upstreams and the callers of one version of the settings."""

    def __init__(
        self,
        settings: LLMSettings,
        routes: Mapping[str, Route],
        upstreams: Mapping[str, Upstream],
        limits: Mapping[str, Limits],
    ) -> None:
        self.settings = settings
        self.routes = dict(routes)
        self.upstreams = dict(upstreams)
        self.limits = dict(limits)
        self.callers = CallerDirectory([key for one in settings.callers for key in _caller_keys(one, limits[one.name])])

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

    def close(self, *, successor: "Routing | None" = None) -> None:
        """Close the idle connections of the upstreams that `successor` doesn't go on with, and keep none of theirs.

        Calls in flight finish: a connection is closed when its exchange is over.
        """
        kept = {id(upstream) for upstream in successor.upstreams.values()} if successor else set()
        for upstream in self.upstreams.values():
            if id(upstream) not in kept:
                upstream.transport.close()


def build_routing(settings: LLMSettings, env: Mapping[str, str], running: Routing | None = None) -> Routing:
    """Make the running objects. Raises ValueError or OSError as `build_upstream` does.

    What `running` made of the same settings is taken over: upstreams with their connections and set-aside keys, routes
    with their circuits, callers' limits with what is used of them.
    """
    upstreams = {
        name: _kept_upstream(name, one, running) or build_upstream(name, one, env)
        for name, one in settings.upstreams.items()
    }
    routes = {
        alias: _kept_route(alias, model, upstreams, running) or _route(alias, model, upstreams)
        for alias, model in settings.models.items()
    }
    limits = {caller.name: _kept_limits(caller, running) or _limits(caller) for caller in settings.callers}
    return Routing(settings, routes, upstreams, limits)


def _kept_upstream(name: str, settings: UpstreamSettings, running: Routing | None) -> Upstream | None:
    same = running is not None and running.settings.upstreams.get(name) == settings
    return running.upstreams[name] if running and same else None


def _kept_route(
    alias: str, model: ModelSettings, upstreams: Mapping[str, Upstream], running: Routing | None
) -> Route | None:
    if running is None or running.settings.models.get(alias) != model:
        return None
    route = running.routes[alias]
    return route if all(target.upstream is upstreams[target.upstream.name] for target in route.targets) else None


def _kept_limits(caller: CallerSettings, running: Routing | None) -> Limits | None:
    for before in running.settings.callers if running else ():
        if running and before.name == caller.name and _numbers(before) == _numbers(caller):
            return running.limits[caller.name]
    return None


def _numbers(caller: CallerSettings) -> tuple[int | None, int | None, int | None]:
    return caller.requests_per_minute, caller.tokens_per_minute, caller.concurrency


def _route(alias: str, model: ModelSettings, upstreams: Mapping[str, Upstream]) -> Route:
    targets = tuple(
        Target(
            upstreams[target.upstream],
            target.model,
            Profiles(upstreams[target.upstream].preset, target.params, target.features, emulate=target.emulate),
            Circuit(model.circuit.failures, model.circuit.open_for),
        )
        for target in model.targets
    )
    return Route(alias, targets, Timeouts(**model.timeouts.model_dump()), RetryPolicy(**model.retry.model_dump()))


def _limits(caller: CallerSettings) -> Limits:
    requests, tokens, concurrency = _numbers(caller)
    return Limits(MinuteBucket(requests) if requests else None, MinuteBucket(tokens) if tokens else None, concurrency)


def _caller_keys(settings: CallerSettings, limits: Limits) -> list[CallerKey]:
    caller = Caller(settings.name, frozenset(settings.models) or None, limits)
    return [
        CallerKey(key_digest(key), caller, key.expiry() if isinstance(key, HashedKey) else None)
        for key in settings.keys
    ]
