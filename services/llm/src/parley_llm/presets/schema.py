"""What a preset may say about a vendor. Everything here is carried out by code that knows no vendor."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from parley_llm.parameters import ParamsSettings

Feature = Literal["tools", "forced_tool", "json_schema", "json_object", "vision", "thinking", "stream_usage"]
OperationName = Literal[
    "chat", "text_completion", "responses", "embeddings", "moderation", "image_generation", "image_edit",
    "transcription", "translation", "speech",
]  # fmt: skip
Meaning = Literal[
    "no_balance", "content_filter", "too_long", "rate_limited", "busy", "auth", "bad_parameter", "model_not_found"
]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "interrupted"]


def _as_text(values: object) -> object:
    """Let codes be written as numbers or words."""
    return [str(value).lower() for value in values] if isinstance(values, list | tuple) else values


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorRule(_Part):
    """What an error means. All that a rule names must match; the first rule that matches decides."""

    status: tuple[int, ...] = Field((), description="HTTP status, one of these.")
    code: Annotated[tuple[str, ...], BeforeValidator(_as_text)] = Field(
        (), description="The error's `code` or `type`, one of these, in either case of letters."
    )
    message: re.Pattern[str] | None = Field(None, description="Regular expression found in the error's message.")
    means: Meaning = Field(description="What it means.")

    def matches(self, status: int, words: frozenset[str], message: str) -> bool:
        """Tell whether the rule is about this error; `words` are its code and type in small letters."""
        return (
            (not self.status or status in self.status)
            and (not self.code or any(code in words for code in self.code))
            and (self.message is None or self.message.search(message) is not None)
        )


class ErrorBody(_Part):
    """Where an answer with status 200 says that it is an error, apart from `error`."""

    member: str = Field(description="Member of the answer, an object.")
    code: str = Field(description="Its member with the error's code.")
    message: str = Field(description="Its member with the error's message.")
    ok: Annotated[tuple[str, ...], BeforeValidator(_as_text)] = Field(description="Codes that mean success.")


class Reasoning(_Part):
    """Where the model's reasoning is in an answer; it always leaves as `reasoning_content`."""

    members: tuple[str, ...] = Field(
        ("reasoning_content", "reasoning"), description="Members of the delta or message, the first present counts."
    )
    think: bool = Field(True, description="Whether a leading `<think>…</think>` of the text is reasoning.")
    parts: bool = Field(False, description="Whether `content` may be a list of `thinking` and `text` parts.")


class Embeddings(_Part):
    """Limits of the embeddings API."""

    max_inputs: int | None = Field(None, ge=1, description="Inputs a request may have at most.")
    token_arrays: bool = Field(True, description="Whether inputs may be lists of token numbers.")


class ModelRule(_Part):
    """What differs for some of the vendor's models. Of several rules that match, the later ones win."""

    models: tuple[str, ...] = Field(min_length=1, description="Patterns of names; `*` stands for anything.")
    stream: bool | None = Field(None, description="Only for streamed (true) or plain (false) calls.")
    features: dict[Feature, bool] = Field(default_factory=dict, description="Features these have or lack.")
    params: ParamsSettings = Field(default_factory=ParamsSettings, description="Changes to the parameters.")


class Preset(_Part):
    """What differs between vendors of the same API."""

    provider: str = Field(description="Value of `gen_ai.provider.name` in metrics and traces.")
    base_url: str | None = Field(None, description="Where the vendor serves the API, if that is one address.")
    needs_key: bool = Field(True, description="Whether that address takes no calls without a key.")
    paths: dict[OperationName, str | None] = Field(
        default_factory=dict,
        description="Paths behind the base URL that are not OpenAI's; `{model}` is the model; null: not offered.",
    )
    models_path: str | None = Field("/models", description="Path of the list of models, if there is one.")
    query: str = Field("", description="Query of every request; `{api_version}` is the upstream's setting.")
    key_header: str = Field("authorization", description="Header that carries the API key.")
    key_prefix: str = Field("Bearer ", description="What stands before the API key in that header.")
    features: dict[Feature, bool] = Field(default_factory=dict, description="Features it lacks; others are assumed.")
    params: ParamsSettings = Field(default_factory=ParamsSettings, description="Changes to the parameters.")
    models: tuple[ModelRule, ...] = Field((), description="What differs for some models.")
    drop_from_messages: tuple[str, ...] = Field((), description="Members of messages that it refuses.")
    json_word: bool = Field(False, description="Whether `json_object` needs the word json in the conversation.")
    reasoning: Reasoning = Field(default_factory=Reasoning, description="Where the reasoning is.")
    usage_in_choice: bool = Field(False, description="Whether a stream's `usage` is inside its first choice.")
    drop_if_empty: tuple[str, ...] = Field((), description="Members of a delta that are left out when empty.")
    repair_tool_calls: bool = Field(False, description="Whether ids may be missing and indexes be used twice.")
    error_body: ErrorBody | None = Field(None, description="Another form of errors.")
    errors: tuple[ErrorRule, ...] = Field((), description="What its errors mean.")
    finish_reasons: dict[str, FinishReason] = Field(default_factory=dict, description="Its own reasons to OpenAI's.")
    embeddings: Embeddings = Field(default_factory=Embeddings, description="Limits of embeddings.")

    def offers(self, operation: OperationName) -> bool:
        """Tell whether the vendor has an operation, as far as the preset knows."""
        return operation not in self.paths or self.paths[operation] is not None

    def meaning(self, status: int, words: frozenset[str], message: str) -> Meaning | None:
        """Return what an error means, None when no rule knows it; `status` is 0 when the answer's was 200."""
        return next((rule.means for rule in self.errors if rule.matches(status, words, message)), None)
