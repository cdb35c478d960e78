"""One attempt, seen from between the stock transport and the session.

The stock transport asks its session for ``request(...)`` and nothing else. These stand in for the session
during one attempt, hand everything through, and remember what the stock client drops: the status, the
headers, the body, and whether the request was written at all.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from aiohttp.payload import BytesPayload
from multidict import CIMultiDictProxy

from graphql_prod.runtime import garbage
from graphql_prod.sessions import bodies
from graphql_prod.sessions.bodies import LARGE
from graphql_prod.sessions.connector import settled
from graphql_prod.sessions.thin_answers import bytes_of, headers_of, status_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    import httpx
    from aiohttp.abc import AbstractStreamWriter

T = TypeVar("T")


class Exchange:
    """What is known of an attempt, whichever library carries it."""

    __slots__ = ("body", "headers", "sent", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.body: bytes = b""
        self.sent: bool | None = False
        """Whether the request was written; None where nobody can tell."""


class StaleConnectionError(aiohttp.ClientConnectionError):
    """A kept connection had ended, or brought an answer that nobody had asked for; nothing was sent on it."""


class SessionClosedError(Exception):
    """The caller's session was closed by its owner; nothing was sent."""


class UnwritableRequestError(Exception):
    """The HTTP library refuses to write a request, for something that the caller's session adds to it."""


# What aiohttp says in a bare ValueError of headers and credentials of the session itself, 3.13 the last one.
_REFUSALS = ("Cannot combine AUTHORIZATION", "Forbidden control character", "Newline or carriage return")


class AiohttpExchange(Exchange):
    """Stands in for an aiohttp session, and for the response that it gives."""

    __slots__ = ("_context", "_limit", "_response", "_session", "_values")

    def __init__(
        self, session: aiohttp.ClientSession, limit: int | None = None, values: int | None = None
    ) -> None:
        # Not super().__init__(): one frame less on the path of every call.
        self.status = None
        self.headers = {}
        self.body = b""
        self.sent = False
        self._session = session
        self._limit = limit
        self._values = values

    def request(self, method: str, url: str, *, data: Any = None, **options: Any) -> AiohttpExchange:
        if type(data) is bytes:
            data = WatchedBody(data, self)
        else:
            self.sent = None
        self._context: AbstractAsyncContextManager[aiohttp.ClientResponse] = self._session.request(
            method, url, data=data, **options
        )
        return self

    async def __aenter__(self) -> AiohttpExchange:
        response = self._response = await self._context.__aenter__()
        self.sent = True
        self.status = response.status
        headers = getattr(response, "headers", None)
        self.headers = headers if type(headers) is CIMultiDictProxy else headers_of(response)
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._context.__aexit__(*exception)

    async def read(self) -> bytes:
        response, limit = self._response, self._limit
        if bodies.fits(self.headers, limit) or not _is_real(response):
            body = await response.read()
        else:
            asked = response.request_info.headers
            body = await bodies.read(response.content.iter_any, self.headers, asked, limit)
        self.body = body if type(body) is bytes else bytes_of(body)
        if len(self.body) > LARGE:
            _before_parsing(self.body, self._values)
        return body


class UnboundedExchange(AiohttpExchange):
    """For a session that is not ours: how much it reads, and inflates, is its owner's affair."""

    __slots__ = ()

    async def read(self) -> bytes:
        body = await self._response.read()
        self.body = body if type(body) is bytes else bytes_of(body)
        if len(self.body) > LARGE:
            _before_parsing(self.body, None)
        return body


