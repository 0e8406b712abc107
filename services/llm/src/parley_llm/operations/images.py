"""Pictures: made from a description, or from pictures and a description. Source: OpenAI, "API reference", "Images"."""

import re
from collections.abc import Mapping
from typing import Any

from parley_llm.errors import InvalidRequestError
from parley_llm.exchange import Call
from parley_llm.operations.base import Judge, protocol_error
from parley_llm.operations.media import MediaOperation
from parley_llm.operations.typed_events import TypedEventJudge
from parley_llm.upstream.source import Source
from parley_llm.usage import Usage

MAX_PICTURE_EVENT = 64 * 1024 * 1024
_ENDS = frozenset({"image_generation.completed", "image_edit.completed"})
_IMAGE = re.compile(r"images?(\[.*\])?")


class _Pictures(MediaOperation):
    """Pictures, whole or as events with their unfinished states."""

    model_needed = False
    named_events = True
    max_event = MAX_PICTURE_EVENT

    def check(self, call: Call) -> None:
        super().check(call)
        prompt = call.values.get("prompt")
        if not isinstance(prompt, str) or not prompt:
            raise InvalidRequestError(
                "prompt must describe the picture, as a string that is not empty.", param="prompt"
            )

    def check_answer(self, source: Source, decoded: dict[str, Any]) -> None:
        data = decoded.get("data")
        if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
            raise protocol_error(source, "something that is not a list of pictures")

    def judge(self, source: Source, call: Call) -> Judge:
        return TypedEventJudge(source, _ENDS, _number(call), self.max_event)

    def usage(self, call: Call, decoded: Mapping[str, Any], said: int) -> Usage:
        # The length of a picture's file says nothing about how many tokens it was.
        usage = super().usage(call, decoded, 0)
        data = decoded.get("data")
        usage.images = len(data) if isinstance(data, list) else _number(call)
        return usage

    def asked(self, call: Call) -> int:
        return len(str(call.values.get("prompt")).encode(errors="replace"))


class ImageGeneration(_Pictures):
    """`/images/generations`."""

    name = "image_generation"
    gen_ai = "image_generation"
    path = "/images/generations"


class ImageEdit(_Pictures):
    """`/images/edits`: one or several pictures, as files (`image`, `image[]`) or in JSON, and perhaps a `mask`."""

    name = "image_edit"
    gen_ai = "image_edit"
    path = "/images/edits"
    takes_form = True

    def check(self, call: Call) -> None:
        super().check(call)
        parts = call.form.parts if call.form is not None else []
        names = {*call.values, *(part.head.name for part in parts)}
        if not any(_IMAGE.fullmatch(name) for name in names):
            raise InvalidRequestError("image is required: one or several files in multipart/form-data.", param="image")


def _number(call: Call) -> int:
    """Return how many pictures a request asks for; 1 when it says nothing or nonsense, which the upstream refuses."""
    try:
        return max(1, int(float(call.values.get("n") or 1)))
    except (TypeError, ValueError, OverflowError):
        return 1
