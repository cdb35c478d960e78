"""The one border at which foreign exceptions are translated.

httpx-aiohttp reports a disconnect after sending, a refused port and a bad certificate alike as
``httpx.ConnectTimeout``; the truth is in the cause. So the whole chain of causes is read, aiohttp's
word counts before httpx's, and both before the operating system's.
"""

from __future__ import annotations

import re
import socket
import ssl
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aiohttp
from aiographql.client.exceptions import GraphQLTransportException
from aiohttp import http_exceptions
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from graphql_prod.resilience.retry.decision import SendStatus
from graphql_prod.sessions.bodies import (
    BodyError,
    BrokenEncodingError,
    RefusedEncodingError,
    ResponseTooLargeError,
    TooManyValuesError,
)
from graphql_prod.sessions.exchange import (
    SessionClosedError,
    StaleConnectionError,
    UnwritableRequestError,
)
from graphql_prod.sessions.limiter import PoolTimeoutError
from graphql_prod.texts.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from graphql_prod.errors import Phase


@dataclass(frozen=True, slots=True)
class Fault:
    """What a foreign exception means.

    ``what`` continues "<host> …" in a sentence; ``hint`` says what to do; ``phase`` is set for timeouts.
    """

    reach: SendStatus
    reason: str
    what: str
    hint: str
    phase: Phase | None = None
    sent: bool = True
    """Whether the server may have seen the request."""


_STALE = Fault(
    SendStatus.UNSENT,
    "stale connection",
    "had closed a kept connection, or had sent an answer to nobody on it, before the request was written",
    "Keep connections for a shorter time than the server or the proxy in between does.",
)
_POOL_FULL = Fault(
    SendStatus.UNSENT,
    "pool timeout",
    "got no request from us: no connection became free in time",
    "Lower the number of calls at once.",
    "pool",
)
_DNS = Fault(SendStatus.UNSENT, "dns", "could not be resolved", "Check the name and the resolver.")
_REFUSED = Fault(
    SendStatus.UNSENT, "connect", "could not be reached", "Check that it is up and the port is right."
)
_PROXY = Fault(
    SendStatus.UNSENT, "proxy", "could not be reached through the proxy", "Check the proxy's own log."
)
_CONNECT = Fault(
    SendStatus.UNSENT,
    "connect timeout",
    "did not accept a connection in time",
    "Check the network.",
    "connect",
)
_READ = Fault(
    SendStatus.AMBIGUOUS,
    "read timeout",
    "did not answer in time",
    "See what it is busy with.",
    "read",
)
_WRITE = Fault(
    SendStatus.AMBIGUOUS,
    "write timeout",
    "did not take the request in time",
    "See what it is busy with.",
    "write",
)
_ATTEMPT = Fault(
    SendStatus.AMBIGUOUS,
    "attempt timeout",
    "did not finish an attempt in time",
    "See what it is busy with.",
    "attempt",
)
_LOST = Fault(
    SendStatus.AMBIGUOUS,
    "connection lost",
    "closed the connection before the answer was whole",
    "Look for a restart or a proxy in between.",
)
_NO_HTTP = Fault(
    SendStatus.FINAL,
    "invalid HTTP",
    "sent an answer that is no valid HTTP",
    "Look at what it, or the proxy before it, answers; the next answer would be the same.",
)
_CERTIFICATE = Fault(
    SendStatus.FINAL,
    "certificate",
    "showed a certificate that is not trusted",
    "Check its name, its dates and the authorities you trust.",
)
_TLS = Fault(
    SendStatus.FINAL,
    "tls",
    "did not agree on TLS",
    "Check that it speaks TLS on this port, and its versions and client certificates.",
)
_URL = Fault(SendStatus.FINAL, "url", "cannot be asked: its URL is not usable", "Correct the endpoint.")
_ENCODING = Fault(
    SendStatus.FINAL,
    "content encoding",
    "sent a body that does not decode",
    "Look for a proxy that changes the body but not its Content-Encoding.",
)
_UNWRITABLE = Fault(
    SendStatus.FINAL,
    "request",
    "cannot be asked: the HTTP library refuses to write this request",
    "Look at the headers and the credentials (.netrc, auth) that the session itself adds.",
)
_REDIRECTS = Fault(
    SendStatus.FINAL, "redirect", "redirects too often", "Point the endpoint at the final address."
)
_BAD_REDIRECT = Fault(
    SendStatus.FINAL,
    "redirect",
    "redirects to an address that cannot be read",
    "Point the endpoint at the final address.",
)
_SESSION_CLOSED = Fault(
    SendStatus.FINAL,
    "session closed",
    "was not asked: the session that was given for it is closed",
    "Close the client before its session, or give it a session that is open.",
)
_OTHER = Fault(SendStatus.FINAL, "client error", "could not be asked", "The cause of this error says more.")

_TOO_LARGE = Fault(
    SendStatus.FINAL,
    "response too large",
    "sent more than max_response_bytes allows",
    "Ask for less, or raise max_response_bytes.",
)

