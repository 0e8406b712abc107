"""Binds a request's parameters to a Runnable that is a language model, as it is or wrapped.

Only what OpenAI's API names and the model's class declares is bound: as a keyword argument anything else could change
what the operator decided, such as the model or where it is called. Chains and agents set their models' parameters
themselves. Tools go through `bind_tools`, in OpenAI's form, which every integration translates.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable

from parley_llm.upstream.langchain.refusals import RequestError

_DECLARED = (
    "temperature",
    "max_tokens",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "reasoning_effort",
    "verbosity",
)
_PROBE = {
    "type": "function",
    "function": {"name": "probe", "description": "None.", "parameters": {"type": "object", "properties": {}}},
}


class Binder:
    """Knows what one Runnable takes besides its input."""

    def __init__(self, runnable: Runnable[Any, Any]) -> None:
        self._runnable = runnable
        model = _model_in(runnable)
        self._is_model = model is not None
        self._declared = _declared_by(model)
        self.takes_tools = model is not None and _takes_tools(runnable)

    def bound(self, body: Mapping[str, Any]) -> Runnable[Any, Any]:
        """Return the Runnable with a request's parameters. Raises RequestError for what it can't do."""
        _check(body)
        runnable = self._runnable
        tools, choice = body.get("tools"), body.get("tool_choice")
        # A model that must not call tools is not shown them: there is no common word for it in LangChain.
        if tools and choice != "none":
            if not self.takes_tools:
                raise RequestError("This model takes no tools.", param="tools")
            options = _tool_options(body)
            try:
                runnable = _with_tools(runnable, tools, options)
            except Exception as exc:  # It was tried with a good tool, so it is the caller's that can't be read.
                raise RequestError("tools must be a list of functions with their parameters.", param="tools") from exc
        if not self._is_model:
            return runnable
        parameters = {name: body[name] for name in self._declared if body.get(name) is not None}
        if "max_tokens" in self._declared and body.get("max_completion_tokens") is not None:
            parameters["max_tokens"] = body["max_completion_tokens"]
        if stop := body.get("stop"):
            parameters["stop"] = _stops(stop)
        if body.get("response_format") is not None:
            # Such a request comes here only when the operator said that the model has this feature.
            parameters["response_format"] = body["response_format"]
        return runnable.bind(**parameters) if parameters else runnable


def _check(body: Mapping[str, Any]) -> None:
    if body.get("n") not in (None, 1):
        raise RequestError("n must be 1: this model gives one choice for each call.", param="n")
    if body.get("functions"):
        raise RequestError("functions are not served by this model; use tools.", param="functions")


def _stops(stop: object) -> list[Any]:
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
        raise RequestError("stop must be a string or a list of strings.", param="stop")
    return stops


def _model_in(runnable: Runnable[Any, Any]) -> object | None:
    """Return the language model that a Runnable is, or wraps without changing what goes in."""
    inner: object = runnable
    while True:
        if isinstance(inner, RunnableBindingBase):
            inner = inner.bound
        elif isinstance(inner, RunnableWithFallbacks):
            inner = inner.runnable
        elif isinstance(inner, DynamicRunnable):
            inner = inner.default
        else:
            return inner if isinstance(inner, BaseLanguageModel) or hasattr(inner, "bind_tools") else None


def _declared_by(model: object | None) -> tuple[str, ...]:
    fields = getattr(type(model), "model_fields", {})
    names = set(fields) | {field.alias for field in fields.values()}
    return tuple(name for name in _DECLARED if name in names)


def _takes_tools(runnable: Runnable[Any, Any]) -> bool:
    """Try it: that the method exists says nothing, since the base class of chat models has one that raises."""
    try:
        _with_tools(runnable, [_PROBE], {})
    except Exception:  # noqa: BLE001 - whatever it raises, it can't do it
        return False
    return True


def _with_tools(runnable: Runnable[Any, Any], tools: list[Any], options: Mapping[str, Any]) -> Runnable[Any, Any]:
    """Bind tools to the model inside, so that what wraps it stays."""
    if isinstance(runnable, RunnableBindingBase):
        return runnable.model_copy(update={"bound": _with_tools(runnable.bound, tools, options)})
    bind_tools: Any = runnable.bind_tools  # type: ignore[attr-defined]  # its absence is what `_takes_tools` looks for
    if "parallel_tool_calls" in options and "parallel_tool_calls" not in inspect.signature(bind_tools).parameters:
        # Not every integration has a word for it, and it would become a parameter of the model's API.
        options = {name: value for name, value in options.items() if name != "parallel_tool_calls"}
    bound: Runnable[Any, Any] = bind_tools(tools, **options)
    return bound


def _tool_options(body: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    choice = body.get("tool_choice")
    if choice == "required":
        options["tool_choice"] = "any"
    elif isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str):
            raise RequestError("tool_choice must name a function.", param="tool_choice")
        options["tool_choice"] = name
    if isinstance(body.get("parallel_tool_calls"), bool):
        options["parallel_tool_calls"] = body["parallel_tool_calls"]
    return options
