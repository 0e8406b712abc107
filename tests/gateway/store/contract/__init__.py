"""What every store guarantees, run against each backend."""