_TOO_MANY_VALUES = Fault(
    SendStatus.FINAL,
    "too many values",
    "sent JSON with more values than max_response_values allows",
    "Ask for less, or raise max_response_values.",
)

# On a caller's session, before 3.14.2: 32 MiB.
_TOO_LARGE_A_PIECE = Fault(
    SendStatus.FINAL,
    "response too large",
    "sent more in one piece than this version of aiohttp inflates",
    "Ask for less, or use aiohttp 3.14.2 or later.",
)

_LIBRARIES = ("aiohttp", "httpx", "httpcore", "h11", "websockets")
_OURS = UnicodeError | BodyError | SessionClosedError | UnwritableRequestError | StaleConnectionError
_NEVER_SENT = (_CERTIFICATE, _TLS, _URL, _UNWRITABLE, _SESSION_CLOSED)

_AIOHTTP: tuple[tuple[type[BaseException], Fault], ...] = (
    (aiohttp.ConnectionTimeoutError, _CONNECT),
    (aiohttp.ServerTimeoutError, _READ),
    (aiohttp.ClientConnectorDNSError, _DNS),
    (aiohttp.ClientProxyConnectionError, _PROXY),
    (aiohttp.ClientConnectorError, _REFUSED),
    (aiohttp.InvalidURL, _URL),
    (aiohttp.TooManyRedirects, _REDIRECTS),
    (aiohttp.ClientPayloadError, _LOST),
    (aiohttp.ClientConnectionError, _LOST),
)
_SYSTEM: tuple[tuple[type[BaseException], Fault], ...] = (
    (ResponseTooLargeError, _TOO_LARGE),
    (TooManyValuesError, _TOO_MANY_VALUES),
    (BrokenEncodingError, _ENCODING),
    (SessionClosedError, _SESSION_CLOSED),
    (UnwritableRequestError, _UNWRITABLE),
    (PoolTimeoutError, _POOL_FULL),
    (socket.gaierror, _DNS),
    (ConnectionRefusedError, _REFUSED),
    (TimeoutError, _ATTEMPT),
    (OSError, _LOST),
)
# Broken off in mid-handshake: as transient as any lost connection.
_TRANSIENT_TLS = (
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ssl.SSLSyscallError,
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
)


def classify(error: BaseException, *, sent: bool | None = None) -> Fault:
    """What the exception means for the call.

    :param sent: True or False where we saw whether the request's body was written; None where we did not.
    """
    chain = _chain(error)
    fault = next((fault for ask in _QUESTIONS if (fault := ask(chain))), _OTHER)
    if fault is _URL and sent:
        fault = _BAD_REDIRECT  # the endpoint was asked
    if sent is None:
        return replace(fault, sent=fault.reach is not SendStatus.UNSENT and fault not in _NEVER_SENT)
    if fault.reach is SendStatus.AMBIGUOUS and not sent:
        return replace(fault, reach=SendStatus.UNSENT, sent=False)
    if fault.reach is SendStatus.UNSENT and sent:
        return replace(fault, reach=SendStatus.AMBIGUOUS)
    return replace(fault, sent=sent)


def status_of(error: BaseException) -> tuple[int, Mapping[str, str]] | None:
    """Status and headers, where a session raised an exception for a whole answer; else None."""
    httpx = sys.modules.get("httpx")
    for link in _chain(error):
        if isinstance(link, aiohttp.ClientResponseError) and not _is_about_http_itself(link):
            return link.status, link.headers or {}
        if httpx is not None and isinstance(link, httpx.HTTPStatusError):
            return link.response.status_code, link.response.headers
    return None


def is_plain(error: Exception) -> bool:
    """True for what the stock transports and the HTTP libraries raise; False for anybody's own exception."""
    kind = type(error)
    if kind in (GraphQLTransportException, TimeoutError, PoolTimeoutError) or isinstance(error, _OURS):
        return True
    return kind.__module__.partition(".")[0] in _LIBRARIES


def _is_about_http_itself(error: aiohttp.ClientResponseError) -> bool:
    """True for an answer that is no HTTP, a proxy's refusal, or too many redirects."""
    return isinstance(error.__cause__, HttpProcessingError) or isinstance(
        error, aiohttp.ClientHttpProxyError | aiohttp.TooManyRedirects
    )


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain and len(chain) < 16:
        chain.append(link)
        link = link.__cause__ or _hidden(link)
    return chain


def _hidden(error: BaseException) -> BaseException | None:
    """What httpx and httpcore raise "from None": the context that says what really happened.

    Other contexts are not looked at: one may be the caller's own affair, who calls while handling an error.
    """
    package = type(error).__module__.partition(".")[0]
    return error.__context__ if error.__suppress_context__ and package in ("httpx", "httpcore") else None


def _about_staleness(chain: list[BaseException]) -> Fault | None:
    return _STALE if any(isinstance(link, StaleConnectionError) for link in chain) else None


