"""Vendors' peculiarities as data: one YAML file per preset, named like the preset.

`_common.yaml` holds what any server of this API may say; it goes behind each preset's own rules. `_langchain.yaml` is
for what runs in this process.
"""

from functools import cache
from importlib import resources
from typing import Any

import yaml

from parley_llm.presets.schema import Preset

_COMMON = "_common"


def preset_names() -> list[str]:
    """Return the names of the built-in presets, sorted."""
    files = (file.name for file in resources.files(__name__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml") and name[0] != "_")


@cache
def load_preset(name: str) -> Preset:
    """Read a preset. Raises ValueError for an unknown name."""
    names = preset_names()
    if name not in names:
        raise ValueError(f"{name!r} is no preset; the presets are {', '.join(names)}")
    return _load(name)


@cache
def langchain_preset() -> Preset:
    """Read the preset of LangChain objects, which is no vendor's and can't be named in the settings."""
    return _load("_langchain")


def _load(name: str) -> Preset:
    own, common = _read(name), _read(_COMMON)
    own["errors"] = [*own.get("errors", ()), *common["errors"]]
    own["finish_reasons"] = {**common["finish_reasons"], **own.get("finish_reasons", {})}
    return Preset.model_validate(own)


def _read(name: str) -> dict[str, Any]:
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    decoded: dict[str, Any] = yaml.safe_load(text)
    return decoded
