"""What one target's model takes and lacks: its preset, the preset's rules for some models, the operator's word."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from parley_llm.parameters import ParamsSettings
from parley_llm.presets.schema import Feature, Preset
from parley_llm.upstream.shaping import Params

KEPT = 64


@dataclass(frozen=True, slots=True)
class Profile:
    """What differs for calls of one kind to one model."""

    params: tuple[Params, ...]
    lacks: frozenset[str]
    """Features that can't be asked of the model as they are."""
    refuses: frozenset[str]
    """Features with which a call must go elsewhere: lacking ones that are not emulated."""
    drop_from_messages: tuple[str, ...]
    json_word: bool
    """Whether the word json must be put into conversations that ask for it."""


class Profiles:
    """The profiles of one target, which depend on the model's name and on whether the call is streamed."""

    def __init__(
        self,
        preset: Preset,
        params: ParamsSettings | None = None,
        features: Mapping[Feature, bool] | None = None,
        *,
        emulate: bool = False,
    ) -> None:
        self._preset = preset
        self._params = params or ParamsSettings()
        own = Params.from_settings(self._params)
        self.own = (own,) if own else ()
        """The operator's changes to parameters, for endpoints that the preset's are not meant for."""
        self._features = features or {}
        self._emulate = emulate
        # The names of a pass-through alias are the callers': only so many are remembered.
        self._kept: dict[tuple[str, bool], Profile] = {}
        self._only = None if preset.models else self._build("", stream=False)
        told = (preset.features, self._features, *(rule.features for rule in preset.models))
        self.selective = any(not has for features in told for has in features.values())
        """Whether there may be anything the model lacks."""

    def of(self, model: str, *, stream: bool) -> Profile:
        """Return the profile of calls to a model."""
        if self._only is not None:
            return self._only
        profile = self._kept.get((model, stream))
        if profile is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            profile = self._kept[model, stream] = self._build(model, stream=stream)
        return profile

    def _build(self, model: str, *, stream: bool) -> Profile:
        preset = self._preset
        rules = [
            rule
            for rule in preset.models
            if rule.stream in (None, stream) and any(fnmatchcase(model.lower(), name) for name in rule.models)
        ]
        features = dict(preset.features)
        for rule in rules:
            features.update(rule.features)
        features.update(self._features)
        # The operator's changes come last: they win.
        settings = (preset.params, *(rule.params for rule in rules), self._params)
        lacks = frozenset(name for name, has in features.items() if not has)
        emulated = frozenset({"json_schema", "json_object"}) if self._emulate else frozenset[str]()
        return Profile(
            tuple(params for params in map(Params.from_settings, settings) if params),
            lacks,
            lacks - emulated - {"stream_usage"},
            preset.drop_from_messages,
            preset.json_word and self._emulate,
        )
