"""Between the gRPC messages for embeddings, pictures and audio and OpenAI's formats for these."""

import base64
import binascii
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from parley.llm.v1 import media_pb2

from parley_llm.errors import InvalidRequestError, UpstreamProtocolError
from parley_llm.exchange import Answer
from parley_llm.jsontext import JSONObject, dump, join_array, join_object, parse_array, parse_object
from parley_llm.rpc.chat_messages import add_extras, rest, text_of, usage_message, whole

PIECE = 64 * 1024
_EMBEDDINGS = frozenset({"object", "data", "model", "usage"})
_IMAGES = frozenset({"created", "data", "usage"})
_IMAGE = frozenset({"b64_json", "url", "revised_prompt"})
_TRANSCRIPTION = frozenset({"text", "language", "duration", "usage"})


def embeddings_body(params: media_pb2.EmbeddingsParams) -> JSONObject:
    """Return the request as JSON members. Raises InvalidRequestError, naming the field."""
    inputs = []
    for at, one in enumerate(params.inputs):
        kind = one.WhichOneof("input")
        if kind is None:
            raise InvalidRequestError(f"inputs[{at}] is empty: set text or tokens.", param="inputs")
        inputs.append(dump(one.text) if kind == "text" else dump(list(one.tokens.tokens)))
    texts = {"model": dump(params.model), "input": join_array(inputs)}
    if params.HasField("dimensions"):
        texts["dimensions"] = dump(params.dimensions)
    return _body(params, texts, refused={"encoding_format"})


def embeddings_message(answer: Answer) -> media_pb2.Embeddings:
    """Return embeddings as a message, in the order of the inputs. Raises UpstreamProtocolError."""
    members = parse_object(answer.data).texts
    decoded = answer.decoded
    embeddings: list[media_pb2.Embedding] = [
        media_pb2.Embedding(index=whole(one.get("index"), at), values=_vector(one["embedding"]))
        for at, one in enumerate(decoded["data"])
    ]
    embeddings.sort(key=lambda one: one.index)
    return media_pb2.Embeddings(
        model=text_of(decoded.get("model")),
        embeddings=embeddings,
        usage=usage_message(decoded.get("usage")),
        extra_body_json=rest(members, _EMBEDDINGS),
    )


def image_body(params: media_pb2.ImageParams) -> JSONObject:
    """Return a request for pictures as JSON members. Raises InvalidRequestError, naming the field."""
    texts = {"prompt": dump(params.prompt)}
    for name in ("model", "size", "quality", "response_format", "output_format"):
        if value := getattr(params, name):
            texts[name] = dump(value)
    if params.HasField("n"):
        texts["n"] = dump(params.n)
    return _body(params, texts, refused={"stream"})


def images_message(answer: Answer) -> media_pb2.Images:
    """Return pictures as a message. Raises UpstreamProtocolError."""
    decoded = answer.decoded
    members = parse_object(answer.data).texts
    texts = parse_array(members["data"])
    images = []
    for one, text in zip(decoded["data"], texts, strict=True):
        image = media_pb2.Image(
            revised_prompt=text_of(one.get("revised_prompt")),
            extra_body_json=rest(parse_object(text).texts, _IMAGE) if one.keys() - _IMAGE else b"",
        )
        if one.get("b64_json"):
            image.data = _file(one["b64_json"])
        else:
            image.url = text_of(one.get("url"))
        images.append(image)
    return media_pb2.Images(
        created=whole(decoded.get("created")),
        images=images,
        usage=usage_message(decoded.get("usage")),
        extra_body_json=rest(members, _IMAGES),
    )


def answer_pieces(answer: Answer) -> Iterator[media_pb2.ImagePiece]:
    """Give a whole answer with pictures in pieces. Raises UpstreamProtocolError."""
    message = images_message(answer)
    for index, image in enumerate(message.images):
        start = media_pb2.ImageStart(index=index, url=image.url, revised_prompt=image.revised_prompt)
        yield media_pb2.ImagePiece(start=start)
        yield from _data_pieces(image.data)
    end = media_pb2.ImagesEnd(
        created=message.created,
        usage=message.usage if message.HasField("usage") else None,
        extra_body_json=message.extra_body_json,
    )
    yield media_pb2.ImagePiece(end=end)


