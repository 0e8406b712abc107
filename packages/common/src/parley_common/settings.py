"""Settings: one YAML file with a section for each service, or the environment alone.

A service reads its own section only. In that section's strings `${VAR}`, `${VAR:-default}` and `${file:/path}` are
replaced after parsing, `$${` is a plain `${`; references don't nest. All mistakes are found and reported together, each
with the option's path and what would be right; no message repeats a value, since it may be a secret.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from parley_common.settings_problems import Problem, closest, problems_from

SECTIONS = ("gateway", "llm", "formatter")
DEFAULT_FILE = "parley.yaml"

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?", re.DOTALL)


class SettingsError(Exception):
    """The settings can't be used; `problems` lists every mistake."""

    def __init__(self, problems: list[Problem], files: Iterable[Path] = ()) -> None:
        """Keep the problems and make the message of all of them; `files` were read, or should have been."""
        self.problems = problems
        self.files = tuple(files)
        super().__init__("\n".join(str(problem) for problem in problems))


_DURATION = r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*"


def _duration(value: Any) -> Any:
    match = re.fullmatch(_DURATION, value) if isinstance(value, str) else None
    if match is not None:
        return float(match[1]) * _UNITS[match[2] or "s"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError("must be a duration such as 500ms, 5s, 3m or 1h")


_WrittenDuration = Annotated[float, Field(ge=0)] | Annotated[str, Field(pattern=f"^{_DURATION}$")]

Duration = Annotated[
    float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_duration, json_schema_input_type=_WrittenDuration)
]
"""Seconds; written as a number or as `500ms`, `5s`, `3m`, `1h`, `2d`."""

Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port; 0 lets the system choose."""


class Section(BaseModel):
    """Base of every section: unknown options are mistakes, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Shutdown(Section):
    """How a service stops."""

    drain: Duration = Field(0.0, description="How long to stay up, not ready, before listeners close.")
    grace: Duration = Field(30.0, description="How long work in flight may take after that.")


class ServiceSection(Section):
    """What every service can be told."""

    host: str = Field("127.0.0.1", description="Address to listen on. Containers set 0.0.0.0.")
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = Field(
        "info", description="Least severity that is logged: debug, info, warning or error."
    )
    shutdown: Shutdown = Field(default_factory=Shutdown, description="How the service stops.")


T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """Settings with where they came from."""

    settings: T
    section: str
    """The section's name, with which the paths of options begin."""
    source: str
    """The file's path, or `environment`."""
    files: tuple[Path, ...]
    """Files to watch: the settings file and the secret files it refers to."""


def load(
    model: type[T],
    *,
    section: str,
    env: Mapping[str, str],
    from_env: Callable[[Mapping[str, str]], dict[str, Any]],
    overrides: Mapping[str, str] | None = None,
    env_names: Mapping[str, str] | None = None,
    config: str | None = None,
) -> Loaded[T]:
    """Load one service's settings.

    `config` is the path given on the command line; else `PARLEY_CONFIG`; else `./parley.yaml` when it exists. Without a
    file, or when the file has no such section, `from_env` makes the section. `overrides` maps environment variables
    to option paths below the section (ports); they win over the file. `env_names` maps option paths below the section
    to the variables that `from_env` reads them from, so that a mistake names the variable.

    Raises
        SettingsError: with every mistake found.
    """
    problems: list[Problem] = []
    files: list[Path] = []
    path = _config_path(config, env)
    raw = _read_section(path, section, problems) if path else None
    if path:
        files.append(path)
    if raw is None:
        raw = from_env(env)
        source = "environment"
    else:
        source = str(path)
        raw = _replace(raw, section, env, problems, files)
    origins = _apply_overrides(raw, section, overrides or {}, env)
    if source == "environment":
        origins |= {f"{section}.{option}": name for option, name in (env_names or {}).items()}
    settings: T | None = None
    try:
        settings = model.model_validate(raw)
    except ValidationError as exc:
        unresolved = [problem.path for problem in problems]
        problems += [
            problem
            for problem in problems_from(exc, model, section, origins)
            if not any(_within(path, problem.path) for path in unresolved)
        ]
    if problems or settings is None:
        raise SettingsError(sorted(problems, key=lambda problem: problem.path), files)
    return Loaded(settings, section, source, tuple(files))


