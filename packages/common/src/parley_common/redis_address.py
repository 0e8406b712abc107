"""The address of a Redis, as the options `store` write it. Knows nothing of any client."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote

SCHEMES = "redis://, rediss:// (TLS), redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://"
_SCHEME = re.compile(r"(rediss?)(\+sentinel|\+cluster)?://(.+)", re.DOTALL)
_HOST = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:\[\]]+)(?::(\d{1,5}))?")
_PORTS = {"single": 6379, "cluster": 6379, "sentinel": 26379}

Kind = Literal["single", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where a Redis is and how to log in; the password is part of no text that this makes."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    service: str = ""
    """The name of the master, for Sentinel."""
    ca_file: str | None = None


def parse_store(url: str, *, optional: bool = False) -> StoreAddress:
    """Read `scheme://[user:password@]host[:port][,host…][/database]`, for Sentinel `/master[/database]`.

    `optional` only words the error: whether the option may also be empty. The password may hold any character, since it
    usually comes out of a file; `%` in it is written `%25`. Raises ValueError, whose text never repeats the URL.
    """
    match = _SCHEME.fullmatch(url.strip())
    if match is None:
        empty = "be empty or " if optional else ""
        raise ValueError(f"must {empty}begin with {SCHEMES}, such as redis://redis:6379/0")
    tls = match[1] == "rediss"
    kind: Kind = "sentinel" if match[2] == "+sentinel" else "cluster" if match[2] == "+cluster" else "single"
    login, _, rest = match[3].rpartition("@")
    username, _, password = login.partition(":")
    rest, _, query = rest.partition("?")
    hosts, _, path = rest.partition("/")
    service, database = _path(kind, path)
    return StoreAddress(
        kind,
        _hosts(kind, hosts),
        tls,
        unquote(username) or None,
        unquote(password) or None,
        database,
        service,
        _ca_file(query, tls=tls),
    )


def _hosts(kind: Kind, text: str) -> tuple[tuple[str, int], ...]:
    hosts = []
    for one in text.split(","):
        match = _HOST.fullmatch(one)
        if match is None or not 0 < int(match[2] or 1) < 65536:
            raise ValueError("must name a host and, unless it is the usual one, its port, such as redis://redis:6379/0")
        hosts.append((match[1].strip("[]"), int(match[2] or _PORTS[kind])))
    if len(hosts) > 1 and kind == "single":
        raise ValueError("may name several hosts only with redis+sentinel:// or redis+cluster://")
    return tuple(hosts)


def _path(kind: Kind, path: str) -> tuple[str, int]:
    """Return the name of Sentinel's master, and the database."""
    service, database = "", path
    if kind == "sentinel":
        service, _, database = path.partition("/")
        if not service:
            raise ValueError(
                "must name Sentinel's master behind the hosts, such as redis+sentinel://host:26379/mymaster"
            )
    if database and not re.fullmatch(r"\d{1,4}", database):
        raise ValueError("must end with a database's number, such as /0, or without one")
    if kind == "cluster" and int(database or 0):
        raise ValueError("must not name a database: a cluster has only one")
    return service, int(database or 0)


def _ca_file(query: str, *, tls: bool) -> str | None:
    options = dict(parse_qsl(query, keep_blank_values=True))
    ca_file = options.pop("ca_file", None)
    if options:
        raise ValueError("knows only the parameter ca_file, such as rediss://redis:6379/0?ca_file=/tls/ca.pem")
    if ca_file is None:
        return None
    if not tls:
        raise ValueError("has a ca_file, which needs rediss://")
    if not Path(ca_file).is_file():
        raise ValueError("must name an existing PEM file as ca_file")
    return ca_file
