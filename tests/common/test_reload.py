"""Settings that change while a process runs: what reaches the service, what is told, what stays."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from parley_common.metrics import ServiceMetrics
from parley_common.reload import Reloader, ReloadError, Reloading
from parley_common.settings import Loaded, Port, Section, ServiceSection, load
from pydantic import Field, SecretStr, model_validator
from structlog.testing import capture_logs

from tests.e2e.waiting import eventually
from tests.fakes.mounted_files import MountedFiles

SOON_S = 0.05
QUIET_S = 0.4
"""Several times as long as the watch needs to notice a change."""
NEVER_S = 600.0


class Peer(Section):
    """An option that needs a restart beside one that doesn't."""

    target: str = "localhost:1"
    key: SecretStr | None = None


class Watched(ServiceSection):
    """The section `llm`, whose name is borrowed."""

    port: Port = 1
    words: dict[str, str] = Field(default_factory=dict)
    peer: Peer = Field(default_factory=Peer)
    callers: tuple[SecretStr, ...] = ()
    prompts: Path | None = None

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        if not self.callers and self.host != "127.0.0.1":
            raise ValueError("callers must be set")
        return self


class Service:
    """A process with a watch, and what came of it."""

    def __init__(self, metrics: ServiceMetrics, reloader: Reloader[Watched], lines: list[Any]) -> None:
        self.reloader = reloader
        self.applied: list[Watched] = []
        self.refuses: Exception | None = None
        self._metrics = metrics
        self._lines = lines

    async def apply(self, settings: Watched) -> None:
        if self.refuses:
            raise self.refuses
        self.applied.append(settings)

    def count(self, outcome: str) -> float:
        return self._metrics.registry.get_sample_value("parley_config_reload_total", {"outcome": outcome}) or 0.0

    @property
    def success_at(self) -> float:
        name = "parley_config_last_reload_success_timestamp_seconds"
        return self._metrics.registry.get_sample_value(name) or 0.0

    def told(self, event: str) -> list[Any]:
        return [line for line in self._lines if line["event"] == event]

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self._lines]


