"""Carrying out a call: whom to ask, how often, how long, and what came of it; no front and no vendor is known here."""
