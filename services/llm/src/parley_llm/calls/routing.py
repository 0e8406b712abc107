"""Which targets stand behind the name of a model, and who may call: one object, replaced as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass

from parley_llm.callers import ANONYMOUS, Caller, CallerDirectory, CallerKey
from parley_llm.config import LLMSettings
from parley_llm.config.callers import CallerSettings, HashedKey, key_digest
from parley_llm.config.models import ModelSettings
from parley_llm.config.upstreams import UpstreamSettings
from parley_llm.config.values import DEFAULT_ALIAS, PASS_THROUGH
from parley_llm.errors import InvalidRequestError, PermissionDeniedError, model_not_found
from parley_llm.exchange import Call
from parley_llm.limits.account import Accounts
from parley_llm.limits.base import Allowance
from parley_llm.prices import FREE, Prices
from parley_llm.retry import Circuit, RetryPolicy
from parley_llm.upstream.profiles import Profiles
from parley_llm.upstream.shaping import is_allowed
from parley_llm.upstream.upstream import TLSContexts, Upstream, build_upstream


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits in seconds."""

    connect: float
    first_token: float
    idle: float
    total: float


@dataclass(slots=True, eq=False)
class Target:
    """A model at an upstream, reached by an alias whose time limits apply; an empty `model` means the alias.

    `weight` is its share of the calls, None when the alias's targets are tried in their order.
    """

    alias: str
    upstream: Upstream
    model: str
    profiles: Profiles
    circuit: Circuit
    timeouts: Timeouts
    weight: float | None = None
    prices: Prices = FREE

    def model_for(self, call: Call) -> str:
        """Return the model's name here for a call; empty leaves it to the upstream."""
        if self.alias == PASS_THROUGH:
            if call.model not in ("", DEFAULT_ALIAS):
                return call.model
            # The configured model is one for chat.
            return (self.model or self.alias) if call.operation.default_model else ""
        return self.model or self.alias


@dataclass(frozen=True, slots=True)
class Hedge:
    """When a second attempt starts beside a slow one: after `after` seconds, up to `max` times a call."""

    after: float
    max: int
    plain: bool
    same_target: bool


