"""Finds the object that the setting `runnable` names, and makes the transport that it answers by."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from parley_llm.presets.schema import Feature, OperationName
from parley_llm.upstream.transport import Transport

MISSING = "needs the package langchain-core: pip install 'parley-llm[langchain]'"


@dataclass(frozen=True, slots=True)
class Served:
    """A LangChain object as an upstream: what carries requests to it, the operation it serves, what it lacks."""

    transport: Transport
    operation: OperationName
    features: Mapping[Feature, bool] = field(default_factory=dict)


def serve(
    name: str, path: str, takes: Literal["auto", "messages", "prompt", "text", "dict"], most_calls: int
) -> Served:
    """Make the upstream `name` of the object at `path`, `package.module:object`.

    Raises ValueError: nothing is there, it is neither a Runnable nor Embeddings, or it needs what no call has.
    """
    try:
        from langchain_core.embeddings import Embeddings
        from langchain_core.runnables import Runnable
    except ModuleNotFoundError as exc:
        raise ValueError(MISSING) from exc
    found = _object_at(path)
    if isinstance(found, Embeddings):
        from parley_llm.upstream.langchain.embedding import EmbeddingsTransport

        return Served(EmbeddingsTransport(name, found, most_calls), "embeddings")
    if not isinstance(found, Runnable):
        kind = type(found).__name__
        hint = "; a function becomes one by RunnableLambda(function)" if callable(found) else ""
        raise ValueError(f"{path!r} is a {kind}, which is neither a LangChain Runnable nor Embeddings{hint}")
    from parley_llm.upstream.langchain.chat import RunnableTransport

    transport = RunnableTransport(name, found, takes, most_calls)
    return Served(transport, "chat", {} if transport.takes_tools else {"tools": False, "forced_tool": False})


def _object_at(path: str) -> Any:
    module_name, _, names = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as exc:  # Importing runs code of the operator's, which may raise anything.
        raise ValueError(f"{module_name!r} can't be imported: {type(exc).__name__}: {exc}") from exc
    for attribute in names.split("."):
        if not hasattr(found, attribute):
            raise ValueError(f"{module_name!r} has no {names!r}")
        found = getattr(found, attribute)
    return found
