"""What the endpoints for sound and pictures have in common: a request that may be a form with files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from parley_llm.errors import InvalidRequestError
from parley_llm.exchange import Call
from parley_llm.forms.form import Form
from parley_llm.jsontext import dump, load, repeats_a_name
from parley_llm.operations.base import Operation
from parley_llm.upstream.body import Upload
from parley_llm.upstream.shaping import Params, urls_in

if TYPE_CHECKING:
    from parley_llm.calls.routing import Target

_WORDS = frozenset({"model", "prompt", "input", "instructions", "user"})


class MediaOperation(Operation):
    """An endpoint for sound or pictures. `words` are the members of a request that hold nothing but text."""

    words: ClassVar[frozenset[str]] = _WORDS

    def check(self, call: Call) -> None:
        if call.form is not None and call.form.files("model"):
            raise InvalidRequestError("model must be a text field, not a file.", param="model")
        super().check(call)
        for name, value in call.values.items():
            if not self._is_words(name, value) and any(repeats_a_name(text) for text in _json_texts(call, name, value)):
                raise InvalidRequestError(f"{name} must not name a member of an object twice.", param=name)

    def media(self, call: Call) -> Iterator[str]:
        for name, value in call.values.items():
            if not self._is_words(name, value):
                yield from urls_in(_opened(value) if call.form is not None else value)

    def bodies(self, call: Call, target: "Target", model: str) -> list[bytes] | list[Upload]:
        if call.form is None:
            return super().bodies(call, target, model)
        changes, adapted = _changes(call.form, model, target.profiles.own)
        call.course.adapted = tuple(dict.fromkeys(adapted))
        upload: Upload = call.form.encode(changes)
        return [upload]

    def _is_words(self, name: str, value: object) -> bool:
        return name in self.words and isinstance(value, str)


def _json_texts(call: Call, name: str, value: object) -> Iterator[str]:
    """Give the JSON that an upstream may read in a member: its own, and what a form's field holds."""
    if isinstance(value, dict | list):
        yield call.texts[name]
    if call.form is not None:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and not isinstance(_opened(one), str):
                yield one


def _opened(value: object) -> object:
    """Decode the JSON that a form's field may hold, so that it is searched as an upstream would read it."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return load(value.encode(errors="replace"))
        except ValueError:
            return value
    return [_opened(one) for one in value] if isinstance(value, list) else value


def _changes(
    form: Form, model: str, params: Sequence[Params]
) -> tuple[Mapping[str, str | list[str] | None], list[str]]:
    """Return the changes that a target makes to a form's fields, and the names of those of the caller's it changes."""
    fields = {name: dump(value) for name, value in form.texts().items()}
    members = {**fields, "model": dump(model)} if model else dict(fields)
    adapted: list[str] = []
    dropped_files: set[str] = set()
    for one in params:
        adapted += one.apply(members)
        dropped_files.update(name for name in one.drop if form.files(name))
    changes: dict[str, str | list[str] | None] = {name: None for name in fields if name not in members}
    changes |= dict.fromkeys(dropped_files)
    changes |= {name: _spelled(text) for name, text in members.items() if fields.get(name) != text}
    return changes, [*adapted, *sorted(dropped_files)]


def _spelled(text: str) -> str | list[str]:
    """Return a JSON value as a form spells it: strings as they are, a list of strings as several fields."""
    value: Any = load(text.encode())
    is_words = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return value if isinstance(value, str) or is_words else text
