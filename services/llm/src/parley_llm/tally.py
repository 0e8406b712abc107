"""Counters and histograms for the path that every call takes, as collectors of `prometheus_client`.

The library's own are made for threads: each addition takes a lock and checks its labels again, which for the dozen of
additions of a call costs as much as passing the call on. These are added to in the event loop's thread only; reading
them from another one is safe.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, Exemplar, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

Series = TypeVar("Series")


class Count:
    """One series of a counter: add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Distribution:
    """One series of a histogram."""

    __slots__ = ("_bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * len(bounds)
        self.exemplars: dict[int, Exemplar] = {}
        self.sum = 0.0

    def observe(self, value: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Count a value; `exemplar` names a trace that it came from."""
        bucket = bisect_left(self._bounds, value)
        self.counts[bucket] += 1
        self.sum += value
        if exemplar is not None:
            self.exemplars[bucket] = Exemplar(dict(exemplar), value)


class _Family(Collector, Generic[Series]):
    """A metric with its series by label values."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        self._name = name
        self._text = text
        self.label_names = labels
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def __call__(self, *values: str) -> Series:
        """Return the series of these label values."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = self._new()
        return series

    def _new(self) -> Series:
        raise NotImplementedError


class Counter(_Family[Count]):
    """A counter with labels."""

    def _new(self) -> Count:
        return Count()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Give the current values."""
        family = CounterMetricFamily(self._name, self._text, labels=self.label_names)
        for values, count in list(self._series.items()):
            family.add_metric(values, count.value)
        yield family


class Histogram(_Family[Distribution]):
    """A histogram with labels; `bounds` are the buckets' upper limits without the infinite one."""

    def __init__(
        self, name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...], registry: CollectorRegistry
    ) -> None:
        self._bounds = (*bounds, math.inf)
        super().__init__(name, text, labels, registry)

    def _new(self) -> Distribution:
        return Distribution(self._bounds)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Give the current values."""
        family = HistogramMetricFamily(self._name, self._text, labels=self.label_names)
        for values, series in list(self._series.items()):
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            below = 0
            for number, (bound, count) in enumerate(zip(self._bounds, list(series.counts), strict=True)):
                below += count
                exemplar = series.exemplars.get(number)
                limit = "+Inf" if bound == math.inf else str(bound)
                buckets.append((limit, below, exemplar) if exemplar else (limit, below))
            family.add_metric(values, buckets, series.sum)
        yield family
