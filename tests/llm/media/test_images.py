"""Pictures over HTTP: JSON and forms, streams with events of many megabytes, their ends, what is refused."""

import base64
import json
from typing import Any

import httpx2
import pytest

from tests.fakes.openai_upstream import OpenAIUpstream, plain, status, stream
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.media.calls import PICTURE, error_of, named, said

DATA = base64.b64encode(PICTURE).decode()
USAGE = {
    "input_tokens": 50,
    "output_tokens": 4160,
    "total_tokens": 4210,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}
PARTIAL = named("image_generation.partial_image", b64_json=DATA, partial_image_index=0, size="1024x1024")
END = named("image_generation.completed", b64_json=DATA, usage=USAGE, background="opaque")
EDITED = named("image_edit.completed", b64_json=DATA, usage=USAGE)


def pictures(*given: dict[str, Any], **more: Any) -> Any:
    body = {"created": 1700000000, "data": list(given) or [{"b64_json": DATA, "revised_prompt": "A cat"}], **more}
    return plain(200, json.dumps(body).encode())


async def draw(service: Running, **members: Any) -> httpx2.Response:
    return await service.http.post("/v1/images/generations", json={"model": "chat", "prompt": "A cat", **members})


async def test_a_picture(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [pictures(usage=USAGE, unknown="ü")]
    answer = await draw(service, n=1, quality="high", new_field={"a": [1]})
    assert answer.json() == {
        "created": 1700000000,
        "data": [{"b64_json": DATA, "revised_prompt": "A cat"}],
        "usage": USAGE,
        "unknown": "ü",
    }
    request = upstream.requests[0]
    assert request.target == "/v1/images/generations"
    assert request.json == {
        "model": "fake-model",
        "prompt": "A cat",
        "n": 1,
        "quality": "high",
        "new_field": {"a": [1]},
    }


async def test_a_picture_by_address(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [pictures({"url": "https://pictures.example.com/1.png"})]
    assert (await draw(service)).json()["data"] == [{"url": "https://pictures.example.com/1.png"}]


async def test_an_edit_with_several_pictures_and_a_mask(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(503), pictures()]
    large = PICTURE * 5000
    answer = await service.http.post(
        "/v1/images/edits",
        data={"model": "chat", "prompt": "Ein Bär", "n": "2"},
        files=[
            ("image[]", ("a.png", PICTURE, "image/png")),
            ("image[]", ("b.png", large, "image/png")),
            ("mask", ("mask.png", b"mask", "image/png")),
        ],
    )
    assert answer.json()["data"][0]["b64_json"] == DATA
    for request in upstream.requests:
        assert request.target == "/v1/images/edits"
        assert [(part.name, part.filename) for part in request.form] == [
            ("model", None),
            ("prompt", None),
            ("n", None),
            ("image[]", "a.png"),
            ("image[]", "b.png"),
            ("mask", "mask.png"),
        ]
        assert [part.data for part in request.form[:2]] == [b"fake-model", "Ein Bär".encode()]
        assert [part.data for part in request.form[3:]] == [PICTURE, large, b"mask"]


async def test_an_edit_without_a_model_takes_the_upstreams(upstream: OpenAIUpstream) -> None:
    upstream.replies = [pictures()]
    settings = settings_for(upstream)
    settings["models"] = {"*": {"targets": [{"upstream": "up0", "model": "a-chat-model"}]}}
    async with run_service(settings) as service:
        answer = await service.http.post("/v1/images/edits", data={"prompt": "x"}, files={"image": ("a", PICTURE)})
        assert answer.status_code == 200
    assert [part.name for part in upstream.requests[0].form] == ["prompt", "image"]


async def test_an_edit_as_json(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [pictures()]
    body = {
        "model": "chat",
        "prompt": "x",
        "images": [{"file_id": "file-1"}, {"image_url": f"data:image/png;base64,{DATA}"}],
    }
    assert (await service.http.post("/v1/images/edits", json=body)).status_code == 200
    assert upstream.requests[0].json == {**body, "model": "fake-model"}
    body["images"] = [{"image_url": "http://10.0.0.1/cat.png"}]
    answer = await service.http.post("/v1/images/edits", json=body)
    assert "host is not allowed" in answer.json()["error"]["message"]


async def test_a_stream(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(PARTIAL, PARTIAL, END)]
    answer = await draw(service, stream=True, partial_images=2)
    assert answer.content == PARTIAL + PARTIAL + END
    assert upstream.requests[0].json["stream"] is True


async def test_a_streamed_edit(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(named("image_edit.partial_image", b64_json=DATA), EDITED)]
    answer = await service.http.post(
        "/v1/images/edits",
        data={"model": "chat", "prompt": "x", "stream": "true"},
        files={"image": ("a.png", PICTURE, "image/png")},
    )
    assert [one["type"] for one in said(answer)] == ["image_edit.partial_image", "image_edit.completed"]


async def test_events_of_many_megabytes(service: Running, upstream: OpenAIUpstream) -> None:
    large = named("image_generation.partial_image", b64_json="QUJD" * 7_500_000)
    end = named("image_generation.completed", b64_json="QUJD" * 3_000_000)
    pieces = [large[at : at + 1_000_000] for at in range(0, len(large), 1_000_000)]
    upstream.replies = [stream(*pieces, end)]
    answer = await draw(service, stream=True)
    assert answer.content == large + end


async def test_an_event_without_an_end_is_not_taken_for_ever(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(b"data: ", *[b"x" * 2_000_000] * 40)]
    answer = await service.http.post(
        "/v1/images/generations",
        json={"model": "chat", "prompt": "x", "stream": True},
        headers={"x-parley-max-attempts": "1"},
    )
    assert error_of(answer)[1] == "STREAM_BROKEN"


@pytest.mark.parametrize("end", ["cut", "fin", "end"])
async def test_a_stream_that_ends_too_early_says_so(end: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(PARTIAL, end)]
    events = said(await draw(service, stream=True))
    assert [one["type"] for one in events] == ["image_generation.partial_image", "error"]
    assert events[1]["error"]["reason"] == "STREAM_BROKEN"
    assert len(upstream.requests) == 1


async def test_several_pictures_have_several_ends(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(END, 0.05, PARTIAL, END)]
    assert [one["type"] for one in said(await draw(service, stream=True, n=2))] == [
        "image_generation.completed",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    upstream.replies = [stream(END, "cut")]
    assert said(await draw(service, stream=True, n=2))[-1]["error"]["reason"] == "STREAM_BROKEN"
    upstream.replies = [stream(END)]
    assert len(said(await draw(service, stream=True, n=2))) == 1, "a regular end says that there are no more"


async def test_an_error_inside_a_stream(service: Running, upstream: OpenAIUpstream) -> None:
    refusal = named(
        "error", error={"type": "image_generation_user_error", "code": "moderation_blocked", "message": "no"}
    )
    upstream.replies = [stream(PARTIAL, refusal)]
    events = said(await draw(service, stream=True))
    assert (events[1]["type"], events[1]["error"]["code"]) == ("error", "moderation_blocked")
    upstream.replies = [stream(refusal)]
    assert (await draw(service, stream=True)).json()["error"]["code"] == "moderation_blocked"


@pytest.mark.parametrize("body", [b'{"created":1}', b'{"data":null}', b'{"data":["x"]}', b"[]", b"x"])
async def test_a_status_of_200_proves_nothing(body: bytes, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [plain(200, body)]
    assert error_of(await draw(service)) == (502, "UPSTREAM_PROTOCOL")


@pytest.mark.parametrize(
    ("path", "members", "wrong"),
    [
        ("generations", {"prompt": ""}, "prompt must describe"),
        ("generations", {"prompt": ["x"]}, "prompt must describe"),
        ("generations", {"prompt": None}, "prompt must describe"),
        ("generations", {"stream": "yes"}, "stream must be true or false"),
        ("generations", {"image": "http://10.0.0.1/a.png"}, "host is not allowed"),
        ("generations", {"input": {"image": "http://10.0.0.1/a.png"}}, "host is not allowed"),
        ("edits", {}, "image is required"),
    ],
)
async def test_what_is_refused(
    path: str, members: dict[str, Any], wrong: str, service: Running, upstream: OpenAIUpstream
) -> None:
    body = {"model": "chat", "prompt": "x", **members}
    answer = await service.http.post(f"/v1/images/{path}", json=body)
    assert answer.status_code == 400
    assert wrong in answer.json()["error"]["message"]
    assert not upstream.requests


async def test_an_edit_without_a_picture_is_refused(service: Running, upstream: OpenAIUpstream) -> None:
    answer = await service.http.post(
        "/v1/images/edits", data={"model": "chat", "prompt": "x"}, files={"mask": ("m.png", PICTURE)}
    )
    assert "image is required" in answer.json()["error"]["message"]
    assert not upstream.requests


async def test_what_was_used_is_counted(upstream: OpenAIUpstream) -> None:
    def tokens(kind: str) -> float:
        labels = {"caller": "anonymous", "model": "chat", "type": kind, "source": "upstream"}
        return service.metric("parley_llm_tokens_total", **labels)

    async with run_service(settings_for(upstream)) as service:
        upstream.replies = [stream(PARTIAL, END)]
        await draw(service, stream=True)
        assert (tokens("input"), tokens("output")) == (50, 4160)
        upstream.replies = [pictures(usage=USAGE)]
        await draw(service)
        assert (tokens("input"), tokens("output")) == (100, 8320)