def _about_tls(chain: list[BaseException]) -> Fault | None:
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError | aiohttp.ServerFingerprintMismatch):
            return _CERTIFICATE
    for link in chain:
        if isinstance(link, ssl.SSLError) and not isinstance(link, _TRANSIENT_TLS):
            return _TLS
    return None


def _about_url(chain: list[BaseException]) -> Fault | None:
    return _URL if any(isinstance(link, UnicodeError) for link in chain) else None


def _about_encoding(chain: list[BaseException]) -> Fault | None:
    if _PIECE_TOO_LARGE is not None and any(isinstance(link, _PIECE_TOO_LARGE) for link in chain):
        return _TOO_LARGE_A_PIECE
    for link in chain:
        if isinstance(link, RefusedEncodingError):
            name, why, hint = link.args
            return replace(_ENCODING, what=f"sent a body in the encoding {quoted(name)}, {why}", hint=hint)
    return _ENCODING if any(isinstance(link, ContentEncodingError) for link in chain) else None


_PIECE_TOO_LARGE: type[BaseException] | None = getattr(http_exceptions, "DecompressSizeError", None)


def _from_aiohttp(chain: list[BaseException]) -> Fault | None:
    for link in reversed(chain):
        if isinstance(link, aiohttp.ClientHttpProxyError):
            return _PROXY if link.status >= 500 else replace(_PROXY, reach=SendStatus.FINAL)
        if isinstance(link, aiohttp.ClientError):
            found = _look_up(link, _AIOHTTP)
            if found or not isinstance(link, aiohttp.ClientResponseError):
                return found
            return _no_http(next((each for each in chain if isinstance(each, HttpProcessingError)), link))
    return None


def _from_httpx(chain: list[BaseException]) -> Fault | None:
    httpx = sys.modules.get("httpx")
    if httpx is None:
        return None
    if any(isinstance(link, httpx.InvalidURL) for link in chain):
        # Of what an answer names httpx says that the answer is wrong; else it is the endpoint.
        answered = any(isinstance(link, httpx.HTTPError) for link in chain)
        return _BAD_REDIRECT if answered else _URL
    for link in chain:
        if isinstance(link, httpx.RemoteProtocolError) and _is_parsers(chain) and not _has_closed(link):
            return _no_http(link)
        if isinstance(link, httpx.HTTPError):
            return _about_names(chain) or _look_up(link, _httpx_table(httpx))
    return None


def _is_parsers(chain: list[BaseException]) -> bool:
    return any(type(link).__module__.partition(".")[0] in ("httpcore", "h11") for link in chain)


def _has_closed(error: Exception) -> bool:
    """Whether the other side went, rather than say what a parser refuses: httpx has one type for both."""
    words = str(error).lower()
    return "disconnected" in words or "closed connection" in words


def _no_http(error: BaseException) -> Fault:
    """What a parser refuses, named without the bytes that it quotes."""
    said = str(getattr(error, "message", None) or error)
    if too_long := re.search(r"more than (\d+) bytes", said):
        detail = f"a header line over {too_long[1]} bytes"
    else:
        detail = re.split(r"[:\n]", said, maxsplit=1)[0].strip()[:80]
    shown = detail.encode("unicode_escape").decode()
    return replace(_NO_HTTP, what=f"{_NO_HTTP.what}: {shown}" if shown else _NO_HTTP.what)


def _about_names(chain: list[BaseException]) -> Fault | None:
    return _DNS if any(isinstance(link, socket.gaierror) for link in chain) else None


def _httpx_table(httpx: ModuleType) -> tuple[tuple[type[BaseException], Fault], ...]:
    return (
        (httpx.PoolTimeout, _POOL_FULL),
        (httpx.ConnectTimeout, _CONNECT),
        (httpx.ReadTimeout, _READ),
        (httpx.WriteTimeout, _WRITE),
        (httpx.ProxyError, _PROXY),
        (httpx.ConnectError, _REFUSED),
        (httpx.ReadError, _LOST),
        (httpx.WriteError, _LOST),
        (httpx.CloseError, _LOST),
        (httpx.LocalProtocolError, _UNWRITABLE),
        (httpx.RemoteProtocolError, _LOST),
        (httpx.UnsupportedProtocol, _URL),
        (httpx.DecodingError, _ENCODING),
        (httpx.TooManyRedirects, _REDIRECTS),
    )


def _from_system(chain: list[BaseException]) -> Fault | None:
    return next((found for link in reversed(chain) if (found := _look_up(link, _SYSTEM))), None)


def _look_up(error: BaseException, table: tuple[tuple[type[BaseException], Fault], ...]) -> Fault | None:
    return next((fault for kind, fault in table if isinstance(error, kind)), None)


_QUESTIONS: tuple[Callable[[list[BaseException]], Fault | None], ...] = (
    _about_staleness,
    _about_tls,
    _about_encoding,
    _about_url,
    _from_aiohttp,
    _from_httpx,
    _from_system,
)
