"""Which store a URL names, and what is said about a wrong one."""

import subprocess
import sys
from pathlib import Path

import pytest
from parley_gateway.store.base import StoreLimits
from parley_gateway.store.open import open_store

from tests.gateway.store.building import START, Clock, enqueue, message


@pytest.mark.parametrize("relative", [True, False])
async def test_sqlite_url_names_a_file(relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = "sqlite:///./data/parley.db" if relative else f"sqlite:///{tmp_path}/data/parley.db"

    store = open_store(url, StoreLimits(), Clock())
    assert not (tmp_path / "data").exists()
    await store.open()
    await enqueue(store, message("m1"))
    assert (await store.stats(now=START)).depth == 1
    await store.close()

    assert (tmp_path / "data" / "parley.db").is_file()


def test_redis_is_loaded_only_when_a_url_names_it() -> None:
    program = (
        "import sys; from parley_gateway.store.open import open_store; open_store('sqlite:///x.db');"
        "assert 'redis' not in sys.modules; open_store('redis+cluster://a,b');"
        "assert 'redis' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("url", ["redis://:secret@", "rediss://:secret@host/x", "redis+sentinel://:secret@host"])
def test_mistake_in_a_redis_url_is_told_without_the_password(url: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://user:secret@host/db", "redis2://:secret@host", "file:///secret"])
def test_unknown_scheme_is_named_with_what_is_supported(url: str) -> None:
    with pytest.raises(ValueError, match="supported are sqlite:///relative") as caught:
        open_store(url)
    assert url.partition(":")[0] in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "parley.db", "/data/parley.db", "sqlite:/file.db", "sqlite://", "sqlite:///"])
def test_url_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be a URL|a sqlite URL names|there is no store"):
        open_store(url)


@pytest.mark.parametrize("rest", ["host/file.db", "/folder/", "/file.db?mode=ro", "/:memory:"])
def test_sqlite_url_of_more_than_a_file_is_refused(rest: str) -> None:
    with pytest.raises(ValueError, match="a sqlite URL names a file"):
        open_store(f"sqlite://{rest}")
