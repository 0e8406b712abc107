"""What to do about a failure: try again later, or tell the user and give up."""

import random
from dataclasses import dataclass

from parley_gateway.errors import (
    DeliveryError,
    FormatterError,
    GatewayError,
    TransientDeliveryError,
    UpstreamAnswerError,
)
from parley_gateway.pacing import CIRCUIT_OPEN
from parley_gateway.sentences import Sentences

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
SHORT_WAIT_S = 2.0
"""A new question waits this long for a model whose circuits are open; for longer its sender is told to come back."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The failure may pass: the message keeps its place and is due again after the wait."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No later try can succeed."""

    reason: str
    """Files the dead letter; a closed set, since it labels a metric."""
    sentence: str
    """Told to the user."""


def judge(error: GatewayError, failures: int, words: Sentences, reference: str) -> TryAgain | GiveUp:
    """Decide about an error; `failures` counts the earlier ones of this message."""
    if isinstance(error, UpstreamAnswerError):
        if error.reason == CIRCUIT_OPEN and not failures and (error.retry_after_s or LONGEST_WAIT_S) > SHORT_WAIT_S:
            return GiveUp("busy", words.busy.format(reference=reference))
        if error.retryable:
            return TryAgain(_wait(failures, error.retry_after_s))
        sentence = {"CONTENT_FILTERED": words.filtered, "CONTEXT_LENGTH_EXCEEDED": words.too_long}
        return GiveUp("llm", sentence.get(error.reason, words.failed).format(reference=reference))
    if isinstance(error, FormatterError):
        if error.retryable:
            return TryAgain(_wait(failures, None))
        return GiveUp("formatter", words.failed.format(reference=reference))
    if isinstance(error, TransientDeliveryError):
        return TryAgain(_wait(failures, error.retry_after_s))
    reason = "delivery" if isinstance(error, DeliveryError) else "internal"
    return GiveUp(reason, words.failed.format(reference=reference))


def _wait(failures: int, asked_s: float | None) -> float:
    """Return how long to wait: what the other side asked for, else growing with full jitter over the upper half."""
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures, 10))
    own = longest * random.uniform(0.5, 1.0)
    return max(own, asked_s or 0.0)
