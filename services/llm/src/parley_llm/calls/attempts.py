"""Decides, for one call, which target is tried next, after which wait, and when to give up.

Targets are tried in order, or in an order drawn by weight; going on to another target needs no wait, coming back to one
does. A target that stayed silent, refused its keys or asked for more patience than there is isn't tried again within
the call. A conversation that is too long for a model goes on to the targets of a larger one, if there are any.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parley_llm.calls.routing import Target
from parley_llm.errors import (
    CircuitOpenError,
    ContextLengthExceededError,
    InvalidRequestError,
    LLMError,
    ModelNotFoundError,
    UpstreamAuthError,
    UpstreamProtocolError,
    UpstreamQuotaError,
    UpstreamStatusError,
    UpstreamTimeoutError,
)
from parley_llm.retry import RetryPolicy
from parley_llm.upstream.keys import APIKey

RETRY_AFTER_SPREAD = 0.1


@dataclass(slots=True)
class _Progress:
    target: Target
    tries: int = 0
    running: int = 0
    ready_at: float = 0.0
    given_up: bool = False


@dataclass(slots=True)
class Next:
    """What to try next: the target, the key, the seconds to wait before, and when it begins by the caller's clock."""

    target: Target
    key: APIKey
    wait_s: float
    begins_at: float
    lost: bool = False
    """Whether another attempt beside this one was quicker."""


