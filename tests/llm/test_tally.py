"""The service's own counters and histograms are exposed exactly as the library's would be."""

from parley_llm.tally import Counter, Histogram
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as LibraryCounter
from prometheus_client import Histogram as LibraryHistogram
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

BOUNDS = (0.01, 0.1, 1.0, 20.0)
VALUES = [0.0, 0.01, 0.010001, 0.5, 1.0, 19.0, 20.0, 21.0, 1e9]


def test_the_exposition_is_the_librarys() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counter = Counter("calls_total", "Calls.", ("caller", "model"), ours)
    histogram = Histogram("duration_seconds", "Duration.", ("model",), BOUNDS, ours)
    library_counter = LibraryCounter("calls_total", "Calls.", ("caller", "model"), registry=theirs)
    library_histogram = LibraryHistogram("duration_seconds", "Duration.", ("model",), buckets=BOUNDS, registry=theirs)
    for value in VALUES:
        histogram("a").observe(value)
        library_histogram.labels("a").observe(value)
    for amount in (1, 2.5):
        counter("x", "a").value += amount
        library_counter.labels("x", "a").inc(amount)
    histogram('quoted "name"\n').observe(1)
    library_histogram.labels('quoted "name"\n').observe(1)
    created = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == created


def test_series_are_kept() -> None:
    counter = Counter("calls_total", "Calls.", ("caller",), CollectorRegistry())
    assert counter("x") is counter("x")
    assert counter("x") is not counter("y")


def test_an_exemplar_stands_at_its_bucket() -> None:
    registry = CollectorRegistry()
    Histogram("duration_seconds", "Duration.", ("model",), BOUNDS, registry)("a").observe(0.5, {"trace_id": "ab"})
    lines = generate_openmetrics(registry).decode().splitlines()  # type: ignore[no-untyped-call]
    (line,) = [line for line in lines if "trace_id" in line]
    assert line.startswith('duration_seconds_bucket{le="1.0",model="a"} 1')
