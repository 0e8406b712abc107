"""What a call costs: prices of a target times what the call used."""

from dataclasses import dataclass

from parley_llm.usage import Usage

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in the service's currency: per million tokens or characters, per picture, per second, per call."""

    input: float = 0.0
    cached_input: float | None = None
    """Of input tokens that the upstream had cached; None means the same as `input`."""
    output: float = 0.0
    image: float = 0.0
    second: float = 0.0
    characters: float = 0.0
    request: float = 0.0


FREE = Prices()


def cost(prices: Prices, usage: Usage) -> float:
    """Return what a call costs that used so much. Reasoning counts as output, as the vendors bill it."""
    cached = min(usage.cached, usage.input)
    cached_price = prices.input if prices.cached_input is None else prices.cached_input
    tokens = (usage.input - cached) * prices.input + cached * cached_price + usage.output * prices.output
    return (
        (tokens + usage.characters * prices.characters) / _MILLION
        + usage.images * prices.image
        + usage.seconds * prices.second
        + prices.request
    )
