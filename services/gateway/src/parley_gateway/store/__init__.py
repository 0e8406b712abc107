"""The durable store: contract in `base.py`, records in `records.py`, SQLite in `sqlite/`."""
