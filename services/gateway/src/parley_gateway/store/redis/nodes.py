"""Which server has a partition: the only one, the one that Sentinel names, or the cluster's node for its slot.

A partition's keys share one slot, so that a process needs to know no more of a cluster than 64 places.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from parley_common.redis_address import StoreAddress
from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from parley_gateway.store.base import PARTITIONS
from parley_gateway.store.redis.keys import key

CALLS = 32
"""Calls to one server at the same time; more wait, within their own time limit."""
_CONNECTIONS = CALLS + 8
"""With some to spare: the one that hears news, and those whose calls were given up."""

_SLOTS = tuple(key_slot(key(partition, "").encode()) for partition in range(PARTITIONS))


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One server. Its client connects when it is used, and again when its connection was lost."""

    name: str
    client: Redis
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CALLS))


class Nodes:
    """The servers, and who of them has which partition."""

    def __init__(self, address: StoreAddress, *, timeout_s: float) -> None:
        """Name the servers; nothing connects yet."""
        self._address = address
        self._options = {
            **_connecting(address, timeout_s),
            "username": address.username,
            "password": address.password,
            "db": address.database,
            "max_connections": _CONNECTIONS,
        }
        self._known: dict[tuple[str, int], Node] = {}
        self._places: list[Node] = []
        self._watching: list[Redis] = []
        if address.kind == "sentinel":
            sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py left it without annotations
                address.hosts, sentinel_kwargs=_connecting(address, timeout_s), **self._options
            )
            self._watching = sentinel.sentinels
            master = Node(address.service, sentinel.master_for(address.service))
            self._known[address.hosts[0]] = master
            self._places = [master] * PARTITIONS
        elif address.kind == "single":
            self._places = [self.at(*address.hosts[0])] * PARTITIONS

    @property
    def clustered(self) -> bool:
        """Whether the partitions lie on several servers."""
        return self._address.kind == "cluster"

    @property
    def located(self) -> bool:
        """Whether it is known where the partitions are."""
        return bool(self._places)

    def of(self, partition: int) -> Node:
        """Return the server that has a partition."""
        return self._places[partition]

    def beside(self, partition: int) -> list[int]:
        """Return the partitions that the same server has, this one included."""
        if not self.located:
            return list(range(PARTITIONS))
        return [each for each in range(PARTITIONS) if self._places[each] is self._places[partition]]

    def all(self) -> list[Node]:
        """Return the servers that have partitions."""
        return list(dict.fromkeys(self._places))

    def sort(self, partitions: Iterable[int]) -> dict[Node, list[int]]:
        """Return, for each server, the positions of its partitions in the list."""
        places: dict[Node, list[int]] = {}
        for position, partition in enumerate(partitions):
            places.setdefault(self._places[partition], []).append(position)
        return places

    def at(self, host: str, port: int) -> Node:
        """Return the server of an address."""
        if (host, port) not in self._known:
            options = dict(self._options)
            if options.pop("ssl", False):
                options["connection_class"] = SSLConnection
            pool = ConnectionPool(host=host, port=port, **options)
            self._known[host, port] = Node(f"{host}:{port}", Redis.from_pool(pool))
        return self._known[host, port]

    async def locate(self) -> None:
        """Ask the cluster where the partitions are. Raises RedisError or OSError when no node can say."""
        failure: Exception = RedisError("no node of the cluster is known")
        for host, port in dict.fromkeys((*self._known, *self._address.hosts)):
            try:
                client: Any = self.at(host, port).client  # redis-py left the method without annotations
                slots = await client.execute_command("CLUSTER", "SLOTS")
                self._places = [self.at(*_find(slots, slot, host)) for slot in _SLOTS]
            except (RedisError, OSError) as error:
                failure = error
                continue
            await self._forget_others()
            return
        raise failure

    async def close(self) -> None:
        """Close every connection."""
        for client in (*(node.client for node in self._known.values()), *self._watching):
            await client.aclose()

    async def _forget_others(self) -> None:
        """Close the connections to nodes that have no partition any more."""
        for host in [host for host, node in self._known.items() if node not in self._places]:
            await self._known.pop(host).client.aclose()


def _find(slots: list[Any], slot: int, asked: str) -> tuple[str, int]:
    """Find the master of a slot in the answer to CLUSTER SLOTS: first slot, last slot, master, replicas."""
    for first, last, (host, port, *_), *_ in slots:
        if first <= slot <= last:
            # A node that doesn't know its own name leaves it out: it is the one that was asked.
            return host.decode() if host else asked, int(port)
    raise RedisError("the cluster has slots that no node serves")


def _connecting(address: StoreAddress, timeout_s: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_connect_timeout": timeout_s,
        "socket_timeout": timeout_s,
        # A command whose answer was lost may have been carried out: who sent it decides whether it may be repeated.
        "retry": Retry(NoBackoff(), 0),
        # The older protocol is what every server and managed service speaks.
        "protocol": 2,
    }
    if address.tls:
        options |= {"ssl": True, "ssl_ca_certs": address.ca_file}
    return options
