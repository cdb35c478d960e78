"""Why an upgrade failed: what aiohttp and websockets raise, in the words of both.

The one border at which exceptions of the websockets library are translated.
"""

from __future__ import annotations

import socket
import ssl
import sys
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from graphql_prod.calls.fault_table import Fault
from graphql_prod.calls.faults import status_of
from graphql_prod.calls.outcomes import reason_of
from graphql_prod.errors import ConfigurationError
from graphql_prod.resilience.retry.decision import SendStatus
from graphql_prod.subscriptions.endings import HandshakeError, UpgradeRefusedError
from graphql_prod.subscriptions.losses import BY_GET, TRANSIENT_STATUSES
from graphql_prod.subscriptions.protocol import UnofferedError

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

_NO_HTTP = Fault(
    SendStatus.AMBIGUOUS,
    "no HTTP",
    "answered the WebSocket upgrade with what is no HTTP",
    "Check that the port is right, and what stands before it.",
)
_NO_WEBSOCKET = Fault(
    SendStatus.FINAL,
    "no WebSocket",
    "answered the WebSocket upgrade with a 101 that breaks the protocol",
    "Check that the endpoint's path serves WebSockets, and what stands before it.",
)
_PROXY = Fault(
    SendStatus.UNSENT,
    "proxy",
    "could not be reached through the proxy",
    "Check that the proxy is up, and its own log.",
)
_UNREAD_PROXY = Fault(
    SendStatus.UNSENT,
    "proxy",
    "could not be reached: what the proxy answered CONNECT with cannot be read",
    "Check that it is an HTTP proxy. One that answers in HTTP/1.0 needs websockets 16.",
)
_BAD_PROXY = Fault(
    SendStatus.FINAL,
    "proxy",
    "could not be asked: the proxy's URL is not usable",
    "Correct it in the settings (proxy), or in the environment (trust_env).",
)
_HUNG_UP = Fault(
    SendStatus.AMBIGUOUS,
    "connection lost",
    "closed the connection before the upgrade was answered, or the proxy did",
    BY_GET,
)
_URL = Fault(SendStatus.FINAL, "url", "cannot be asked: its URL is not usable", "Correct the endpoint.")
_OTHER = Fault(
    SendStatus.FINAL,
    "client error",
    "could not be asked over a WebSocket",
    "The cause of this error says more.",
)
# websockets names the protocol in its texts alone.
_UNOFFERED = "unsupported subprotocol: "
_SEVERAL = "multiple values: "


class translating:  # noqa: N801 -- reads as what it does
    """Raise what the exception of an upgrade means; itself where it says that already.

    No generator: that would write to an exception that passes through, and there are frozen ones.

    :param proxied: whether the connection is made through a proxy.
    :param by_get: whether it is asked for the upgrade itself, which aiohttp does where that is ``ws://``.
    """

    __slots__ = ("_by_get", "_proxied")

    def __init__(self, *, proxied: bool = False, by_get: bool = False) -> None:
        self._proxied = proxied
        self._by_get = by_get

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            meant = translated(error, proxied=self._proxied, by_get=self._by_get)
            if meant is not error:
                raise meant from meant.__cause__


def translated(error: Exception, *, proxied: bool = False, by_get: bool = False) -> Exception:
    """What an upgrade's exception means, whichever library raised it; else the exception itself.

    The parameters are those of :class:`translating`.
    """
    # aiohttp's own have the proxy's password and our headers in their arguments: they are no cause of ours.
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return HandshakeError(_proxy_refused(error.status))
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return _with_cause(HandshakeError(_PROXY), error.os_error)
    if isinstance(error, aiohttp.WSServerHandshakeError) and error.status == 101:
        return HandshakeError(_NO_WEBSOCKET, error.message.lower())
    if isinstance(error, aiohttp.ClientResponseError) and isinstance(error.__cause__, HttpProcessingError):
        return _with_cause(HandshakeError(_NO_HTTP), error.__cause__)
    if (answer := status_of(error)) is not None:
        return _with_cause(UpgradeRefusedError(*answer, by_get=by_get), error)
    if by_get and isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return _with_cause(HandshakeError(_HUNG_UP), error)
    exceptions = sys.modules.get("websockets.exceptions")
    if exceptions is not None and isinstance(error, exceptions.WebSocketException):
        return _of_websockets(error, exceptions)
    if proxied and _is_about_connecting(error):
        return _with_cause(HandshakeError(_PROXY), error)
    if isinstance(error, ImportError) and "socks" in str(error):
        return ConfigurationError(
            "A SOCKS proxy, which the environment names (trust_env), needs python-socks: "
            "pip install 'python-socks[asyncio]'. Or take it out of the environment."
        )
    return error


def _of_websockets(error: Exception, kinds: ModuleType) -> Exception:
    if isinstance(error, kinds.InvalidStatus):
        refused = UpgradeRefusedError(error.response.status_code, error.response.headers)
        return _with_cause(refused, error)
    # Their texts are URLs, with whatever is secret in them: no cause.
    if isinstance(error, kinds.InvalidURI):
        return HandshakeError(_URL)
    if isinstance(error, kinds.InvalidProxy):
        return HandshakeError(_BAD_PROXY)
    return _with_cause(_of_handshake(error, kinds), error)


def _of_handshake(error: Exception, kinds: ModuleType) -> Exception:
    if isinstance(error, kinds.InvalidProxyStatus):
        return HandshakeError(_proxy_refused(error.response.status_code))
    if isinstance(error, kinds.InvalidProxyMessage) and not isinstance(error.__cause__, EOFError):
        return HandshakeError(_UNREAD_PROXY)
    if isinstance(error, kinds.ProxyError):
        return HandshakeError(_PROXY)
    if isinstance(error, kinds.InvalidMessage) and isinstance(error.__cause__, EOFError):
        return ConnectionResetError("the connection ended before the upgrade was answered")
    if isinstance(error, kinds.InvalidMessage | kinds.SecurityError):
        return HandshakeError(_NO_HTTP)
    if isinstance(error, kinds.NegotiationError) and (chosen := str(error).partition(_UNOFFERED))[1]:
        return UnofferedError(chosen[2])
    if isinstance(error, kinds.InvalidHeader) and error.name.lower() == "sec-websocket-protocol":
        several = (error.value or "").partition(_SEVERAL)
        return UnofferedError(several[2])  # else it is no name
    if isinstance(error, kinds.InvalidHandshake):  # headers, extensions, protocols: all are about a 101
        return HandshakeError(_NO_WEBSOCKET, str(error))
    return HandshakeError(_OTHER)


def _with_cause(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def _is_about_connecting(error: Exception) -> bool:
    """Whether there was no connection at all, to the first host on the way."""
    broken_later = (ssl.SSLError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
    return isinstance(error, OSError | socket.gaierror) and not isinstance(error, broken_later)


def _proxy_refused(status: int) -> Fault:
    """A proxy that is ill comes back; one that does not want us says so again."""
    again = status >= 500 or status in TRANSIENT_STATUSES
    hint = {
        403: "Allow the host and its port at the proxy.",
        407: "Check the user and the password for the proxy.",
    }.get(status, "Check the proxy's own log.")
    return Fault(
        SendStatus.UNSENT if again else SendStatus.FINAL,
        "proxy",
        f"could not be reached through the proxy, which answered CONNECT with {reason_of(status)}",
        hint,
    )
