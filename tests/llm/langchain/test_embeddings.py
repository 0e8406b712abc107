"""An Embeddings object serves `/embeddings`, and nothing else."""

import base64
import struct
from typing import Any

import openai
import pytest

from tests.llm.fronts import ask
from tests.llm.langchain.conftest import Serve
from tests.llm.langchain.subjects import LengthEmbeddings, scripted


@pytest.mark.parametrize("asked", ["two words", ["two words", "one"]])
@pytest.mark.parametrize("encoding", ["float", "base64", None])
async def test_texts_are_embedded(asked: Any, encoding: Any, serve: Serve) -> None:
    running = serve(LengthEmbeddings())
    async with openai.AsyncOpenAI(base_url=running.base_url, api_key="x") as client:
        options = {"encoding_format": encoding} if encoding else {}
        answer = await client.embeddings.create(model="chat", input=asked, **options)
    vectors = [one.embedding for one in answer.data]
    if encoding == "base64":
        vectors = [list(struct.unpack("<2f", base64.b64decode(str(one)))) for one in vectors]
    assert vectors == [[9.0, 2.0], [3.0, 1.0]][: len(answer.data)]
    assert [one.index for one in answer.data] == list(range(1 if isinstance(asked, str) else 2))
    assert answer.model == "my-agent"


@pytest.mark.parametrize(
    ("more", "param"), [({"input": [1, 2]}, "input"), ({"input": "x", "dimensions": 3}, "dimensions")]
)
async def test_what_it_can_not_do_is_refused(more: dict[str, Any], param: str, serve: Serve) -> None:
    response = await serve(LengthEmbeddings()).http.post("/v1/embeddings", json={"model": "chat", **more})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_each_object_serves_its_own_operation(serve: Serve) -> None:
    seen = await ask("http", serve(LengthEmbeddings()))
    assert (seen.code, seen.reason) == ("400", "INVALID_REQUEST")
    response = await serve(scripted("x")).http.post("/v1/embeddings", json={"model": "chat", "input": "x"})
    assert response.status_code == 400