class World:
    """A settings file and a process that reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "parley.yaml"
        self.env: dict[str, str] = {}

    def write(self, **section: Any) -> None:
        """Replace the file as editors do: write another and rename it."""
        new = self.folder / "parley.yaml.new"
        new.write_text(yaml.safe_dump({"llm": section}))
        new.rename(self.file)

    def load(self) -> Loaded[Watched]:
        return load(Watched, section="llm", env=self.env, from_env=_defaults, config=str(self.file))

    @asynccontextmanager
    async def running(
        self, *, interval_s: float = SOON_S, settle_s: float = SOON_S, after_load: Any = None, **plan: Any
    ) -> AsyncGenerator[Service, None]:
        loaded = self.load()
        if after_load:
            after_load()
        metrics = ServiceMetrics("test", "1")
        applies = frozenset({"words", "peer.key", "callers", "prompts"})
        reloading = Reloading(loaded, self.load, applies, interval_s=interval_s, settle_s=settle_s, **plan)
        with capture_logs() as lines:
            service = Service(metrics, Reloader(reloading, metrics), lines)
            async with service.reloader.running(service.apply):
                if interval_s < QUIET_S:
                    await asyncio.sleep(4 * SOON_S)  # Past the first look.
                yield service


def _defaults(_env: Mapping[str, str]) -> dict[str, Any]:
    return {"words": {"from": "environment"}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.write(words={"a": "1"})
    return world


async def test_files_at_rest_cause_nothing(world: World) -> None:
    async with world.running() as service:
        await asyncio.sleep(QUIET_S)
    assert (service.applied, service.events) == ([], [])
    assert (service.count("ok"), service.count("error")) == (0, 0)
    assert service.success_at > 1_700_000_000


async def test_an_edit_reaches_the_service_once(world: World) -> None:
    async with world.running() as service:
        started_at = service.success_at
        world.write(words={"a": "2"})
        await eventually(lambda: service.told("settings_reloaded"))
        await asyncio.sleep(QUIET_S)
    assert [settings.words for settings in service.applied] == [{"a": "2"}]
    assert service.reloader.settings.words == {"a": "2"}
    assert [line["changed"] for line in service.told("settings_reloaded")] == [["llm.words"]]
    assert (service.count("ok"), service.count("error")) == (1, 0)
    assert service.success_at > started_at


async def test_a_mounted_secret_is_swapped(world: World, tmp_path: Path) -> None:
    secrets = MountedFiles(tmp_path / "secrets", key="first-key\n", other="x")
    world.write(peer={"key": f"${{file:{secrets.path('key')}}}"})
    async with world.running() as service:
        secrets.update(key="other-key\n", other="x")  # The same length: size alone would not tell.
        await eventually(lambda: service.applied)
        secrets.update(key="third-key\n", other="x")
        await eventually(lambda: len(service.applied) == 2)
    keys = [settings.peer.key.get_secret_value() for settings in service.applied if settings.peer.key]
    assert keys == ["other-key", "third-key"]
    assert not [key for key in keys if key in str(service.told("settings_reloaded"))]


async def test_mistakes_change_nothing_and_are_all_told_once(world: World) -> None:
    async with world.running() as service:
        world.write(words={"a": ["secret-value"]}, port="secret-value", nonsense=1)
        await eventually(lambda: service.told("settings_refused"))
        await asyncio.sleep(QUIET_S)
        (line,) = service.told("settings_refused")
        assert [problem.partition(":")[0] for problem in line["problems"]] == [
            "llm.nonsense",
            "llm.port",
            "llm.words.a",
        ]
        assert line["log_level"] == "error"
        assert "secret-value" not in str(line)
        assert (service.count("ok"), service.count("error"), service.applied) == (0, 1, [])
        assert service.reloader.settings.words == {"a": "1"}

        world.file.write_text("llm: {")
        await eventually(lambda: len(service.told("settings_refused")) == 2)
        world.write(words={"a": "1"})
        await eventually(lambda: service.told("settings_unchanged"))
    assert (service.count("ok"), service.count("error"), service.applied) == (1, 2, [])


async def test_a_secret_that_arrives_late_cures_the_settings(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    async with world.running() as service:
        world.write(peer={"key": f"${{file:{secret}}}"})
        await eventually(lambda: service.told("settings_refused"))
        await asyncio.sleep(QUIET_S)
        secret.write_text("late")
        await eventually(lambda: service.applied)
        await asyncio.sleep(QUIET_S)
    assert service.events == ["settings_refused", "settings_reloaded"]
    assert (service.count("ok"), service.count("error")) == (1, 1)


async def test_a_change_that_says_the_same_is_no_change(world: World) -> None:
    async with world.running() as service:
        world.file.write_text("# A remark.\n" + world.file.read_text())
        await eventually(lambda: service.told("settings_unchanged"))
        await asyncio.sleep(QUIET_S)
    assert (service.applied, service.count("ok")) == ([], 1)


async def test_options_that_need_a_restart_are_named_and_the_rest_applies(world: World) -> None:
    async with world.running() as service:
        world.write(port=2, peer={"target": "elsewhere:1", "key": "new-key"}, words={"a": "2"}, log_level="debug")
        await eventually(lambda: service.applied)
        (line,) = service.told("settings_need_restart")
        assert line["options"] == ["llm.port", "llm.peer.target"]
        (settings,) = service.applied
        assert (settings.port, settings.peer.target) == (1, "localhost:1")
        assert settings.peer.key is not None
        assert (settings.peer.key.get_secret_value(), settings.words) == ("new-key", {"a": "2"})
        assert (settings.log_level, service.count("ok")) == ("debug", 1)

        world.write(port=3, peer={"key": "new-key"}, words={"a": "2"}, log_level="debug")
        await eventually(lambda: service.told("settings_unchanged"))
    assert [line["options"] for line in service.told("settings_need_restart")] == [
        ["llm.port", "llm.peer.target"],
        ["llm.port"],
    ]
    assert len(service.applied) == 1


async def test_what_is_wrong_together_with_a_running_value_is_refused(world: World) -> None:
    world.write(host="0.0.0.0", callers=["caller-key"])
    async with world.running() as service:
        # Right as written, but the process goes on listening everywhere: nobody may come in without a key.
        world.write(host="127.0.0.1", callers=[])
        await eventually(lambda: service.told("settings_refused"))
    problems = "\n".join(service.told("settings_refused")[0]["problems"])
    assert "callers must be set" in problems
    assert "restart to use this: until then llm.host can't change" in problems
    assert (service.applied, service.count("error")) == ([], 1)


@pytest.mark.parametrize("content", [None, "", "gateway: {}\n"])
async def test_a_file_that_is_emptied_or_gone_does_not_mean_the_defaults(
    tmp_path: Path, content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path)
    world.write(words={"a": "1"})

    def load_default() -> Loaded[Watched]:
        return load(Watched, section="llm", env={}, from_env=_defaults)

    world.load = load_default  # type: ignore[method-assign]
    async with world.running() as service:
        world.file.unlink() if content is None else world.file.write_text(content)
        await eventually(lambda: service.told("settings_refused"))
        assert "parley.yaml" in service.told("settings_refused")[0]["problems"][0]
        world.write(words={"a": "2"})
        await eventually(lambda: service.applied)
    assert [settings.words for settings in service.applied] == [{"a": "2"}]


@pytest.mark.parametrize("error", [ReloadError("llm.words: unusable"), RuntimeError("a defect")])
async def test_what_the_service_refuses_stays_out_of_use(world: World, error: Exception) -> None:
    async with world.running() as service:
        service.refuses = error
        world.write(words={"a": "2"})
        await eventually(lambda: service.told("settings_refused"))
        await asyncio.sleep(QUIET_S)
        assert service.reloader.settings.words == {"a": "1"}
        assert (service.count("ok"), service.count("error")) == (0, 1)
        service.refuses = None
        world.write(words={"a": "3"})
        await eventually(lambda: service.applied)
    assert [settings.words for settings in service.applied] == [{"a": "3"}]


async def test_a_signal_looks_at_once_and_tries_again(world: World) -> None:
    async with world.running(interval_s=NEVER_S, settle_s=NEVER_S) as service:
        service.refuses = ReloadError("not yet")
        world.write(words={"a": "2"})
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: service.told("settings_refused"))
        service.refuses = None
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: service.applied)
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: service.told("settings_unchanged"))
    assert service.events == ["settings_refused", "settings_reloaded", "settings_unchanged"]


async def test_a_file_is_read_when_its_writer_is_done(world: World) -> None:
    async with world.running(settle_s=0.5) as service:
        await asyncio.sleep(0.6)
        whole = yaml.safe_dump({"llm": {"words": {"a": "2"}}})
        world.file.write_text("llm: {words: {a: ")
        await asyncio.sleep(0.2)
        world.file.write_text(whole)
        await eventually(lambda: service.applied)
    assert service.events == ["settings_reloaded"]


async def test_a_change_during_the_start_is_not_missed(world: World) -> None:
    async with world.running(after_load=lambda: world.write(words={"a": "2"})) as service:
        await eventually(lambda: service.applied)
    assert [settings.words for settings in service.applied] == [{"a": "2"}]


async def test_files_that_the_service_reads_itself_are_watched(world: World, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prompt.md").write_text("1")

    def also(settings: Watched) -> list[Path]:
        return [settings.prompts, *settings.prompts.glob("*.md")] if settings.prompts else []

    world.write(prompts=str(tmp_path / "one"))
    async with world.running(also=also) as service:
        (tmp_path / "one" / "prompt.md").write_text("22")
        await eventually(lambda: len(service.applied) == 1)
        (tmp_path / "one" / "another.md").write_text("1")
        await eventually(lambda: len(service.applied) == 2)
        world.write(prompts=str(tmp_path / "two"))
        await eventually(lambda: len(service.applied) == 3)
        await asyncio.sleep(QUIET_S)
        assert len(service.applied) == 3, "the files of the new directory are no change"
        (tmp_path / "one" / "prompt.md").write_text("333")
        await asyncio.sleep(QUIET_S)
        assert len(service.applied) == 3, "the old directory no longer counts"
        (tmp_path / "two" / "prompt.md").write_text("22")
        await eventually(lambda: len(service.applied) == 4)
    assert [line["changed"] for line in service.told("settings_reloaded")] == [[], [], ["llm.prompts"], []]


async def test_a_file_of_the_service_that_changed_beside_a_mistake_is_used_once_that_is_mended(
    world: World, tmp_path: Path
) -> None:
    prompt = tmp_path / "prompt.md"
    prompt.write_text("1")
    async with world.running(also=lambda _settings: [prompt]) as service:
        world.file.write_text("llm: {")
        prompt.write_text("22")
        await eventually(lambda: service.told("settings_refused"))
        world.write(words={"a": "1"})
        await eventually(lambda: service.applied)
        await asyncio.sleep(QUIET_S)
    assert service.events == ["settings_refused", "settings_reloaded"]
