"""Embeddings: requests that go to the upstream in pieces, answers put together, inputs that some upstreams lack."""

import json
import re
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from tests.fakes.openai_upstream import OpenAIUpstream, Peer, Reply, plain, status
from tests.llm.conftest import Running
from tests.llm.operations.conftest import Serve
from tests.llm.operations.endpoints import EMBEDDINGS, attempts, embeddings, preset_settings, told

WORDS = [f"word {number}" for number in range(25)]


def vector(text: Any) -> list[float]:
    """Return the embedding that the upstream of these tests gives an input."""
    return [float(re.sub(r"\D", "", str(text)))]


def embedding_server(**changes: Any) -> Reply:
    """Answer with an embedding for each input; a usage of one token for each; `changes` replace members."""

    async def reply(peer: Peer) -> None:
        asked = peer.request.json["input"]
        answer = {**embeddings(*map(vector, asked), tokens=len(asked)), **changes}
        body = {name: value for name, value in answer.items() if value is not None}
        await plain(200, json.dumps(body).encode())(peer)

    return reply


def sizes(upstream: OpenAIUpstream) -> list[int]:
    """Return how many inputs each request had."""
    return [len(request.json["input"]) for request in upstream.requests]


def ten_at_a_time(*upstreams: OpenAIUpstream) -> dict[str, Any]:
    """Return settings over upstreams that take ten inputs at a time."""
    settings = preset_settings({"dashscope": upstreams[0]})
    if upstreams[1:]:
        settings = preset_settings({"dashscope": upstreams[0], "zhipu": upstreams[1]})
    return settings


@pytest.mark.parametrize(("number", "pieces"), [(1, [1]), (10, [10]), (11, [10, 1]), (20, [10, 10]), (25, [10, 10, 5])])
async def test_many_inputs_go_in_pieces(number: int, pieces: list[int], serve: Serve, upstream: OpenAIUpstream) -> None:
    upstream.replies = [embedding_server()]
    answer = await EMBEDDINGS.ask(serve(ten_at_a_time(upstream)), input=WORDS[:number], dimensions=1, x_odd=[1.50])
    assert sizes(upstream) == pieces
    assert [one for request in upstream.requests for one in request.json["input"]] == WORDS[:number]
    for request in upstream.requests:
        assert {name: request.json[name] for name in ("model", "dimensions", "x_odd")} == {
            "model": "fake-model",
            "dimensions": 1,
            "x_odd": [1.5],
        }
    read = CreateEmbeddingResponse.model_validate_json(answer.content, strict=True)
    assert [(one.index, one.embedding) for one in read.data] == [(at, [float(at)]) for at in range(number)]
    assert (read.usage.prompt_tokens, read.usage.total_tokens) == (number, number)
    assert attempts(answer) == 1


async def test_the_sum_is_counted_once(serve: Serve, upstream: OpenAIUpstream) -> None:
    service = serve(ten_at_a_time(upstream))
    labels = {"caller": "anonymous", "model": "chat", "type": "input", "source": "upstream"}
    before = service.metric("parley_llm_tokens_total", **labels)
    upstream.replies = [embedding_server()]
    await EMBEDDINGS.ask(service, input=WORDS)
    assert service.metric("parley_llm_tokens_total", **labels) == before + 25


async def test_an_answer_in_another_order_keeps_its_indexes(serve: Serve, upstream: OpenAIUpstream) -> None:
    async def backwards(peer: Peer) -> None:
        answer = embeddings(*map(vector, peer.request.json["input"]))
        answer["data"].reverse()
        await plain(200, json.dumps(answer).encode())(peer)

    upstream.replies = [backwards]
    answer = await EMBEDDINGS.ask(serve(ten_at_a_time(upstream)), input=WORDS[:12])
    data = answer.json()["data"]
    assert all(one["embedding"] == [float(one["index"])] for one in data)
    assert sorted(one["index"] for one in data) == list(range(12))


async def test_base64_and_unknown_members_are_kept(serve: Serve, upstream: OpenAIUpstream) -> None:
    one = '{"embedding":"AACAPg==","index":0,"object":"embedding","x":1.10}'
    body = (
        f'{{"object":"list","data":[{one}],"model":"m","x_top":1e400,"usage":{{"prompt_tokens":3,"total_tokens":3}}}}'
    )
    service = serve(ten_at_a_time(upstream))
    first = embeddings(*["AACAPg=="] * 10)
    upstream.replies = [plain(200, json.dumps({**first, "x": 1.1}).encode()), plain(200, body.encode())]
    answer = await EMBEDDINGS.ask(service, input=WORDS[:11], encoding_format="base64")
    assert '{"embedding":"AACAPg==","index":10,"object":"embedding","x":1.10}' in answer.text
    assert answer.json()["x"] == 1.1, "of the other members the first piece's are told"
    assert {request.json["encoding_format"] for request in upstream.requests} == {"base64"}


async def test_a_repetition_asks_only_for_what_is_missing(serve: Serve, upstream: OpenAIUpstream) -> None:
    good = embedding_server()
    upstream.replies = [good, status(503), good, status(429, {"retry-after-ms": "1"}), good]
    answer = await EMBEDDINGS.ask(serve(ten_at_a_time(upstream)), input=WORDS)
    assert sizes(upstream) == [10, 10, 10, 5, 5]
    assert [one["embedding"] for one in answer.json()["data"]] == [[float(at)] for at in range(25)]
    assert attempts(answer) == 3