class Attempts:
    """The course of one call over its targets.

    `larger` returns the targets to go on with when a conversation is too long for the targets of an alias. Each attempt
    is begun by `first`, `next`, `resumed` or `hedge`, and those that fail are told by `failed`.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        policy: RetryPolicy,
        *,
        max_attempts: int,
        deadline: float,
        now: Callable[[], float],
        chance: Callable[[], float] = random.random,
        larger: Callable[[str], Sequence[Target]] | None = None,
    ) -> None:
        self._progress = [_Progress(target) for target in _in_order(targets, chance)]
        self._policy = policy
        self._max = max_attempts
        self._deadline = deadline
        self._now = now
        self._chance = chance
        self._larger = larger
        self._refused: set[APIKey] = set()
        self._reached: set[str] = set()
        self._last_error: LLMError | None = None
        self._final_error: LLMError | None = None
        self.count = 0

    def first(self) -> Next:
        """Return the first attempt. Raises CircuitOpenError when no target takes calls."""
        now = self._now()
        progress = self._choose(now)
        if progress is None:
            wait = min(progress.target.circuit.wait(now) for progress in self._progress)
            names = ", ".join(sorted({progress.target.upstream.name for progress in self._progress}))
            raise CircuitOpenError(
                f"No target takes calls now: too many failures in a row at {names}.", retry_after_s=max(wait, 0.0)
            )
        return self._start(progress, now)

    def after(self, error: LLMError, failed: Next) -> Next:
        """Return the next attempt after `error`. Raises the error to report when there is none."""
        self.failed(error, failed)
        return self.next()

    def failed(self, error: LLMError, attempt: Next) -> None:
        """Note the failure of an attempt."""
        now = self._now()
        progress = self._of(attempt)
        progress.running -= 1
        if self._last_error is None or error.retryable or not self._last_error.retryable:
            self._last_error = error
        late = self._policy.late
        if late is not None and now - attempt.begins_at > late:
            self._end(error)
        self._note(progress, error, attempt, now)

    def next(self) -> Next:
        """Return the attempt that follows those that failed. Raises the error to report when there is none."""
        assert self._last_error is not None  # noqa: S101 - for the type checker: something has failed before
        if self._final_error is not None:
            raise self._final_error
        now = self._now()
        progress = self._choose(now) if self.count < self._max else None
        if progress is None:
            raise self._last_error
        wait = max(0.0, progress.ready_at - now)
        if now + wait >= self._deadline:
            raise self._last_error
        return self._start(progress, now, wait)

    def resumed(self, attempt: Next) -> Next:
        """Return what to try when an attempt's wait is over: the same, or another when its circuit opened meanwhile.

        Raises the error to report when no target takes calls now.
        """
        assert self._last_error is not None  # noqa: S101 - for the type checker: only what failed is waited for
        now = self._now()
        if attempt.target.circuit.wait(now) <= 0:
            attempt.target.circuit.enter(now)
            attempt.begins_at = now
            return attempt
        progress = self._of(attempt)
        progress.running -= 1
        progress.tries -= 1
        self.count -= 1
        other = self._choose(now)
        if other is None or other.ready_at > now:
            raise self._last_error
        return self._start(other, now)

    def hedge(self, slow: Next, *, same_target: bool) -> Next | None:
        """Return an attempt to make beside a slow one, at the next target that is free; None when there can't be one.

        It is paid from the budget of the upstream that is slow: that one's calls are what a share may be added to.
        `same_target` allows to hedge at the only target there is.
        """
        budget = slow.target.upstream.budget
        if self._final_error is not None or self.count >= self._max or not budget.affords(self._policy.budget):
            return None
        now = self._now()
        for one in self._progress:
            busy = one.running > 0 and not (same_target and len(self._progress) == 1)
            if busy or one.given_up or one.ready_at > now or one.target.circuit.wait(now) > 0:
                continue
            budget.spend(self._policy.budget)
            return self._start(one, now, paid=True)
        return None

    def _of(self, attempt: Next) -> _Progress:
        return next(one for one in self._progress if one.target is attempt.target)

    def _end(self, error: LLMError) -> None:
        """Let no attempt begin from now on."""
        if self._final_error is None:
            self._final_error = error

    def _note(self, progress: _Progress, error: LLMError, attempt: Next, now: float) -> None:
        """Judge what an error means for the call's further chances."""
        if isinstance(error, UpstreamAuthError | UpstreamQuotaError):
            keys = progress.target.upstream.keys
            keys.set_aside(attempt.key, now)
            self._refused.add(attempt.key)
            progress.given_up = all(key in self._refused for key in keys)
        elif isinstance(error, UpstreamTimeoutError | ModelNotFoundError | UpstreamProtocolError | UpstreamStatusError):
            progress.given_up = True
        elif _is_too_long(error) and self._widen(progress.target.alias):
            return
        elif not error.retryable:
            self._end(error)
        else:
            wait = self._policy.backoff(progress.tries, self._chance())
            if error.retry_after_s is not None:
                asked = error.retry_after_s
                progress.given_up = progress.given_up or asked > self._policy.retry_after_max
                wait = max(wait, asked * (1 + RETRY_AFTER_SPREAD * self._chance()))
            progress.ready_at = max(progress.ready_at, now + wait)

    def _widen(self, alias: str) -> bool:
        """Go on with the targets of a larger model instead of the alias's own; False when there are none."""
        targets = self._larger(alias) if self._larger is not None else ()
        if not targets:
            return False
        known = {id(one.target) for one in self._progress}
        for one in self._progress:
            one.given_up = one.given_up or one.target.alias == alias
        self._progress += [_Progress(target) for target in _in_order(targets, self._chance) if id(target) not in known]
        return True

    def _choose(self, now: float) -> _Progress | None:
        """Return the target that may be tried soonest, the first of several."""
        best: _Progress | None = None
        for one in self._progress:
            ready_at = max(now, one.ready_at)
            if one.given_up or one.target.circuit.wait(ready_at) > 0 or not self._affords(one):
                continue
            if ready_at <= now:
                return one
            if best is None or ready_at < best.ready_at:
                best = one
        return best

    def _affords(self, progress: _Progress) -> bool:
        """Tell whether the budget allows a target: at an upstream that hasn't seen the call, nothing is repeated."""
        upstream = progress.target.upstream
        return upstream.name not in self._reached or upstream.budget.affords(self._policy.budget)

    def _start(self, progress: _Progress, now: float, wait_s: float = 0.0, *, paid: bool = False) -> Next:
        self.count += 1
        progress.tries += 1
        progress.running += 1
        target, share = progress.target, self._policy.budget
        upstream = target.upstream
        if upstream.name not in self._reached:
            self._reached.add(upstream.name)
            upstream.budget.earn(share)
        elif not paid:
            upstream.budget.spend(share)
        if wait_s <= 0:
            target.circuit.enter(now)
        return Next(target, upstream.keys.choose(now, self._refused), wait_s, now + wait_s)


def _in_order(targets: Sequence[Target], chance: Callable[[], float]) -> Sequence[Target]:
    """Return targets in the order in which to try them: as configured, or drawn by weight without replacement.

    Each draws an exponentially distributed time with its weight as the rate, and the earliest comes first: also among
    those left when some are passed over, each is first with its share of the weights (Efraimidis and Spirakis,
    "Weighted random sampling with a reservoir", 2006). A weight of 0 comes after all others, in configured order.
    """
    if targets[0].weight is None:
        return targets
    drawn = {id(target): -math.log(1.0 - chance()) for target in targets}
    return sorted(targets, key=lambda target: drawn[id(target)] / target.weight if target.weight else math.inf)


def _is_too_long(error: LLMError) -> bool:
    """Tell whether a larger model may take what this one refused; 413 is what servers say before they count tokens."""
    return isinstance(error, ContextLengthExceededError) or (
        isinstance(error, InvalidRequestError) and error.http_status == 413
    )
