"""Decides, for one call, which target is tried next, after which wait, and when to give up.

Targets are tried in order; going on to another target needs no wait, coming back to one does. A target that
stayed silent, refused its keys or asked for more patience than there is isn't tried again within the call.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parley_llm.errors import (
    CircuitOpenError,
    LLMError,
    ModelNotFoundError,
    UpstreamAuthError,
    UpstreamProtocolError,
    UpstreamQuotaError,
    UpstreamTimeoutError,
)
from parley_llm.retry import RetryPolicy
from parley_llm.routing import Target
from parley_llm.upstream.keys import APIKey

RETRY_AFTER_SPREAD = 0.1


@dataclass(slots=True)
class _Progress:
    target: Target
    tries: int = 0
    ready_at: float = 0.0
    given_up: bool = False


@dataclass(slots=True)
class Next:
    """What to try next: the target, the key, and the seconds to wait before."""

    target: Target
    key: APIKey
    wait_s: float


class Attempts:
    """The course of one call over its targets."""

    def __init__(
        self,
        targets: Sequence[Target],
        policy: RetryPolicy,
        *,
        max_attempts: int,
        deadline: float,
        now: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._progress = [_Progress(target) for target in targets]
        self._policy = policy
        self._max = max_attempts
        self._deadline = deadline
        self._now = now
        self._chance = chance
        self._refused: set[APIKey] = set()
        self._last_error: LLMError | None = None
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
        progress.target.upstream.budget.earn(self._policy.budget)
        return self._start(progress, now, 0.0)

    def after(self, error: LLMError, failed: Next) -> Next:
        """Return the next attempt after `error`. Raises the error to report when there is none."""
        if self._last_error is None or error.retryable or not self._last_error.retryable:
            self._last_error = error
        now = self._now()
        progress = next(one for one in self._progress if one.target is failed.target)
        self._note(progress, error, failed, now)
        following = self._choose(now)
        if self.count >= self._max or following is None:
            raise self._last_error
        wait = max(0.0, following.ready_at - now)
        if now + wait >= self._deadline or not following.target.upstream.budget.spend(self._policy.budget):
            raise self._last_error
        return self._start(following, now, wait)

    def _note(self, progress: _Progress, error: LLMError, failed: Next, now: float) -> None:
        """Judge what an error means for the target's further chances in this call; raise it when it ends the call."""
        if isinstance(error, UpstreamAuthError | UpstreamQuotaError):
            keys = progress.target.upstream.keys
            keys.set_aside(failed.key, now)
            self._refused.add(failed.key)
            progress.given_up = all(key in self._refused for key in keys)
        elif isinstance(error, UpstreamTimeoutError | ModelNotFoundError):
            progress.given_up = True
        elif not error.retryable:
            if not isinstance(error, UpstreamProtocolError):
                raise error
            progress.given_up = True
        else:
            wait = self._policy.backoff(progress.tries, self._chance())
            if error.retry_after_s is not None:
                asked = error.retry_after_s
                progress.given_up = asked > self._policy.retry_after_max
                wait = max(wait, asked * (1 + RETRY_AFTER_SPREAD * self._chance()))
            progress.ready_at = now + wait

    def _choose(self, now: float) -> _Progress | None:
        """Return the target that may be tried soonest, the first of several."""
        best: _Progress | None = None
        for one in self._progress:
            ready_at = max(now, one.ready_at)
            if one.given_up or one.target.circuit.wait(ready_at) > 0:
                continue
            if ready_at <= now:
                return one
            if best is None or ready_at < best.ready_at:
                best = one
        return best

    def _start(self, progress: _Progress, now: float, wait_s: float) -> Next:
        self.count += 1
        progress.tries += 1
        progress.target.circuit.enter(now + wait_s)
        key = progress.target.upstream.keys.choose(now, self._refused)
        return Next(progress.target, key, wait_s)
