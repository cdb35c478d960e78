"""What an exception of an HTTP library says of an attempt: how far it got, and what to do."""

from __future__ import annotations

import re
import socket
import ssl
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
from aiographql.client.exceptions import GraphQLTransportException
from aiohttp import http_exceptions
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from graphql_prod.calls.fault_table import (
    ATTEMPT,
    BAD_REDIRECT,
    CERTIFICATE,
    CONNECT,
    DNS,
    ENCODING,
    LOST,
    NO_HTTP,
    OTHER,
    POOL_FULL,
    PROXY,
    READ,
    REDIRECTS,
    REFUSED,
    SESSION_CLOSED,
    STALE,
    TLS,
    TOO_LARGE,
    TOO_LARGE_A_PIECE,
    TOO_MANY_VALUES,
    UNWRITABLE,
    URL,
    WRITE,
    Fault,
)
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


_LIBRARIES = ("aiohttp", "httpx", "httpcore", "h11", "websockets")
_OURS = UnicodeError | BodyError | SessionClosedError | UnwritableRequestError | StaleConnectionError
_NEVER_SENT = (CERTIFICATE, TLS, URL, UNWRITABLE, SESSION_CLOSED)

_AIOHTTP: tuple[tuple[type[BaseException], Fault], ...] = (
    (aiohttp.ConnectionTimeoutError, CONNECT),
    (aiohttp.ServerTimeoutError, READ),
    (aiohttp.ClientConnectorDNSError, DNS),
    (aiohttp.ClientProxyConnectionError, PROXY),
    (aiohttp.ClientConnectorError, REFUSED),
    (aiohttp.InvalidURL, URL),
    (aiohttp.TooManyRedirects, REDIRECTS),
    (aiohttp.ClientPayloadError, LOST),
    (aiohttp.ClientConnectionError, LOST),
)
_SYSTEM: tuple[tuple[type[BaseException], Fault], ...] = (
    (ResponseTooLargeError, TOO_LARGE),
    (TooManyValuesError, TOO_MANY_VALUES),
    (BrokenEncodingError, ENCODING),
    (SessionClosedError, SESSION_CLOSED),
    (UnwritableRequestError, UNWRITABLE),
    (PoolTimeoutError, POOL_FULL),
    (socket.gaierror, DNS),
    (ConnectionRefusedError, REFUSED),
    (TimeoutError, ATTEMPT),
    (OSError, LOST),
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
    fault = next((fault for ask in _QUESTIONS if (fault := ask(chain))), OTHER)
    if fault is URL and sent:
        fault = BAD_REDIRECT  # the endpoint was asked
    if sent is None:
        return replace(fault, sent=fault.send_status is not SendStatus.UNSENT and fault not in _NEVER_SENT)
    if fault.send_status is SendStatus.AMBIGUOUS and not sent:
        return replace(fault, send_status=SendStatus.UNSENT, sent=False)
    if fault.send_status is SendStatus.UNSENT and sent:
        return replace(fault, send_status=SendStatus.AMBIGUOUS)
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
    return STALE if any(isinstance(link, StaleConnectionError) for link in chain) else None


def _about_tls(chain: list[BaseException]) -> Fault | None:
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError | aiohttp.ServerFingerprintMismatch):
            return CERTIFICATE
    for link in chain:
        if isinstance(link, ssl.SSLError) and not isinstance(link, _TRANSIENT_TLS):
            return TLS
    return None


def _about_url(chain: list[BaseException]) -> Fault | None:
    return URL if any(isinstance(link, UnicodeError) for link in chain) else None


def _about_encoding(chain: list[BaseException]) -> Fault | None:
    if _PIECE_TOO_LARGE is not None and any(isinstance(link, _PIECE_TOO_LARGE) for link in chain):
        return TOO_LARGE_A_PIECE
    for link in chain:
        if isinstance(link, RefusedEncodingError):
            name, why, hint = link.args
            return replace(ENCODING, what=f"sent a body in the encoding {quoted(name)}, {why}", hint=hint)
    return ENCODING if any(isinstance(link, ContentEncodingError) for link in chain) else None


_PIECE_TOO_LARGE: type[BaseException] | None = getattr(http_exceptions, "DecompressSizeError", None)


def _from_aiohttp(chain: list[BaseException]) -> Fault | None:
    for link in reversed(chain):
        if isinstance(link, aiohttp.ClientHttpProxyError):
            return PROXY if link.status >= 500 else replace(PROXY, send_status=SendStatus.FINAL)
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
        return BAD_REDIRECT if answered else URL
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
    return replace(NO_HTTP, what=f"{NO_HTTP.what}: {shown}" if shown else NO_HTTP.what)


def _about_names(chain: list[BaseException]) -> Fault | None:
    return DNS if any(isinstance(link, socket.gaierror) for link in chain) else None


def _httpx_table(httpx: ModuleType) -> tuple[tuple[type[BaseException], Fault], ...]:
    return (
        (httpx.PoolTimeout, POOL_FULL),
        (httpx.ConnectTimeout, CONNECT),
        (httpx.ReadTimeout, READ),
        (httpx.WriteTimeout, WRITE),
        (httpx.ProxyError, PROXY),
        (httpx.ConnectError, REFUSED),
        (httpx.ReadError, LOST),
        (httpx.WriteError, LOST),
        (httpx.CloseError, LOST),
        (httpx.LocalProtocolError, UNWRITABLE),
        (httpx.RemoteProtocolError, LOST),
        (httpx.UnsupportedProtocol, URL),
        (httpx.DecodingError, ENCODING),
        (httpx.TooManyRedirects, REDIRECTS),
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