def _within(path: str, outer: str) -> bool:
    """Tell whether an option is another or below it: what failed to be replaced makes its whole section look wrong."""
    return path == outer or path.startswith(f"{outer}.")


def _config_path(config: str | None, env: Mapping[str, str]) -> Path | None:
    named = config or env.get("PARLEY_CONFIG")
    if named:
        return Path(named)
    default = Path(DEFAULT_FILE)
    return default if default.exists() else None


class _Loader(yaml.SafeLoader):
    """Reads YAML and refuses a key that stands twice in a mapping, where the first would silently be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_document(path: Path) -> Any:
    # The causes are left out on purpose: a YAML error quotes the file, and with it a secret.
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as exc:
        raise SettingsError([Problem(str(path), f"can't be read: {exc.strerror}")]) from None
    except UnicodeDecodeError:
        raise SettingsError([Problem(str(path), "isn't text in UTF-8")]) from None
    except yaml.constructor.ConstructorError as exc:
        raise SettingsError([Problem(str(path), f"isn't valid{_where(exc)}: {exc.problem}")]) from None
    except yaml.YAMLError as exc:
        raise SettingsError([Problem(str(path), f"isn't valid YAML{_where(exc)}")]) from None
    except ValueError:
        # PyYAML makes dates itself and lets their error through, which doesn't tell the line.
        raise SettingsError([Problem(str(path), "holds a date that doesn't exist; quote it if it is text")]) from None


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _read_section(path: Path, section: str, problems: list[Problem]) -> dict[str, Any] | None:
    document = _read_document(path)
    if document is None:
        return None
    if not isinstance(document, dict):
        raise SettingsError([Problem(str(path), f"must be a mapping with the sections {', '.join(SECTIONS)}")])
    unknown = [str(name) for name in document if name not in SECTIONS]
    problems.extend(Problem(name, "unknown section" + closest(name, SECTIONS)) for name in unknown)
    raw = document.get(section)
    if raw is None:
        return {} if section in document else None
    if not isinstance(raw, dict):
        raise SettingsError([*problems, Problem(section, "must be a mapping of options")])
    return raw


def _replace(value: Any, path: str, env: Mapping[str, str], problems: list[Problem], files: list[Path]) -> Any:
    """Return the value with the references in its strings replaced."""
    if isinstance(value, dict):
        return {key: _replace(item, f"{path}.{key}", env, problems, files) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, f"{path}.{index}", env, problems, files) for index, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def look_up(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if match[1] is None or "${" in match[1]:
            problems.append(Problem(path, "a reference has no end, or holds another; a plain ${ is written $${"))
            return ""
        if match[1].startswith("file:"):
            return _read_secret(Path(match[1].removeprefix("file:")), path, problems, files)
        return _variable(match[1], path, env, problems)

    return _REFERENCE.sub(look_up, value)


def _variable(reference: str, path: str, env: Mapping[str, str], problems: list[Problem]) -> str:
    parsed = _VARIABLE.fullmatch(reference)
    if parsed is None:
        problems.append(Problem(path, "a reference must be ${VAR}, ${VAR:-default} or ${file:/path}"))
        return ""
    name, has_default, default = parsed[1], parsed[2], parsed[3]
    value = env.get(name)
    if has_default and not value:
        return default or ""
    if value is None:
        problems.append(
            Problem(path, f"the environment variable {name} is not set; set it or write ${{{name}:-default}}")
        )
        return ""
    return value


def _read_secret(secret: Path, path: str, problems: list[Problem], files: list[Path]) -> str:
    files.append(secret)
    try:
        return secret.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        problems.append(Problem(path, f"the file {secret} can't be read as text"))
        return ""


def _apply_overrides(
    raw: dict[str, Any], section: str, overrides: Mapping[str, str], env: Mapping[str, str]
) -> dict[str, str]:
    """Write the overrides into the raw section; return which variable each overridden path came from.

    An empty variable overrides nothing: that is how compose files and shells often spell "not set".
    """
    origins: dict[str, str] = {}
    for name, option in overrides.items():
        place = _place(raw, option.split(".")[:-1])
        if env.get(name) and place is not None:
            place[option.rpartition(".")[2]] = env[name]
            origins[f"{section}.{option}"] = name
    return origins


def _place(raw: dict[str, Any], parents: list[str]) -> dict[str, Any] | None:
    """Return the mapping below these options; None when the file has something else there, itself a mistake."""
    place = raw
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            return None
    return place
