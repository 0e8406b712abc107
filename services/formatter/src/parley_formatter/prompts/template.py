"""One prompt file: front matter between `---` lines, then a Jinja template.

    ---
    name: assistant
    description: Answers questions in a chat.
    variables:
      bot_name: {description: How the bot calls itself., default: Parley}
    ---
    You are {{ bot_name }}.

A variable without a default must be given. Values are inserted as they are: nothing in them is a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

_KEYS = {"name", "description", "variables"}
_VARIABLE_KEYS = {"description", "default"}


class BrokenPromptError(Exception):
    """A prompt file can't be used; `line` is 1-based, 0 when unknown."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Variable:
    """A declared variable; without a default it must be given."""

    name: str
    description: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt in one language."""

    name: str
    locale: str
    description: str
    variables: Mapping[str, Variable]
    template: Template


def create_environment() -> ImmutableSandboxedEnvironment:
    """Build the environment of all prompts: sandboxed, and an undefined name is an error."""
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)


def load_prompt(path: Path, name: str, locale: str, environment: ImmutableSandboxedEnvironment) -> Prompt:
    """Read a prompt file.

    Raises BrokenPromptError with the file and line of the first mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise BrokenPromptError(path, 0, f"can't be read as UTF-8 text: {exc}") from exc
    front, body, offset = _split(path, text)
    if front.get("name", name) != name:
        raise BrokenPromptError(path, 1, f"the name {front['name']!r} differs from the file's name {name!r}")
    variables = _variables(path, front.get("variables") or {})
    return Prompt(
        name=name,
        locale=locale,
        description=str(front.get("description", "")),
        variables=variables,
        template=_compile(path, body, offset, variables, environment),
    )


def _split(path: Path, text: str) -> tuple[dict[str, Any], str, int]:
    """Return the front matter, the template, and the number of lines before the template."""
    lines = text.splitlines(keepends=True)
    if not lines or lines[0].rstrip() != "---":
        raise BrokenPromptError(path, 1, "the file must begin with front matter between two lines of ---")
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        raise BrokenPromptError(path, 1, "the front matter is never closed by a line of ---")
    try:
        front = yaml.safe_load("".join(lines[1:end])) or {}
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = 2 + mark.line if mark else 1
        raise BrokenPromptError(path, line, f"the front matter is not YAML: {getattr(exc, 'problem', exc)}") from exc
    if not isinstance(front, dict):
        raise BrokenPromptError(path, 2, "the front matter must be a mapping")
    if unknown := sorted(str(key) for key in front if key not in _KEYS):
        raise BrokenPromptError(
            path, 2, f"unknown front matter: {', '.join(unknown)}; known: {', '.join(sorted(_KEYS))}"
        )
    return front, "".join(lines[end + 1 :]), end + 1


def _variables(path: Path, raw: object) -> dict[str, Variable]:
    if not isinstance(raw, dict):
        raise BrokenPromptError(path, 2, "variables must map names to {description, default}")
    out = {}
    for name, about in raw.items():
        about = {} if about is None else about
        if not isinstance(about, dict) or set(about) - _VARIABLE_KEYS or not str(name).isidentifier():
            raise BrokenPromptError(path, 2, f"variable {name!r} must be a name with {{description, default}}")
        default = about.get("default")
        out[str(name)] = Variable(
            str(name), str(about.get("description", "")), None if default is None else str(default)
        )
    return out


def _compile(
    path: Path, body: str, offset: int, variables: Mapping[str, Variable], environment: ImmutableSandboxedEnvironment
) -> Template:
    try:
        tree = environment.parse(body)
        used = meta.find_undeclared_variables(tree) - set(environment.globals)
        for node in tree.find_all(nodes.Name):
            if node.name in used and node.name not in variables:
                raise BrokenPromptError(path, offset + node.lineno, f"variable {node.name!r} is not declared")
        return environment.from_string(body)
    except TemplateSyntaxError as exc:
        raise BrokenPromptError(path, offset + exc.lineno, exc.message or "syntax error") from exc
    except TemplateError as exc:
        raise BrokenPromptError(path, offset, exc.message or "template error") from exc
