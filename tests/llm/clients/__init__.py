"""The clients that applications really use, each against the service."""
