"""Bytes by reference: size limit, quota, time to live."""

import pytest
from parley_gateway.errors import BlobQuotaError, BlobTooLargeError
from parley_gateway.store.base import Store, StoreLimits

from tests.gateway.store.building import START
from tests.gateway.store.conftest import MakeStore

LIMITS = StoreLimits(blob_bytes=100, blob_quota_bytes=250, blob_ttl_s=60)


async def test_bytes_come_back_with_their_media_type(store: Store, make_store: MakeStore) -> None:
    data = bytes(range(256)) * 4096
    ref = await store.put_blob(data, mime="image/png", now=START)
    same = await store.put_blob(data, mime="image/png", now=START)

    assert ref != same
    reopened = await make_store(instead_of=store)
    assert await reopened.get_blob(ref, now=START) == (data, "image/png")
    assert await reopened.get_blob("nothing", now=START) is None


async def test_one_blob_is_limited(make_store: MakeStore) -> None:
    store = await make_store(LIMITS)

    await store.put_blob(bytes(100), mime="audio/amr", now=START)
    with pytest.raises(BlobTooLargeError):
        await store.put_blob(bytes(101), mime="audio/amr", now=START)


async def test_all_blobs_share_a_quota_that_expired_ones_give_back(make_store: MakeStore) -> None:
    store = await make_store(LIMITS)
    first = await store.put_blob(bytes(100), mime="a/b", now=START)
    await store.put_blob(bytes(100), mime="a/b", now=START + 30)

    with pytest.raises(BlobQuotaError):
        await store.put_blob(bytes(51), mime="a/b", now=START + 59)
    await store.put_blob(bytes(50), mime="a/b", now=START + 59)

    assert await store.get_blob(first, now=START + 59) is not None
    assert await store.get_blob(first, now=START + 60) is None
    await store.put_blob(bytes(100), mime="a/b", now=START + 60)
    with pytest.raises(BlobQuotaError):
        await store.put_blob(bytes(1), mime="a/b", now=START + 60)


async def test_expired_blobs_are_cleaned(make_store: MakeStore) -> None:
    store = await make_store(LIMITS)
    ref = await store.put_blob(b"data", mime="a/b", now=START)

    await store.clean(now=START + 59)
    assert await store.get_blob(ref, now=START) is not None
    await store.clean(now=START + 60)
    assert await store.get_blob(ref, now=START) is None
