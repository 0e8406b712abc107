"""The bodies of admin calls, checked."""

from typing import Annotated, TypeVar

from parley_common.settings import Section
from pydantic import Field, ValidationError

from parley_gateway.admin.errors import bad_request

BotReference = Annotated[str, Field(min_length=1, max_length=120)]
"""`name`, or `platform/name` where several bots have the name."""


class PauseRequest(Section):
    """Pause a bot."""

    bot: BotReference
    notice: str = Field("", max_length=500)
    for_s: float | None = Field(None, gt=0, allow_inf_nan=False)


class ResumeRequest(Section):
    """Let a bot work again."""

    bot: BotReference


class ExpireRequest(Section):
    """Expire the questions that have waited for longer than a time."""

    older_than_s: float = Field(ge=0, allow_inf_nan=False)
    bot: str = Field("", max_length=120)


T = TypeVar("T", bound=Section)


def parse(model: type[T], body: bytes) -> T:
    """Return the checked body. Raises CallRefusedError naming every mistake."""
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as exc:
        mistakes = "; ".join(f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg']}" for error in exc.errors())
        raise bad_request(mistakes) from exc
