"""Who answers an attempt: what reading an answer and wording an error about it take."""

from dataclasses import dataclass, field

from parley_llm.presets.schema import Preset


@dataclass(slots=True)
class Source:
    """An upstream as the origin of an answer; `secret` is the API key, which is taken out of its texts."""

    name: str
    preset: Preset
    secret: str = field(default="", repr=False)
