"""All prompts there are: the built-in ones, overridden file by file by the operator's directory.

A file is called `<name>.<locale>.md`, or `<name>.md` for English. A broken file is left out and reported; the
prompt it would have overridden stays in use, and after a change of the file the prompt that was in use before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parley_formatter.errors import UnknownPromptError
from parley_formatter.prompts.template import BrokenPromptError, Prompt, create_environment, load_prompt
from parley_formatter.sentences import pick_locale

DEFAULT_PROMPT = "assistant"
BUILT_IN = Path(__file__).parent / "templates"
_FILE = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,63})(?:\.(?P<locale>[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*))?\.md")


@dataclass(frozen=True, slots=True)
class Library:
    """Prompts by name and locale, and what was wrong with the files that could not be used."""

    prompts: dict[str, dict[str, Prompt]]
    problems: tuple[BrokenPromptError, ...] = ()

    def find(self, name: str, locale: str) -> Prompt:
        """Return a prompt in the nearest language; an empty name means the assistant.

        Raises UnknownPromptError, naming the prompts there are.
        """
        name = name or DEFAULT_PROMPT
        versions = self.prompts.get(name)
        if not versions:
            known = ", ".join(sorted(self.prompts)) or "none"
            raise UnknownPromptError(
                f"There is no prompt {name[:64]!r}. There are: {known}.", metadata={"prompt": name, "known": known}
            )
        return versions[pick_locale(locale or "en", tuple(versions))]


def prompt_files(directory: Path | None) -> list[Path]:
    """Return the operator's directory and the prompt files in it: whatever changes with a prompt."""
    return [] if directory is None else [directory, *sorted(directory.glob("*.md"))]


def load_library(directories: Sequence[Path], before: Library | None = None) -> Library:
    """Load the prompts of all directories; later ones override earlier ones.

    A prompt whose file is broken stays what it is in the library `before`.
    """
    environment = create_environment()
    prompts: dict[str, dict[str, Prompt]] = {}
    problems: list[BrokenPromptError] = []
    for directory in directories:
        if not directory.is_dir():
            problems.append(
                BrokenPromptError(directory, 0, "there is no such directory (setting formatter.prompts_dir)")
            )
            continue
        for path in sorted(directory.glob("*.md")):
            match = _FILE.fullmatch(path.name)
            if match is None:
                if path.name != "README.md":
                    problems.append(
                        BrokenPromptError(path, 0, "the file must be called <name>.md or <name>.<locale>.md")
                    )
                continue
            try:
                prompt = load_prompt(path, match["name"], match["locale"] or "en", environment)
            except BrokenPromptError as exc:
                problems.append(exc)
                kept = before.prompts.get(match["name"], {}).get(match["locale"] or "en") if before else None
                if kept is None:
                    continue
                prompt = kept
            prompts.setdefault(prompt.name, {})[prompt.locale] = prompt
    return Library(prompts, tuple(problems))
