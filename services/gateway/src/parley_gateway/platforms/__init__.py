"""One folder for each chat platform; `base.py` is the interface, `registry.py` the list."""
