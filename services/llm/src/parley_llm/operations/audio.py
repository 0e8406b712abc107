"""Sound: written down, translated, spoken. Source: OpenAI, "API reference", "Audio"."""

from collections.abc import Mapping
from typing import Any

from parley_llm.errors import InvalidRequestError
from parley_llm.exchange import Answer, Call
from parley_llm.jsontext import load
from parley_llm.operations.base import Judge, protocol_error
from parley_llm.operations.body_judges import RawJudge, WholeTranscript, decoded_transcript, transcript_length
from parley_llm.operations.media import MediaOperation
from parley_llm.operations.typed_events import TypedEventJudge
from parley_llm.upstream.body import Upload
from parley_llm.upstream.events import StreamEvent
from parley_llm.upstream.source import Source
from parley_llm.usage import Usage

_TEXT = "text/plain; charset=utf-8"
_TRANSCRIPT_ENDS = frozenset({"transcript.text.done"})
_SPEECH_ENDS = frozenset({"speech.audio.done"})


class _WrittenDown(MediaOperation):
    """What is said in a file, as text in one of several formats."""

    takes_form = True
    answer_type = ""

    def check(self, call: Call) -> None:
        super().check(call)
        has_file = call.form is not None and call.form.files("file")
        # Some upstreams take the file's address instead.
        if not has_file and next(self.media(call), None) is None:
            raise InvalidRequestError("file is required, as a part of multipart/form-data.", param="file")

    def answer(self, source: Source, call: Call, data: bytes, content_type: str) -> Answer:
        media_type = content_type.partition(";")[0].strip().lower()
        as_json = "json" in str(call.values.get("response_format") or "json")
        if not as_json and "json" in media_type and (text := _text_in_json(data)) is not None:
            return Answer(text, {}, self.usage(call, {}, len(text)), _TEXT)
        if as_json or "json" in media_type:
            decoded = decoded_transcript(source, data)
            return Answer(data, decoded, self.usage(call, decoded, transcript_length(decoded)))
        is_text = not media_type or media_type.startswith("text/") or "subrip" in media_type
        if not is_text or "html" in media_type:
            raise protocol_error(source, f"{media_type[:60]!r} where text was asked for; its base_url may be wrong")
        return Answer(data, {}, self.usage(call, {}, len(data)), content_type or _TEXT)

    def usage(self, call: Call, decoded: Mapping[str, Any], said: int) -> Usage:
        duration = decoded.get("duration")
        if not isinstance(decoded.get("usage"), dict) and isinstance(duration, int | float) and duration > 0:
            return Usage(seconds=float(duration))
        return super().usage(call, decoded, said)

    def asked(self, call: Call) -> int:
        return len(str(call.values.get("prompt") or "").encode(errors="replace"))


class Translation(_WrittenDown):
    """`/audio/translations`: in English."""

    name = "translation"
    gen_ai = "translation"
    path = "/audio/translations"

    def streams(self, values: Mapping[str, Any]) -> bool:
        return False


class Transcription(_WrittenDown):
    """`/audio/transcriptions`: in the language it is said in, also piece by piece."""

    name = "transcription"
    gen_ai = "transcription"
    path = "/audio/transcriptions"
    named_events = True

    def follow(self, source: Source, call: Call, media_type: str) -> Judge | None:
        if "json" in media_type:
            return WholeTranscript(source)
        return super().follow(source, call, media_type)

    def judge(self, source: Source, call: Call) -> Judge:
        return _TranscriptJudge(source, _TRANSCRIPT_ENDS)


class Speech(MediaOperation):
    """`/audio/speech`: a text, spoken. The sound leaves as it comes; `stream_format: sse` asks for events instead."""

    name = "speech"
    gen_ai = "speech"
    path = "/audio/speech"
    named_events = True

    def check(self, call: Call) -> None:
        super().check(call)
        text = call.values.get("input")
        if not isinstance(text, str) or not text:
            raise InvalidRequestError("input must be the text to speak, not empty.", param="input")

    def streams(self, values: Mapping[str, Any]) -> bool:
        return True

    def raw(self, call: Call) -> bool:
        return call.values.get("stream_format") != "sse"

    def headers(self, call: Call, body: bytes | Upload) -> bytes:
        accept = b"*/*" if self.raw(call) else b"text/event-stream"
        return b"accept: %b\r\ncontent-type: application/json\r\n" % accept

    def follow(self, source: Source, call: Call, media_type: str) -> Judge | None:
        if not self.raw(call):
            return super().follow(source, call, media_type)
        is_text = media_type.startswith("text/") or "json" in media_type or "xml" in media_type
        return None if is_text else RawJudge(source)

    def judge(self, source: Source, call: Call) -> Judge:
        return TypedEventJudge(source, _SPEECH_ENDS)

    def usage(self, call: Call, decoded: Mapping[str, Any], said: int) -> Usage:
        # Sound says nothing about how many tokens it was.
        usage = super().usage(call, decoded, 0)
        usage.characters = len(call.values["input"])
        return usage

    def asked(self, call: Call) -> int:
        return len(call.values["input"].encode(errors="replace"))


class _TranscriptJudge(TypedEventJudge):
    """Follows a transcription's events, or the chunks that some servers send instead, which look like a chat's."""

    def __init__(self, source: Source, ends: frozenset[str]) -> None:
        super().__init__(source, ends)
        self._chunks_ended = False

    @property
    def complete(self) -> bool:
        """Tell whether the transcription has said its end."""
        return self._chunks_ended or super().complete

    def _read(self, name: bytes, data: bytes, chunk: dict[str, Any]) -> StreamEvent | None:
        choices = chunk.get("choices")
        if "type" in chunk or not isinstance(choices, list):
            return super()._read(name, data, chunk)
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        said = self.text
        for choice in choices:
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if not isinstance(delta, dict):
                self._break("a choice of a chunk is malformed")
                return None
            self._count_text(delta.get("content"))
            self._chunks_ended = self._chunks_ended or bool(choice.get("finish_reason"))
        return StreamEvent(data, chunk, self.text > said or self._chunks_ended, name=name)


def _text_in_json(data: bytes) -> bytes | None:
    """Return the text that some servers wrap in a JSON string, None for anything else."""
    try:
        text = load(data)
    except ValueError:
        return None
    return text.encode(errors="replace") if isinstance(text, str) else None
