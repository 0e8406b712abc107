"""How the simulated Feishu refuses a call."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(eq=False)
class APIError(Exception):
    """An answer with a code other than 0."""

    code: int
    msg: str
    status: int = 400
    headers: Mapping[str, str] = field(default_factory=dict)
