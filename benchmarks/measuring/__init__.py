"""What the benchmarks share: processes under measurement, and dated results."""
