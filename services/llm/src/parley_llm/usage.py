"""What a call used, in the units that limits, metrics and prices count in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Usage:
    """Tokens by kind, and what is not counted in tokens. `cached` is part of `input`, `reasoning` of `output`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    images: int = 0
    """Pictures made."""
    seconds: float = 0.0
    """Seconds of audio read."""
    characters: int = 0
    """Characters spoken."""
    estimated: bool = False
    """Whether the tokens are this service's estimate, because the upstream did not count them."""

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.input + self.output


def counted(usage: Mapping[str, Any]) -> Usage:
    """Read a `usage` member: `prompt_tokens` and `completion_tokens`, or `input_tokens` and `output_tokens`."""
    prefix_in, prefix_out = ("prompt", "completion") if "prompt_tokens" in usage else ("input", "output")
    read = Usage(_count(usage, f"{prefix_in}_tokens"), _count(usage, f"{prefix_out}_tokens"))
    if details := usage.get(f"{prefix_in}_tokens_details"):
        read.cached = min(read.input, _count(details, "cached_tokens"))
    if details := usage.get(f"{prefix_out}_tokens_details"):
        read.reasoning = min(read.output, _count(details, "reasoning_tokens"))
    seconds = usage.get("seconds")
    if isinstance(seconds, int | float) and seconds > 0:
        read.seconds = float(seconds)
    return read


def estimated(asked: int, said: int) -> Usage:
    """Estimate tokens from lengths in bytes of UTF-8: four bytes each, near the truth for English and Chinese alike."""
    return Usage(max(1, asked // 4), said // 4, estimated=True)


def _count(counts: object, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and value > 0 else 0