class GivenAiohttpExchange(UnboundedExchange):
    """For a caller's aiohttp session, whose connector is its owner's affair.

    aiohttp gives a stray answer on a kept connection to the next request, before that was written or at once
    after. So the body looks at the connection when it is to write itself.
    """

    __slots__ = ("_options",)

    def request(self, method: str, url: str, *, data: Any = None, **options: Any) -> AiohttpExchange:
        if type(data) is bytes:
            data = CautiousBody(data, self)
        else:
            self.sent = None
        self._options = {"method": method, "url": url, "data": data, **options}
        return self

    async def __aenter__(self) -> AiohttpExchange:
        await settled()
        self._context = self._session.request(**self._options)
        try:
            response = self._response = await self._context.__aenter__()
        except aiohttp.ClientResponseError as error:
            # A session that raises for a status does so for a stray answer's, too.
            if self.sent is not False or isinstance(error, aiohttp.ClientHttpProxyError):
                raise
            raise StaleConnectionError from None  # nor its status
        except ValueError as error:
            if self.sent is not False or not str(error).startswith(_REFUSALS):
                raise
            raise UnwritableRequestError from None
        except (RuntimeError, aiohttp.ClientConnectionError):
            if self.sent or not getattr(self._session, "closed", False):
                raise
            raise SessionClosedError from None
        if self.sent is False and is_stray(response, self._session):
            response.close()
            raise StaleConnectionError
        self.sent = True
        self.status = response.status
        headers = getattr(response, "headers", None)
        self.headers = headers if type(headers) is CIMultiDictProxy else headers_of(response)
        return self


class OtherExchange(UnboundedExchange):
    """For a session of another library, of which is known only that the stock can use it."""

    __slots__ = ()

    def request(self, **options: Any) -> AiohttpExchange:  # type: ignore[override]
        self.sent = None
        self._context = self._session.request(**options)
        return self

    async def __aenter__(self) -> AiohttpExchange:
        response = self._response = await self._context.__aenter__()
        self.status = response.status
        self.headers = headers_of(response)
        return self


def is_stray(response: aiohttp.ClientResponse, session: object) -> bool:
    """Whether an answer to a request that was not written came over a connection.

    Else a middleware, or a test's double of the session, has made it without asking anybody.
    """
    if not _is_real(response):
        return False
    if response.connection is not None:
        return True
    # A hook that waits at the end of a request outlasts the connection.
    configs = getattr(session, "trace_configs", None) or ()
    return sys.version_info < (3, 12) and any(config.on_request_end for config in configs)


def _is_real(response: object) -> bool:
    """Whether aiohttp has made it. Asked of the type: a double may say that it is of another one."""
    return issubclass(type(response), aiohttp.ClientResponse)


def _before_parsing(body: bytes, values: int | None) -> None:
    """What is due before a large body becomes objects, which happens in the same step of the loop.

    :raises TooManyValuesError: they would be too many.
    """
    bodies.require_few_values(body, values)
    garbage.no_full_collection_in_this_step()


class WatchedBody(BytesPayload):
    """The request's body; aiohttp asks it to write itself, which is when an attempt becomes ambiguous."""

    def __init__(self, value: bytes, exchange: Exchange) -> None:
        super().__init__(value)
        self._exchange = exchange

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._exchange.sent = True
        await super().write(writer)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._exchange.sent = True
        await super().write_with_length(writer, content_length)


class CautiousBody(WatchedBody):
    """Refuses to write itself to a connection on which something has happened since it was kept.

    What that is was read before a byte of this request was written: headers go out together with the body.
    """

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if self._exchange.sent is False:
            transport: asyncio.Transport | None = getattr(writer, "transport", None)
            if transport is None or transport.is_closing():
                raise StaleConnectionError
            if getattr(transport.get_protocol(), "should_close", False):
                transport.close()
                raise StaleConnectionError
        await super().write_with_length(writer, content_length)


def _for_httpx(headers: Mapping[str, str]) -> Mapping[str, Any]:
    """Headers as aiohttp writes them, which are not refused by httpx: in UTF-8, without space around them."""
    if all(value.isascii() and value == value.strip() for value in headers.values()):
        return headers
    return {name: value.strip().encode() for name, value in headers.items()}