def event_pieces(event: Mapping[str, Any]) -> Iterator[media_pb2.ImagePiece]:
    """Give one event of streamed pictures in pieces. Raises UpstreamProtocolError."""
    if event.get("b64_json"):
        partial = str(event.get("type", "")).endswith("partial_image")
        yield media_pb2.ImagePiece(start=media_pb2.ImageStart(partial=partial))
        yield from _data_pieces(_file(event["b64_json"]))
    if str(event.get("type", "")).endswith(".completed"):
        end = media_pb2.ImagesEnd(created=whole(event.get("created_at")), usage=usage_message(event.get("usage")))
        yield media_pb2.ImagePiece(end=end)


def speech_body(params: media_pb2.SpeechParams) -> JSONObject:
    """Return a request for speech as JSON members. Raises InvalidRequestError, naming the field."""
    texts = {"input": dump(params.input)}
    for name in ("model", "voice", "response_format", "instructions"):
        if value := getattr(params, name):
            texts[name] = dump(value)
    if params.HasField("speed"):
        texts["speed"] = dump(params.speed)
    return _body(params, texts, refused={"stream_format"})


def audio_body(params: media_pb2.AudioParams) -> JSONObject:
    """Return the fields of a request about audio as JSON members. Raises InvalidRequestError, naming the field."""
    texts = {}
    for name in ("model", "language", "prompt", "response_format"):
        if value := getattr(params, name):
            texts[name] = dump(value)
    if params.HasField("temperature"):
        texts["temperature"] = dump(params.temperature)
    return _body(params, texts, refused={"stream", "file"})


def form_fields(body: JSONObject) -> Iterator[tuple[str, str]]:
    """Give JSON members as fields of a form: a string as it is, a list as several fields, all else as JSON."""
    for name, value in body.values.items():
        if isinstance(value, list):
            for text in parse_array(body.texts[name]):
                yield f"{name}[]", _field(text)
        else:
            yield name, _field(body.texts[name])


def transcription_message(answer: Answer) -> media_pb2.Transcription:
    """Return a transcription as a message."""
    if "json" not in answer.content_type:
        return media_pb2.Transcription(text=answer.data.decode(errors="replace"))
    decoded = answer.decoded
    duration = decoded.get("duration")
    usage = decoded.get("usage")
    counts_tokens = isinstance(usage, dict) and usage.get("type") != "duration"
    known = _TRANSCRIPTION if counts_tokens or usage is None else _TRANSCRIPTION - {"usage"}
    return media_pb2.Transcription(
        text=text_of(decoded.get("text")),
        language=text_of(decoded.get("language")),
        duration=_seconds(duration),
        usage=usage_message(usage) if counts_tokens else None,
        extra_body_json=rest(parse_object(answer.data).texts, known),
    )


def _body(params: Any, texts: dict[str, str], *, refused: set[str]) -> JSONObject:
    if getattr(params, "user", ""):
        texts["user"] = dump(params.user)
    add_extras(texts, params.extra_body_json, "extra_body_json", refused=refused)
    return parse_object(join_object(texts))


def _field(text: str) -> str:
    if not text.startswith('"'):
        return text
    value = parse_object(f'{{"value":{text}}}').values["value"]
    return str(value)


def _vector(embedding: object) -> list[float]:
    """Read a vector: a list of numbers, or base64 of 32-bit floats, the lower byte first."""
    if isinstance(embedding, str):
        data = _file(embedding)
        if len(data) % 4 == 0:
            return list(struct.unpack(f"<{len(data) // 4}f", data))
    if not isinstance(embedding, list) or not all(isinstance(value, int | float) for value in embedding):
        raise UpstreamProtocolError("The upstream answered with an embedding that is no vector.")
    return embedding


def _file(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except binascii.Error as exc:
        raise UpstreamProtocolError("The upstream answered with data that is not base64.") from exc


def _data_pieces(data: bytes) -> Iterator[media_pb2.ImagePiece]:
    for at in range(0, len(data), PIECE):
        yield media_pb2.ImagePiece(data=data[at : at + PIECE])


def _seconds(value: object) -> float:
    """Read a duration: some upstreams spell it as a string."""
    try:
        return max(0.0, float(value)) if isinstance(value, int | float | str) else 0.0
    except ValueError:
        return 0.0
