"""A client of the admin calls; whatever goes wrong becomes one sentence for the operator."""

import getpass
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx2

TIMEOUT_S = 30.0
OPERATOR_HEADER = "x-parley-operator"


class OperateError(Exception):
    """A command can't be done; the message says why and what to do."""


class AdminClient:
    """Calls one gateway's ops port. Used as a context manager."""

    def __init__(self, url: str, token: str) -> None:
        """`url` is the ops port's, such as `http://127.0.0.1:9080`."""
        self._url = url.rstrip("/")
        headers = {"authorization": f"Bearer {token}", OPERATOR_HEADER: _operator()}
        # The ops port is inside: no proxy leads to it.
        self._client = httpx2.Client(headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> "AdminClient":
        """Open."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, *path: str, **query: str | int) -> dict[str, Any]:
        """Make a GET call. Raises OperateError."""
        return self._call("GET", path, query=query)

    def post(self, *path: str, **body: Any) -> dict[str, Any]:
        """Make a POST call. Raises OperateError."""
        return self._call("POST", path, body=body)

    def _call(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        url = "/".join((self._url, "admin", *(quote(piece, safe="") for piece in path)))
        try:
            response = self._client.request(method, url, params=query or None, json=body)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as exc:
            raise OperateError(f"{self._url} is no URL of an ops port: {exc}") from exc
        except httpx2.TimeoutException as exc:
            raise OperateError(f"the gateway's ops port at {self._url} didn't answer in time") from exc
        except httpx2.TransportError as exc:
            raise OperateError(
                f"the gateway's ops port at {self._url} can't be reached ({exc}): is the gateway running, and is this "
                "its ops port? Say where it is with --ops or PARLEY_GATEWAY_OPS_URL"
            ) from exc
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise OperateError(
                f"{self._url} answered {response.status_code} without JSON: is this a gateway's ops port?"
            )
        if response.status_code != 200:
            raise OperateError(str(answer.get("error") or f"the gateway answered {response.status_code}"))
        return answer


def _operator() -> str:
    """Return the name for the audit line: who is logged in here, as far as that is known."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # A container's user needn't have a name.
        return ""
    return "".join(character for character in name if character.isascii() and character.isprintable())[:64]