class HttpxExchange(Exchange):
    """Stands in for our own httpx client, and for the response that it gives."""

    __slots__ = ("_client", "_limit", "_values")

    def __init__(
        self, client: httpx.AsyncClient, limit: int | None = None, values: int | None = None
    ) -> None:
        super().__init__()
        self._client = client
        self._limit = limit
        self._values = values

    @property
    def content(self) -> bytes:
        """The body, by the name that httpx has for it."""
        return self.body

    @property
    def status_code(self) -> int | None:
        """The status, by the name that httpx has for it."""
        return self.status

    async def request(self, *, headers: Mapping[str, str], **options: Any) -> HttpxExchange:
        options = _with_own_query(self._client, options)
        request = self._client.build_request(headers=_for_httpx(headers), **options)
        response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            self.sent = True
            self.status = response.status_code
            self.headers = response.headers
            self.body = await self._read(response)
        finally:
            await response.aclose()
        if len(self.body) > LARGE:
            _before_parsing(self.body, self._values)
        return self

    async def _read(self, response: httpx.Response) -> bytes:
        if (
            bodies.fits(response.headers, self._limit) or response.is_closed
        ):  # a test's double is, from the first
            return await response.aread()
        asked = response.request.headers
        return await bodies.read(response.aiter_raw, response.headers, asked, self._limit)


# What names of events end with that httpcore tells its trace.
_SENDING = ".send_request_headers.started"
_READING = "http11.receive_response_headers."


class HeardExchange(Exchange):
    """For httpcore, which tells what it does.

    It keeps what came in one piece with an answer, and gives it to the next request after that was written.
    Whatever the server says to a request takes at least one round of the loop.
    """

    __slots__ = ("_waited",)

    async def hear(self, event: str, told: Any) -> None:
        """httpx's extension ``trace``."""
        if event.endswith(_SENDING):
            self.sent = True
        elif event.startswith(_READING):
            if event.endswith("started"):
                self._waited = False
                asyncio.get_running_loop().call_soon(self._wait)
            elif not self._waited:
                raise StaleConnectionError

    def _wait(self) -> None:
        self._waited = True


class ShieldedExchange(HeardExchange):
    """For a caller's httpx client: whoever gives up abandons the request instead of cancelling it.

    A cancel in httpcore loses a slot of the pool for good (encode/httpcore#1093). The abandoned request
    ends under the httpx client's own timeouts.
    """

    __slots__ = ("_abandoned", "_client")

    def __init__(self, client: httpx.AsyncClient, abandoned: set[asyncio.Task[Any]]) -> None:
        super().__init__()
        self._client = client
        self._abandoned = abandoned

    async def request(self, *, headers: Mapping[str, str], **options: Any) -> httpx.Response:
        if self._client.is_closed:
            raise SessionClosedError
        self.sent = None
        options = _with_own_query(self._client, options)
        options.setdefault("extensions", {"trace": self.hear})
        sending = self._client.request(headers=_for_httpx(headers), **options)
        response = await shielded(sending, self._abandoned)
        self.sent = True
        self.status = status_of(response)
        self.headers = headers_of(response)
        self.body = bytes_of(getattr(response, "content", None))
        if len(self.body) > LARGE:
            _before_parsing(self.body, None)
        return response


class OtherHttpxExchange(Exchange):
    """For what only says that it is an httpx client, of which is known only that the stock can use it."""

    __slots__ = ("_client",)

    def __init__(self, client: Any) -> None:
        super().__init__()
        self._client = client

    async def request(self, **options: Any) -> Any:
        self.sent = None
        response = await self._client.request(**options)
        self.status = status_of(response)
        self.headers = headers_of(response)
        self.body = bytes_of(getattr(response, "content", None))
        return response


def _with_own_query(client: httpx.AsyncClient, options: dict[str, Any]) -> dict[str, Any]:
    """The same request with the endpoint's own query, which httpx drops for parameters of any kind."""
    params = options.get("params")
    if not params and not client.params:
        return options
    import httpx

    url = httpx.URL(options["url"])
    if not url.query:
        return options
    query = b"&".join([url.query, str(httpx.QueryParams(params)).encode()] if params else [url.query])
    if client.params:
        return {**options, "params": query.decode()}
    return {**options, "url": url.copy_with(query=query), "params": None}


async def shielded(request: Coroutine[Any, Any, T], abandoned: set[asyncio.Task[Any]]) -> T:
    """Await a request that nobody may cancel; a cancel of the caller leaves it behind in ``abandoned``."""
    task = asyncio.create_task(request)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            abandoned.add(task)
        task.add_done_callback(abandoned.discard)
        task.add_done_callback(_retrieve)
        raise


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # nobody else will ask
