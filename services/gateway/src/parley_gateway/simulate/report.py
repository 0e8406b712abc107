"""Writes down what happened, step by step, with the time each step took."""

import time
from collections.abc import Callable
from typing import Protocol


class Tried(Protocol):
    """One request that a simulator made to the webhook."""

    @property
    def name(self) -> str:
        """What was tried, such as `try 1`."""

    @property
    def started_after_s(self) -> float:
        """Seconds since the first request."""

    @property
    def duration_s(self) -> float:
        """Seconds until it ended."""

    @property
    def status(self) -> int | None:
        """The HTTP status; None without an answer."""

    @property
    def problem(self) -> str:
        """What is wrong with the answer, if something is."""


class Report:
    """The report of one simulated message."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """`write` takes one or more lines of text."""
        self._write = write
        self._began = time.monotonic()
        self.answered = False

    def says(self, user: str, text: str) -> None:
        """Begin: the user sends a message."""
        self._began = time.monotonic()
        self._write(f"{user} → {text}")

    def tried(self, step: Tried) -> None:
        """Tell of one request to the webhook."""
        duration = _duration(step.duration_s)
        if step.problem:
            self._write(f"  {step.name}: {step.problem} ({duration})")
        elif step.status == 200:
            self._write(f"  {step.name}: acknowledged after {duration}")
        else:
            self._write(f"  {step.name}: HTTP status {step.status} after {duration}; it will be tried again")

    def answer(self, text: str) -> None:
        """Show something that the user gets to read as (part of) the answer."""
        self.answered = True
        self._write(f"  answer after {self._elapsed()}:\n{text}")

    def notice(self, text: str) -> None:
        """Show something else that the user sees, or does."""
        self._write(f"  after {self._elapsed()}: {text}")

    def timed_out(self, limit_s: float) -> None:
        """End: nothing more is waited for."""
        self._write(f"  {'stopped waiting' if self.answered else 'no answer'} after {limit_s:g} s")

    def _elapsed(self) -> str:
        return _duration(time.monotonic() - self._began)


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
