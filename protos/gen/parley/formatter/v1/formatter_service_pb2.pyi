from parley.formatter.v1 import content_pb2 as _content_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BuildPromptRequest(_message.Message):
    __slots__ = ("prompt_id", "variables", "history", "parts", "budget", "locale")
    class VariablesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    variables: _containers.ScalarMap[str, str]
    history: _containers.RepeatedCompositeFieldContainer[_content_pb2.Turn]
    parts: _containers.RepeatedCompositeFieldContainer[_content_pb2.InputPart]
    budget: _content_pb2.Budget
    locale: str
    def __init__(self, prompt_id: _Optional[str] = ..., variables: _Optional[_Mapping[str, str]] = ..., history: _Optional[_Iterable[_Union[_content_pb2.Turn, _Mapping]]] = ..., parts: _Optional[_Iterable[_Union[_content_pb2.InputPart, _Mapping]]] = ..., budget: _Optional[_Union[_content_pb2.Budget, _Mapping]] = ..., locale: _Optional[str] = ...) -> None: ...

class BuildPromptResponse(_message.Message):
    __slots__ = ("messages", "estimated_tokens", "dropped_turns", "truncated")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_TURNS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[_content_pb2.PromptMessage]
    estimated_tokens: int
    dropped_turns: int
    truncated: bool
    def __init__(self, messages: _Optional[_Iterable[_Union[_content_pb2.PromptMessage, _Mapping]]] = ..., estimated_tokens: _Optional[int] = ..., dropped_turns: _Optional[int] = ..., truncated: bool = ...) -> None: ...

class FormatReplyRequest(_message.Message):
    __slots__ = ("markdown", "dialect", "limits", "max_parts", "locale", "ai_label")
    MARKDOWN_FIELD_NUMBER: _ClassVar[int]
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    MAX_PARTS_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    AI_LABEL_FIELD_NUMBER: _ClassVar[int]
    markdown: str
    dialect: str
    limits: _content_pb2.PartLimits
    max_parts: int
    locale: str
    ai_label: bool
    def __init__(self, markdown: _Optional[str] = ..., dialect: _Optional[str] = ..., limits: _Optional[_Union[_content_pb2.PartLimits, _Mapping]] = ..., max_parts: _Optional[int] = ..., locale: _Optional[str] = ..., ai_label: bool = ...) -> None: ...

class FormatReplyResponse(_message.Message):
    __slots__ = ("parts", "truncated", "degraded")
    class DegradedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PARTS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[_content_pb2.FormattedPart]
    truncated: bool
    degraded: _containers.ScalarMap[str, int]
    def __init__(self, parts: _Optional[_Iterable[_Union[_content_pb2.FormattedPart, _Mapping]]] = ..., truncated: bool = ..., degraded: _Optional[_Mapping[str, int]] = ...) -> None: ...

class StreamReplyRequest(_message.Message):
    __slots__ = ("start", "delta")
    START_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    start: FormatReplyRequest
    delta: str
    def __init__(self, start: _Optional[_Union[FormatReplyRequest, _Mapping]] = ..., delta: _Optional[str] = ...) -> None: ...

class StreamReplyResponse(_message.Message):
    __slots__ = ("states", "reply")
    STATES_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    states: ReplyStates
    reply: FormatReplyResponse
    def __init__(self, states: _Optional[_Union[ReplyStates, _Mapping]] = ..., reply: _Optional[_Union[FormatReplyResponse, _Mapping]] = ...) -> None: ...

class ReplyStates(_message.Message):
    __slots__ = ("states",)
    STATES_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedCompositeFieldContainer[ReplyState]
    def __init__(self, states: _Optional[_Iterable[_Union[ReplyState, _Mapping]]] = ...) -> None: ...

class ReplyState(_message.Message):
    __slots__ = ("part_index", "element_text")
    PART_INDEX_FIELD_NUMBER: _ClassVar[int]
    ELEMENT_TEXT_FIELD_NUMBER: _ClassVar[int]
    part_index: int
    element_text: str
    def __init__(self, part_index: _Optional[int] = ..., element_text: _Optional[str] = ...) -> None: ...