async def test_another_target_is_asked_for_everything(serve: Serve, upstream: OpenAIUpstream) -> None:
    async with OpenAIUpstream(embedding_server()) as second:
        upstream.replies = [embedding_server(), status(503)]
        answer = await EMBEDDINGS.ask(serve(ten_at_a_time(upstream, second)), input=WORDS)
        assert (sizes(upstream), sizes(second)) == ([10, 10], [25])
        assert (answer.headers["x-parley-upstream"], attempts(answer)) == ("up1", 2)


async def test_a_lasting_error_of_a_piece_is_the_calls(serve: Serve, upstream: OpenAIUpstream) -> None:
    upstream.replies = [embedding_server(), status(400, message="too long")]
    answer = await EMBEDDINGS.ask(serve(ten_at_a_time(upstream)), input=WORDS)
    assert (answer.status_code, sizes(upstream)) == (400, [10, 10])
    assert "too long" in told(answer)["message"]


@pytest.mark.parametrize(
    "wrong",
    [
        embeddings(*[[0.5]] * 9),
        embeddings(*[[0.5]] * 11),
        embeddings(*[[0.5]] * 10, start=1),
        {"data": [{"index": 0, "embedding": [0.5]}] * 10},
    ],
    ids=["too few", "too many", "not from zero", "the same twice"],
)
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_piece_with_the_wrong_embeddings_is_an_error(
    wrong: dict[str, Any], place: int, serve: Serve, upstream: OpenAIUpstream
) -> None:
    async with OpenAIUpstream(embedding_server()) as second:
        upstream.replies = [embedding_server()] * 3
        upstream.replies[place] = plain(200, json.dumps(wrong).encode())
        answer = await EMBEDDINGS.ask(serve(ten_at_a_time(upstream, second)), input=WORDS)
        assert (answer.headers["x-parley-upstream"], len(answer.json()["data"])) == ("up1", 25)
        upstream.replies = [embedding_server()] * 3
        upstream.replies[place] = plain(200, json.dumps(wrong).encode())
        answer = await EMBEDDINGS.ask(serve(ten_at_a_time(upstream)), input=WORDS)
        assert (answer.status_code, told(answer)["reason"]) == (502, "UPSTREAM_PROTOCOL")


async def test_an_estimate_is_not_told(serve: Serve, upstream: OpenAIUpstream) -> None:
    service = serve(ten_at_a_time(upstream))
    labels = {"caller": "anonymous", "model": "chat", "type": "input", "source": "estimated"}
    before = service.metric("parley_llm_tokens_total", **labels)
    upstream.replies = [embedding_server(), embedding_server(), embedding_server(usage=None)]
    answer = await EMBEDDINGS.ask(service, input=WORDS)
    assert "usage" not in answer.json()
    whole = len(json.dumps(WORDS, separators=(",", ":")))
    assert service.metric("parley_llm_tokens_total", **labels) - before == whole // 4


async def test_one_input_is_never_split(serve: Serve, upstream: OpenAIUpstream) -> None:
    settings = preset_settings({"openai": upstream})
    upstream.replies = [EMBEDDINGS.reply()]
    for asked in ("x" * 5000, [7] * 5000):
        assert (await EMBEDDINGS.ask(serve(settings), input=asked)).status_code == 200
        assert upstream.requests[-1].json["input"] == asked
    assert len(upstream.requests) == 2


async def test_lists_of_tokens_are_split_like_texts(serve: Serve, upstream: OpenAIUpstream) -> None:
    upstream.replies = [embedding_server()]
    answer = await EMBEDDINGS.ask(serve(preset_settings({"openai": upstream})), input=[[7]] * 2048)
    assert (answer.status_code, sizes(upstream)) == (200, [2048])


@pytest.mark.parametrize("preset", ["openai", "dashscope", "zhipu", "mistral"])
async def test_a_call_has_a_bounded_number_of_pieces(preset: str, serve: Serve, upstream: OpenAIUpstream) -> None:
    answer = await EMBEDDINGS.ask(serve(preset_settings({preset: upstream})), input=["x"] * 2049)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    assert "more than 2048 inputs" in answer.json()["error"]["message"]
    assert not upstream.requests


async def test_an_upstream_without_a_limit_gets_them_all(serve: Serve, upstream: OpenAIUpstream) -> None:
    upstream.replies = [embedding_server()]
    await EMBEDDINGS.ask(serve(preset_settings({"vllm": upstream})), input=["7"] * 2049)
    assert sizes(upstream) == [2049]


@pytest.mark.parametrize("asked", [[1, 2, 3], [[1, 2], [3]]])
async def test_tokens_go_to_who_takes_them(asked: Any, serve: Serve, upstream: OpenAIUpstream) -> None:
    async with OpenAIUpstream(EMBEDDINGS.reply()) as second:
        settings = preset_settings({"ollama": upstream, "openai": second})
        assert (await EMBEDDINGS.ask(serve(settings), input=asked)).headers["x-parley-upstream"] == "up1"
        assert second.requests[0].json["input"] == asked
        for preset in ("dashscope", "zhipu", "mistral", "ollama"):
            answer = await EMBEDDINGS.ask(serve(preset_settings({preset: upstream})), input=asked)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
            assert "lists of tokens" in answer.json()["error"]["message"]
        assert not upstream.requests


async def test_a_caller_may_not_stream_them(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [EMBEDDINGS.reply()]
    answer = await EMBEDDINGS.ask(service, stream=True)
    assert answer.json() == EMBEDDINGS.answer, "the member is left to the upstream, the answer is a whole one"
