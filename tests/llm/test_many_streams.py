"""Many streams at once through a real process: none is lost, leaving callers free the upstream, memory is bounded."""

import asyncio

import pytest

from benchmarks.llm_streams import Load, run

pytestmark = pytest.mark.slow

MIB = 1024.0


async def test_many_streams() -> None:
    load = Load(streams=200, seconds=10.0, pause_ms=250, slow_readers=20, stall_s=4.0)

    report = await asyncio.to_thread(run, load)

    assert report.chunks == 200 * 40
    assert report.lost_streams == 0
    # A running stream needs some 20 KiB; a buffer that nobody empties would need far more.
    assert report.rss_during - report.rss_before < 200 * 150 / MIB
    assert report.left_behind == 0
    assert report.leave_s < 1.0
    assert report.rss_after_leaving - report.rss_after < 30
    # Nothing is read, so the upstream has to wait; what it has to say, 16 MiB for each, doesn't pile up here. Reads,
    # copies on their way out and the allocator's slack were seen to take up to 2.7 MiB each.
    assert report.stall_upstreams_paused == load.slow_readers
    assert report.stall_rss_during - report.stall_rss_before < load.slow_readers * 4
    assert report.stall_lost_streams == 0
    assert report.stall_rss_reading - report.stall_rss_before < load.slow_readers * 4
