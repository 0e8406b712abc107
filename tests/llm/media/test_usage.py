"""What a call about sound or pictures used, read from what upstreams say."""

from typing import Any

import pytest
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings
from parley_llm.exchange import Call
from parley_llm.operations.base import Operation
from parley_llm.operations.registry import IMAGE_EDIT, IMAGE_GENERATION, SPEECH, TRANSCRIPTION
from parley_llm.usage import Usage

from tests.llm.conftest import DEMO_MODELS

TOKENS = {"input_tokens": 50, "output_tokens": 4160, "total_tokens": 4210}


@pytest.mark.parametrize(
    ("operation", "asked", "answered", "said", "used"),
    [
        (TRANSCRIPTION, {}, {"usage": {"type": "duration", "seconds": 9}}, 40, Usage(seconds=9)),
        (TRANSCRIPTION, {}, {"usage": {"type": "tokens", **TOKENS}}, 40, Usage(50, 4160)),
        (TRANSCRIPTION, {}, {"duration": 8.47}, 40, Usage(seconds=8.47)),
        (TRANSCRIPTION, {}, {"duration": 9, "usage": {"seconds": 8}}, 40, Usage(seconds=8)),
        (TRANSCRIPTION, {"prompt": "x" * 8}, {}, 40, Usage(2, 10, estimated=True)),
        (SPEECH, {"input": "世界" * 10}, {}, 99, Usage(15, 0, characters=20, estimated=True)),
        (SPEECH, {"input": "Hello"}, {"usage": TOKENS}, 0, Usage(50, 4160, characters=5)),
        (IMAGE_GENERATION, {"prompt": "x"}, {"data": [{}, {}], "usage": TOKENS}, 9, Usage(50, 4160, images=2)),
        (IMAGE_GENERATION, {"prompt": "x" * 8}, {"data": [{}]}, 9, Usage(2, 0, images=1, estimated=True)),
        (IMAGE_GENERATION, {"prompt": "x", "n": 3.0}, {"usage": TOKENS}, 0, Usage(50, 4160, images=3)),
        (IMAGE_EDIT, {"prompt": "x", "n": "2"}, {"usage": TOKENS}, 0, Usage(50, 4160, images=2)),
        (IMAGE_EDIT, {"prompt": "x", "n": "many"}, {"usage": TOKENS}, 0, Usage(50, 4160, images=1)),
    ],
)
def test_usage(operation: Operation, asked: dict[str, Any], answered: dict[str, Any], said: int, used: Usage) -> None:
    settings = LLMSettings.model_validate({"upstreams": {"demo": {"preset": "demo"}}, "models": DEMO_MODELS})
    caller = build_routing(settings, {}).callers.authenticate("")
    call = Call(operation, caller, "id", asked, {})
    assert operation.usage(call, answered, said) == used
