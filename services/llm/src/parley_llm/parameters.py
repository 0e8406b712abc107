"""Changes to a request's top-level parameters, as the settings of a target and the presets of vendors spell them."""

from typing import Any, Self

from parley_common.settings import Section
from pydantic import Field, model_validator

from parley_llm.jsontext import dump

RESERVED_PARAMS = frozenset({"model", "messages", "stream"})


class ParamsSettings(Section):
    """Changes to the caller's top-level parameters, in the order rename, drop, default, set."""

    rename: dict[str, str] = Field(default_factory=dict, description="Old name to new name.")
    drop: tuple[str, ...] = Field((), description="Names to leave out.")
    default: dict[str, Any] = Field(default_factory=dict, description="Values for what the caller did not set.")
    set: dict[str, Any] = Field(default_factory=dict, description="Values whatever the caller set.")

    @model_validator(mode="after")
    def _not_reserved(self) -> Self:
        touched = {*self.rename, *self.rename.values(), *self.drop, *self.default, *self.set} & RESERVED_PARAMS
        if touched:
            raise ValueError(f"must leave {', '.join(sorted(touched))} alone: the service itself decides these")
        dump({**self.default, **self.set})  # Raises ValueError for what JSON can't say.
        return self
