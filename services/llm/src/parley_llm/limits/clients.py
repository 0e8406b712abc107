"""The clients of `redis` for each kind of address: a server, one that Sentinel names, a cluster."""

from typing import Any

from parley_common.redis_address import StoreAddress
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

CONNECT_S = 1.0


class Clients:
    """The client that carries commands out, and those that it needs to find the server."""

    def __init__(self, address: StoreAddress) -> None:
        """Make them; nothing connects yet."""
        self.redis: Redis | RedisCluster
        self._watching: list[Redis] = []
        login: dict[str, Any] = {"username": address.username, "password": address.password}
        options = {**login, **_connecting(address)}
        if address.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in address.hosts]
            self.redis = RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
        elif address.kind == "sentinel":
            sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py left it without annotations
                address.hosts, sentinel_kwargs=_connecting(address), db=address.database, **options
            )
            self.redis = sentinel.master_for(address.service)
            self._watching = sentinel.sentinels
        else:
            ((host, port),) = address.hosts
            self.redis = Redis(host=host, port=port, db=address.database, **options)

    async def close(self) -> None:
        """Close every connection."""
        for client in (self.redis, *self._watching):
            await client.aclose()


def _connecting(address: StoreAddress) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": CONNECT_S,
        # Repetitions are decided where it is known what may be done twice.
        "retry": Retry(NoBackoff(), 0),
        # The older protocol is what every server and managed service speaks.
        "protocol": 2,
    }
    if address.tls:
        options |= {"ssl": True, "ssl_ca_certs": address.ca_file}
    return options