@dataclass(frozen=True, slots=True)
class Route:
    """What stands behind an alias."""

    alias: str
    targets: tuple[Target, ...]
    timeouts: Timeouts
    retry: RetryPolicy
    hedge: Hedge | None = None
    context_fallback: str = ""
    """Alias whose targets take the conversations that are too long for these; empty when there is none."""

    def candidates(self, call: Call) -> tuple[Target, ...]:
        """Return the targets that can carry out a call.

        Raises
            PermissionDeniedError: the alias has no target at the upstream that the caller asks for.
            InvalidRequestError: no target may see one of the request's URLs, or none has what the request uses.
        """
        targets = self.targets
        if call.upstream:
            targets = tuple(target for target in targets if target.upstream.name == call.upstream)
            if not targets:
                raise PermissionDeniedError(
                    f"x-parley-upstream: the model {self.alias!r} has no target at an upstream of that name."
                )
        if call.operation.refers_to_state(call):
            # What an upstream keeps for a request is nowhere else; a caller that knows better names the upstream.
            targets = targets[:1]
        urls = list(call.operation.media(call))
        if urls:
            targets = tuple(
                target for target in targets if all(is_allowed(url, target.upstream.media_hosts) for url in urls)
            )
            if not targets:
                raise InvalidRequestError(
                    "The request names a URL whose host is not allowed; send the content as a data: URL,"
                    " or have the operator add the host to the upstream's media_hosts.",
                )
        return self._able(call, targets)

    def _able(self, call: Call, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """Return those of the targets whose models have what a request uses."""
        operation = call.operation
        able: list[Target] = []
        missing: dict[str, str] = {}
        for target in targets:
            if not target.upstream.preset.offers(operation.name):
                missing[operation.path] = "model"
                continue
            lacks = operation.lacking(call, target, target.model_for(call))
            if lacks:
                missing.update(lacks)
            else:
                able.append(target)
        if not able:
            names = sorted(missing)
            raise InvalidRequestError(
                f"No target of the model {self.alias!r} has what the request uses: {', '.join(names)}.",
                param=missing[names[0]],
            )
        return targets if len(able) == len(targets) else tuple(able)


class Routing:
    """The routes, the upstreams and the callers of one version of the settings."""

    def __init__(
        self,
        settings: LLMSettings,
        routes: Mapping[str, Route],
        upstreams: Mapping[str, Upstream],
        accounts: Accounts,
    ) -> None:
        self.settings = settings
        self.routes = dict(routes)
        self.upstreams = dict(upstreams)
        self.accounts = accounts
        keys = [key for one in settings.callers for key in _caller_keys(one, accounts)]
        self.callers = CallerDirectory(keys, Caller(ANONYMOUS, accounts.of(ANONYMOUS, Allowance())))

    def route(self, name: str, *, default: bool = True) -> Route:
        """Return the route of a name; empty or `default` is the alias `default`, `"*"`, or the first alias.

        Without `default` an empty name means `"*"` alone: the models of the others may be of another kind.

        Raises
            ModelNotFoundError: no alias takes the name.
            InvalidRequestError: there is no name, and no alias for it.
        """
        named = name or (DEFAULT_ALIAS if default else PASS_THROUGH)
        route = self.routes.get(named) or self.routes.get(PASS_THROUGH)
        if route is None and name in ("", DEFAULT_ALIAS):
            if not default:
                raise InvalidRequestError(
                    "model is required: name one of the models that /v1/models lists.", param="model"
                )
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


def build_routing(
    settings: LLMSettings, env: Mapping[str, str], running: Routing | None = None, accounts: Accounts | None = None
) -> Routing:
    """Make the running objects. Raises ValueError or OSError as `build_upstream` does.

    What `running` made of the same settings is taken over: upstreams with their connections and set-aside keys, routes
    with their circuits, and the callers' accounts. Without it `accounts` has these, or else they are counted here.
    """
    tls = TLSContexts()
    upstreams = {
        name: _kept_upstream(name, one, running) or build_upstream(name, one, env, tls)
        for name, one in settings.upstreams.items()
    }
    routes = {
        alias: _kept_route(alias, model, upstreams, running) or _route(alias, model, upstreams)
        for alias, model in settings.models.items()
    }
    if running is not None:
        accounts = running.accounts
    return Routing(settings, routes, upstreams, accounts or Accounts(currency=settings.currency))


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


def _route(alias: str, model: ModelSettings, upstreams: Mapping[str, Upstream]) -> Route:
    timeouts = Timeouts(**model.timeouts.model_dump())
    weighted = any(target.weight is not None for target in model.targets)
    targets = tuple(
        Target(
            alias,
            upstreams[target.upstream],
            target.model,
            Profiles(upstreams[target.upstream].preset, target.params, target.features, emulate=target.emulate),
            Circuit(model.circuit.failures, model.circuit.open_for),
            timeouts,
            (1.0 if target.weight is None else target.weight) if weighted else None,
            Prices(**target.prices.model_dump()),
        )
        for target in model.targets
    )
    hedge = Hedge(**model.hedge.model_dump()) if model.hedge else None
    return Route(alias, targets, timeouts, RetryPolicy(**model.retry.model_dump()), hedge, model.context_fallback)


def _caller_keys(settings: CallerSettings, accounts: Accounts) -> list[CallerKey]:
    allowance = Allowance(
        settings.requests_per_minute,
        settings.tokens_per_minute,
        settings.concurrency,
        settings.max_wait,
        settings.max_waiting,
    )
    caller = Caller(
        settings.name,
        accounts.of(settings.name, allowance),
        frozenset(settings.models) or None,
        frozenset(settings.apps),
    )
    return [
        CallerKey(key_digest(key), caller, key.expiry() if isinstance(key, HashedKey) else None)
        for key in settings.keys
    ]
