"""Boot code that every Parley service needs: settings, logs, telemetry, gRPC set-up, ops port, orderly shutdown."""

__version__ = "0.1.0"
