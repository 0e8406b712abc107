"""What calls cost."""

import pytest
from parley_llm.prices import FREE, Prices, cost
from parley_llm.usage import Usage


@pytest.mark.parametrize(
    ("prices", "usage", "expected"),
    [
        (FREE, Usage(input=1000, output=1000, images=3), 0),
        (Prices(input=2, output=8), Usage(input=1_000_000, output=500_000, reasoning=400_000), 6),
        (Prices(input=2, cached_input=0.5), Usage(input=1_000_000, cached=600_000), 1.1),
        (Prices(input=2, cached_input=0), Usage(input=1_000_000, cached=1_000_000), 0),
        (Prices(input=2), Usage(input=1_000_000, cached=600_000), 2),
        (Prices(input=2, cached_input=0.5), Usage(input=10, cached=99), 0.000005),
        (Prices(image=0.04), Usage(images=3), 0.12),
        (Prices(second=0.0001), Usage(seconds=60.5), 0.00605),
        (Prices(characters=15), Usage(characters=2000), 0.03),
        (Prices(request=0.01), Usage(), 0.01),
        (Prices(input=1, output=1, request=1, image=1), Usage(input=1_000_000, output=1_000_000, images=1), 4),
    ],
)
def test_each_price_counts_its_unit(prices: Prices, usage: Usage, expected: float) -> None:
    assert cost(prices, usage) == pytest.approx(expected, abs=1e-12)
