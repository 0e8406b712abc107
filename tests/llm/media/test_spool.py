"""Spools: where the bytes are, that they come back, that nothing is left behind."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from parley_llm.errors import InternalError, RequestTooLargeError
from parley_llm.forms.spool import IN_MEMORY, Spool
from parley_llm.upstream.body import PIECE

from tests.llm.media.forms import block, files_in, until


async def read(spool: Spool, start: int = 0, size: int | None = None) -> bytes:
    return b"".join([piece async for piece in spool.pieces(start, spool.size if size is None else size)])


async def test_few_bytes_stay_in_memory(tmp_path: Path) -> None:
    spool = Spool(IN_MEMORY * 2, tmp_path)
    await spool.write(b"x" * IN_MEMORY)
    assert (spool.size, spool.in_memory, files_in(tmp_path)) == (IN_MEMORY, IN_MEMORY, 0)
    assert await read(spool) == b"x" * IN_MEMORY
    spool.close()


async def test_more_bytes_go_to_a_file_without_a_name(tmp_path: Path) -> None:
    spool = Spool(20_000_000, tmp_path)
    data = b"".join(block(number, 50_000) for number in range(100))
    for start in range(0, len(data), 50_000):
        await spool.write(data[start : start + 50_000])
        assert spool.in_memory <= IN_MEMORY
    assert (list(tmp_path.iterdir()), files_in(tmp_path)) == ([], 1)
    assert await read(spool) == data
    assert await read(spool) == data, "it can be read again"
    assert await read(spool, 1_234_567, 2_000_000) == data[1_234_567:3_234_567]
    assert [piece async for piece in spool.pieces(0, 0)] == []
    assert max([len(piece) async for piece in spool.pieces(0, len(data))]) == PIECE
    spool.close()
    assert not files_in(tmp_path)


async def test_the_limit_holds() -> None:
    spool = Spool(10, in_memory=4)
    await spool.write(b"0123456789")
    with pytest.raises(RequestTooLargeError, match="longer than 10 bytes"):
        await spool.write(b"x")
    spool.close()


async def test_a_closed_spool_gives_nothing(tmp_path: Path) -> None:
    spool = Spool(100, tmp_path, in_memory=4)
    await spool.write(b"0123456789")
    spool.close()
    spool.close()
    with pytest.raises(ValueError, match="closed"):
        await read(spool)


async def test_a_disk_that_fails_is_this_services_error(tmp_path: Path) -> None:
    spool = Spool(100, tmp_path / "missing", in_memory=4)
    with pytest.raises(InternalError, match="could not be kept"):
        await spool.write(b"0123456789")
    spool.close()


async def test_closing_waits_for_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    """A write that a slow disk holds up is cancelled and the spool closed; the thread ends the file's life."""
    spool = Spool(100, tmp_path, in_memory=4)
    file = spool._file
    held = threading.Lock()
    held.acquire()
    writing = threading.Event()
    write = file.write

    def slow_write(at: int, data: bytearray) -> None:
        with file._held():
            writing.set()
            with held:
                pass
        write(at, data)

    file.write = slow_write  # type: ignore[method-assign]
    task = asyncio.create_task(spool.write(b"0123456789"))
    await until(writing.is_set)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    spool.close()
    assert files_in(tmp_path) == 1, "the thread still works on the file"
    held.release()
    await until(lambda: not files_in(tmp_path))
    gc.collect()


def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from parley_llm.forms.spool import Spool\n"
        "async def main():\n"
        "    spool = Spool(10_000_000, pathlib.Path(sys.argv[1]))\n"
        "    await spool.write(b'x' * 5_000_000)\n"
        "    print('written', spool.in_memory, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"written 0\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert list(tmp_path.iterdir()) == []
