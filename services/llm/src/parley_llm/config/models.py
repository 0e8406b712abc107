"""The sections `llm.models`: what stands behind the names that callers use."""

from typing import Annotated

from parley_common.settings import Duration, Section
from pydantic import AfterValidator, Field, field_validator

from parley_llm.config.values import some
from parley_llm.parameters import ParamsSettings
from parley_llm.presets.schema import Feature

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PricesSettings(Section):
    """What a target's upstream bills, in `llm.currency`; what isn't set costs nothing."""

    input: Price = Field(0.0, description="Per million tokens of input.")
    cached_input: Price | None = Field(None, description="Per million of those that were cached; by default as input.")
    output: Price = Field(0.0, description="Per million tokens of output, reasoning included.")
    image: Price = Field(0.0, description="Per picture made.")
    second: Price = Field(0.0, description="Per second of audio read.")
    characters: Price = Field(0.0, description="Per million characters spoken.")
    request: Price = Field(0.0, description="Per call.")


class TargetSettings(Section):
    """One place a model's calls may go to."""

    upstream: str = Field(description="Name of the upstream.")
    model: str = Field("", description="Name of the model there; empty means the alias.")
    params: ParamsSettings = Field(
        default_factory=ParamsSettings, description="Changes to the caller's parameters, after the preset's."
    )
    features: dict[Feature, bool] = Field(
        default_factory=dict, description="Features the model has or lacks, where that differs from the preset."
    )
    emulate: bool = Field(
        False, description="Whether `response_format` may be put into the prompt where the model lacks it."
    )
    weight: float | None = Field(
        None,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Share of the calls; 0: only when the others fail. If any target has one, the others count 1.",
    )
    prices: PricesSettings = Field(default_factory=PricesSettings, description="What calls cost there.")


class TimeoutsSettings(Section):
    """Time limits of a call. All are clipped to what the caller's deadline leaves."""

    connect: Annotated[Duration, Field(gt=0)] = Field(5.0, description="To open a connection, TLS included.")
    first_token: Annotated[Duration, Field(gt=0)] = Field(
        60.0, description="From sending a streamed request to its first content; comments are no content."
    )
    idle: Annotated[Duration, Field(gt=0)] = Field(60.0, description="Between two chunks, or pieces of a plain answer.")
    total: Annotated[Duration, Field(gt=0)] = Field(180.0, description="The whole call with all attempts and waits.")


class RetrySettings(Section):
    """How a failed attempt is repeated."""

    max_attempts: int = Field(3, ge=1, le=20, description="Attempts in all, the first included.")
    backoff_initial: Duration = Field(0.5, description="Longest first wait; the wait is random below it (full jitter).")
    backoff_max: Duration = Field(8.0, description="Longest wait that doubling leads to.")
    retry_after_max: Duration = Field(30.0, description="Longest `Retry-After` that is waited for; beyond it give up.")
    budget: float = Field(0.2, ge=0, le=1, description="Share of an upstream's calls that may be repetitions.")
    late: Annotated[Duration, Field(gt=0)] | None = Field(
        None, description="Give up when an attempt fails later than this after it began; by default it doesn't matter."
    )


class HedgeSettings(Section):
    """A second attempt beside one that is slow; the first to have content wins, the other is cancelled."""

    after: Annotated[Duration, Field(gt=0)] = Field(description="How long an attempt may take before another joins it.")
    max: int = Field(1, ge=1, le=3, description="Such attempts a call. They count as attempts and as repetitions.")
    plain: bool = Field(False, description="Whether calls that aren't streamed are hedged too.")
    same_target: bool = Field(False, description="Whether a model with a single target is hedged there.")


class CircuitSettings(Section):
    """When a target that keeps failing is left alone."""

    failures: int = Field(10, ge=1, description="Failures in a row that open the circuit.")
    open_for: Annotated[Duration, Field(gt=0)] = Field(10.0, description="How long it stays open between trial calls.")


class ModelSettings(Section):
    """What stands behind a name that callers use."""

    targets: Annotated[tuple[TargetSettings, ...], AfterValidator(some)] = Field(
        description="Where calls go, in order of preference, or by weight."
    )
    timeouts: TimeoutsSettings = Field(default_factory=TimeoutsSettings, description="Time limits.")
    retry: RetrySettings = Field(default_factory=RetrySettings, description="Repetition of failed attempts.")
    circuit: CircuitSettings = Field(default_factory=CircuitSettings, description="Circuit breaker of each target.")
    hedge: HedgeSettings | None = Field(None, description="A second attempt beside a slow one; none by default.")
    context_fallback: str = Field(
        "",
        description="Alias that takes the conversations that are too long here, whether the caller may name it or not.",
    )

    @field_validator("targets")
    @classmethod
    def _some_weight(cls, targets: tuple[TargetSettings, ...]) -> tuple[TargetSettings, ...]:
        if targets and all(target.weight == 0 for target in targets):
            raise ValueError("must have a target whose weight is above 0")
        return targets
