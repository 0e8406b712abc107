"""Settings that change while the process runs: their files are watched, loaded again and handed to the service.

New settings that can't be used are told and change nothing. Options that take effect only at a start keep their running
values and are named. A file counts as changed when what its path leads to is another file, or has another size or time:
so the swap of a symlink, which is how Kubernetes updates mounted Secrets and ConfigMaps (Kubernetes documentation,
"Mounted ConfigMaps are updated automatically"), is seen like an edit.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog
from pydantic import ValidationError

from parley_common.metrics import ServiceMetrics
from parley_common.settings import Loaded, ServiceSection, SettingsError
from parley_common.settings_problems import Problem, problems_from

INTERVAL_S = 5.0
SETTLE_S = 0.5
"""A changed file is read when it stayed the same for so long: editors and scripts write in several steps."""
SETTLE_TIMES = 10

ALWAYS_APPLY = frozenset({"log_level", "shutdown"})
"""Options whose change the process itself carries out."""

T = TypeVar("T", bound=ServiceSection)
Stamps = dict[Path, tuple[int, ...] | None]

log = structlog.get_logger("parley.reload")


class ReloadError(Exception):
    """A service can't use new settings and goes on with the old; the message says what to change."""


def _nothing(_settings: Any) -> tuple[Path, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Reloading(Generic[T]):
    """What a process needs to reload its settings."""

    loaded: Loaded[T]
    """The settings that the process started with."""
    load: Callable[[], Loaded[T]]
    """Loads them again. Raises SettingsError."""
    applies: frozenset[str]
    """Options below the section, such as `llm.key`, that the service can change while it runs, with all below them."""
    also: Callable[[T], Iterable[Path]] = _nothing
    """Returns further files that the service reads itself: their change is one of the settings."""
    interval_s: float = INTERVAL_S
    settle_s: float = SETTLE_S


class Reloader(Generic[T]):
    """Keeps one process's settings in step with their files."""

    def __init__(self, plan: Reloading[T], metrics: ServiceMetrics) -> None:
        """Remember how the files look now: build the service after this, so that no change of theirs is missed."""
        self._plan = plan
        self._metrics = metrics
        self._asked = asyncio.Event()
        self._files = plan.loaded.files
        self._source = plan.loaded.source
        self._also_used = self._look_at_also(plan.loaded.settings)
        # The files were read some time ago: the first look takes them for changed, and loads them again to be sure.
        self._seen: tuple[Stamps, Stamps] = ({}, self._also_used)
        self._kept: list[str] = []
        self._refused: list[str] = []
        self.settings = plan.loaded.settings
        """The settings in use."""

    @asynccontextmanager
    async def running(self, apply: Callable[[T], Awaitable[None]]) -> AsyncGenerator[None, None]:
        """Watch while the block runs; SIGHUP looks at once. `apply` makes the service use settings.

        It may raise ReloadError, when it has changed nothing.
        """
        # The handler stays: without it a SIGHUP that arrives during the stop would kill the process.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked.set)
        watching = asyncio.create_task(self._watch(apply), name="watch-settings")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, apply: Callable[[T], Awaitable[None]]) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._plan.interval_s)
            asked = self._asked.is_set()
            self._asked.clear()
            try:
                await self._look(apply, asked=asked)
            except Exception:
                # A defect of one change must not end the watch: the next change may be the cure.
                log.exception("settings_refused")
                self._metrics.config_reload.labels("error").inc()

    async def _look(self, apply: Callable[[T], Awaitable[None]], *, asked: bool) -> None:
        seen = await asyncio.to_thread(self._look_at_files)
        if not asked:
            if seen == self._seen:
                return
            seen = await self._settled(seen)
        # Other files than before follow from settings loaded before, and are no change by themselves.
        quiet = not asked and self._seen[0].keys() != seen[0].keys()
        self._seen = seen
        try:
            loaded = await asyncio.to_thread(self._plan.load)
            settings, kept = self._usable(loaded)
        except SettingsError as exc:
            # What the broken settings refer to is watched too: it may be what has to change.
            self._files = tuple(dict.fromkeys((*self._files, *exc.files)))
            self._refuse([str(problem) for problem in exc.problems], quiet=quiet)
            return
        self._files, self._source = loaded.files, loaded.source
        if kept and not (quiet and kept == self._kept):
            log.warning("settings_need_restart", options=kept)
        self._kept = kept
        changed = self._options_changed(settings)
        if changed or seen[1] != self._also_used:
            await self._use(settings, changed, apply, quiet=quiet)
        elif not quiet:
            self._accept("settings_unchanged")

    async def _use(
        self, settings: T, changed: list[str], apply: Callable[[T], Awaitable[None]], *, quiet: bool
    ) -> None:
        also = await asyncio.to_thread(self._look_at_also, settings)
        try:
            await apply(settings)
        except ReloadError as exc:
            self._refuse([str(exc)], quiet=quiet)
            return
        self.settings = settings
        self._also_used = also
        self._seen = (self._seen[0], also)
        self._accept("settings_reloaded", changed=changed)

    def _look_at_files(self) -> tuple[Stamps, Stamps]:
        return _stamps(self._files), self._look_at_also(self.settings)

    def _look_at_also(self, settings: T) -> Stamps:
        return _stamps(self._plan.also(settings))

    async def _settled(self, seen: tuple[Stamps, Stamps]) -> tuple[Stamps, Stamps]:
        """Return how the files look when they stopped changing."""
        for _ in range(SETTLE_TIMES):
            await asyncio.sleep(self._plan.settle_s)
            before, seen = seen, await asyncio.to_thread(self._look_at_files)
            if seen == before:
                break
        return seen

    def _usable(self, loaded: Loaded[T]) -> tuple[T, list[str]]:
        """Return the settings to use, and the options whose change needs a restart. Raises SettingsError.

        Options that can't change keep their running values, and the result is validated again: settings that are right
        as written may not be right together with the old value of an option.
        """
        if self._source != "environment" and loaded.source != self._source:
            # A file in the middle of being replaced, not the wish to run on defaults.
            missing = Problem(self._source, f"has no section {loaded.section}, or is gone; the settings in use stay")
            raise SettingsError([missing], loaded.files)
        raw = loaded.settings.model_dump()
        kept = _keep(self.settings.model_dump(), raw, self._plan.applies | ALWAYS_APPLY)
        if not kept:
            return loaded.settings, []
        options = [f"{loaded.section}.{option}" for option in kept]
        model = type(loaded.settings)
        try:
            return model.model_validate(raw), options
        except ValidationError as exc:
            problems = problems_from(exc, model, loaded.section, {})
            told = Problem(loaded.section, f"restart to use this: until then {', '.join(options)} can't change")
            raise SettingsError([*problems, told], loaded.files) from None

    def _options_changed(self, settings: T) -> list[str]:
        section = self._plan.loaded.section
        names = type(settings).model_fields
        return [f"{section}.{name}" for name in names if getattr(settings, name) != getattr(self.settings, name)]

    def _refuse(self, problems: list[str], *, quiet: bool) -> None:
        if quiet and problems == self._refused:
            return
        self._refused = problems
        log.error("settings_refused", problems=problems)
        self._metrics.config_reload.labels("error").inc()

    def _accept(self, event: str, **about: list[str]) -> None:
        self._refused = []
        log.info(event, **about)
        self._metrics.config_reload.labels("ok").inc()
        self._metrics.config_reload_success.set_to_current_time()


def _keep(running: dict[str, Any], new: dict[str, Any], applies: frozenset[str], parent: str = "") -> list[str]:
    """Put running values into `new` for whatever differs and isn't among `applies`; return these options."""
    kept = []
    for name, value in running.items():
        option = f"{parent}{name}"
        if option in applies or new[name] == value:
            continue
        inner = any(one.startswith(f"{option}.") for one in applies)
        if inner and isinstance(value, dict) and isinstance(new[name], dict):
            kept += _keep(value, new[name], applies, f"{option}.")
        else:
            new[name] = value
            kept.append(option)
    return kept


def _stamps(paths: Iterable[Path]) -> Stamps:
    """Return by what each file would be seen to have changed, None for one that isn't there."""
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
