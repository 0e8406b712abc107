"""The URLs of stores on Redis."""

from pathlib import Path

import pytest
from parley_common.redis_address import StoreAddress, parse_store


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", StoreAddress("single", (("host", 6379),))),
        ("redis://host:7000/3", StoreAddress("single", (("host", 7000),), database=3)),
        ("rediss://[::1]:7000", StoreAddress("single", (("::1", 7000),), tls=True)),
        ("redis://:p@ss:/w@host", StoreAddress("single", (("host", 6379),), password="p@ss:/w")),
        ("redis://me:%25%40@host", StoreAddress("single", (("host", 6379),), username="me", password="%@")),
        (
            "redis+sentinel://a,b:7001/main/2",
            StoreAddress("sentinel", (("a", 26379), ("b", 7001)), service="main", database=2),
        ),
        ("rediss+cluster://a:1,b:2", StoreAddress("cluster", (("a", 1), ("b", 2)), tls=True)),
    ],
)
def test_url_is_read(url: str, expected: StoreAddress) -> None:
    assert parse_store(url) == expected


def test_certificate_authority_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    assert parse_store(f"rediss://host?ca_file={tmp_path}/ca.pem").ca_file == f"{tmp_path}/ca.pem"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis:host", "must begin with redis://"),
        ("redis://:secret@", "must name a host"),
        ("redis://:secret@host:99999", "must name a host"),
        ("redis://:secret@a,b", "several hosts only with"),
        ("redis://:secret@host/one", "must end with a database's number"),
        ("redis+sentinel://:secret@host", "must name Sentinel's master"),
        ("redis+cluster://:secret@host/1", "a cluster has only one"),
        ("redis://:secret@host?ssl=1", "knows only the parameter ca_file"),
        ("redis://:secret@host?ca_file=/x", "needs rediss://"),
        ("rediss://:secret@host?ca_file=/no/such", "must name an existing PEM file"),
    ],
)
def test_mistake_is_explained_without_the_password(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_store(url)
    assert "secret" not in str(caught.value)


def test_password_is_part_of_no_text() -> None:
    assert "secret" not in repr(parse_store("redis://:secret@host"))
