from parley.llm.v1 import chat_pb2 as _chat_pb2
from parley.llm.v1 import media_pb2 as _media_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateChatCompletionRequest(_message.Message):
    __slots__ = ("params",)
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    params: _chat_pb2.ChatCompletionParams
    def __init__(self, params: _Optional[_Union[_chat_pb2.ChatCompletionParams, _Mapping]] = ...) -> None: ...

class CreateChatCompletionResponse(_message.Message):
    __slots__ = ("completion",)
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    completion: _chat_pb2.ChatCompletion
    def __init__(self, completion: _Optional[_Union[_chat_pb2.ChatCompletion, _Mapping]] = ...) -> None: ...

class StreamChatCompletionRequest(_message.Message):
    __slots__ = ("params",)
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    params: _chat_pb2.ChatCompletionParams
    def __init__(self, params: _Optional[_Union[_chat_pb2.ChatCompletionParams, _Mapping]] = ...) -> None: ...

class StreamChatCompletionResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _chat_pb2.ChatCompletionEvent
    def __init__(self, event: _Optional[_Union[_chat_pb2.ChatCompletionEvent, _Mapping]] = ...) -> None: ...

class CreateEmbeddingsRequest(_message.Message):
    __slots__ = ("params",)
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    params: _media_pb2.EmbeddingsParams
    def __init__(self, params: _Optional[_Union[_media_pb2.EmbeddingsParams, _Mapping]] = ...) -> None: ...

class CreateEmbeddingsResponse(_message.Message):
    __slots__ = ("embeddings",)
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    embeddings: _media_pb2.Embeddings
    def __init__(self, embeddings: _Optional[_Union[_media_pb2.Embeddings, _Mapping]] = ...) -> None: ...

class GenerateImagesRequest(_message.Message):
    __slots__ = ("params",)
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    params: _media_pb2.ImageParams
    def __init__(self, params: _Optional[_Union[_media_pb2.ImageParams, _Mapping]] = ...) -> None: ...

class GenerateImagesResponse(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _media_pb2.Images
    def __init__(self, images: _Optional[_Union[_media_pb2.Images, _Mapping]] = ...) -> None: ...

class EditImageRequest(_message.Message):
    __slots__ = ("params", "chunk")
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    params: _media_pb2.ImageParams
    chunk: _media_pb2.FileChunk
    def __init__(self, params: _Optional[_Union[_media_pb2.ImageParams, _Mapping]] = ..., chunk: _Optional[_Union[_media_pb2.FileChunk, _Mapping]] = ...) -> None: ...

class EditImageResponse(_message.Message):
    __slots__ = ("piece",)
    PIECE_FIELD_NUMBER: _ClassVar[int]
    piece: _media_pb2.ImagePiece
    def __init__(self, piece: _Optional[_Union[_media_pb2.ImagePiece, _Mapping]] = ...) -> None: ...

class CreateSpeechRequest(_message.Message):
    __slots__ = ("params",)
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    params: _media_pb2.SpeechParams
    def __init__(self, params: _Optional[_Union[_media_pb2.SpeechParams, _Mapping]] = ...) -> None: ...

class CreateSpeechResponse(_message.Message):
    __slots__ = ("content_type", "data")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    data: bytes
    def __init__(self, content_type: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class CreateTranscriptionRequest(_message.Message):
    __slots__ = ("params", "chunk")
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    params: _media_pb2.AudioParams
    chunk: _media_pb2.FileChunk
    def __init__(self, params: _Optional[_Union[_media_pb2.AudioParams, _Mapping]] = ..., chunk: _Optional[_Union[_media_pb2.FileChunk, _Mapping]] = ...) -> None: ...

class CreateTranscriptionResponse(_message.Message):
    __slots__ = ("transcription",)
    TRANSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    transcription: _media_pb2.Transcription
    def __init__(self, transcription: _Optional[_Union[_media_pb2.Transcription, _Mapping]] = ...) -> None: ...

class CreateTranslationRequest(_message.Message):
    __slots__ = ("params", "chunk")
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    params: _media_pb2.AudioParams
    chunk: _media_pb2.FileChunk
    def __init__(self, params: _Optional[_Union[_media_pb2.AudioParams, _Mapping]] = ..., chunk: _Optional[_Union[_media_pb2.FileChunk, _Mapping]] = ...) -> None: ...

class CreateTranslationResponse(_message.Message):
    __slots__ = ("translation",)
    TRANSLATION_FIELD_NUMBER: _ClassVar[int]
    translation: _media_pb2.Transcription
    def __init__(self, translation: _Optional[_Union[_media_pb2.Transcription, _Mapping]] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("caller", "limits", "total", "today", "since", "shared", "currency")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TODAY_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    caller: str
    limits: _containers.RepeatedCompositeFieldContainer[Limit]
    total: UsageSum
    today: UsageSum
    since: int
    shared: bool
    currency: str
    def __init__(self, caller: _Optional[str] = ..., limits: _Optional[_Iterable[_Union[Limit, _Mapping]]] = ..., total: _Optional[_Union[UsageSum, _Mapping]] = ..., today: _Optional[_Union[UsageSum, _Mapping]] = ..., since: _Optional[int] = ..., shared: bool = ..., currency: _Optional[str] = ...) -> None: ...

class Limit(_message.Message):
    __slots__ = ("name", "limit", "remaining", "reset_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RESET_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    limit: int
    remaining: int
    reset_s: float
    def __init__(self, name: _Optional[str] = ..., limit: _Optional[int] = ..., remaining: _Optional[int] = ..., reset_s: _Optional[float] = ...) -> None: ...

class UsageSum(_message.Message):
    __slots__ = ("requests", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost: float
    def __init__(self, requests: _Optional[int] = ..., input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ..., cost: _Optional[float] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("id", "owned_by", "created")
    ID_FIELD_NUMBER: _ClassVar[int]
    OWNED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    id: str
    owned_by: str
    created: int
    def __init__(self, id: _Optional[str] = ..., owned_by: _Optional[str] = ..., created: _Optional[int] = ...) -> None: ...
