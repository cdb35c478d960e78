"""One attempt over an httpx client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from graphql_prod.sessions import bodies
from graphql_prod.sessions.bodies import LARGE
from graphql_prod.sessions.exchange import (
    Exchange,
    SessionClosedError,
    StaleConnectionError,
    T,
    before_parsing,
)
from graphql_prod.sessions.thin_answers import bytes_of, headers_of, status_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    import httpx


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
            self.sent: bool | None = True
            self.status: int | None = response.status_code
            self.headers: Mapping[str, str] = response.headers
            self.body: bytes = await self._read(response)
        finally:
            await response.aclose()
        if len(self.body) > LARGE:
            before_parsing(self.body, self._values)
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

    async def hear(self, event: str, details: Any) -> None:
        """httpx's extension ``trace``."""
        if event.endswith(_SENDING):
            self.sent: bool | None = True
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

    __slots__ = ("_client", "_detached")

    def __init__(self, client: httpx.AsyncClient, detached: set[asyncio.Task[Any]]) -> None:
        super().__init__()
        self._client = client
        self._detached = detached

    async def request(self, *, headers: Mapping[str, str], **options: Any) -> httpx.Response:
        if self._client.is_closed:
            raise SessionClosedError
        self.sent: bool | None = None
        options = _with_own_query(self._client, options)
        options.setdefault("extensions", {"trace": self.hear})
        sending = self._client.request(headers=_for_httpx(headers), **options)
        response = await shielded(sending, self._detached)
        self.sent = True
        self.status: int | None = status_of(response)
        self.headers: Mapping[str, str] = headers_of(response)
        self.body: bytes = bytes_of(getattr(response, "content", None))
        if len(self.body) > LARGE:
            before_parsing(self.body, None)
        return response


class OtherHttpxExchange(Exchange):
    """For what only says that it is an httpx client, of which is known only that the stock can use it."""

    __slots__ = ("_client",)

    def __init__(self, client: Any) -> None:
        super().__init__()
        self._client = client

    async def request(self, **options: Any) -> Any:
        self.sent: bool | None = None
        response = await self._client.request(**options)
        self.status: int | None = status_of(response)
        self.headers: Mapping[str, str] = headers_of(response)
        self.body: bytes = bytes_of(getattr(response, "content", None))
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


async def shielded(request: Coroutine[Any, Any, T], detached: set[asyncio.Task[Any]]) -> T:
    """Await a request that nobody may cancel; a cancel of the caller leaves it behind in ``detached``."""
    task = asyncio.create_task(request)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            detached.add(task)
        task.add_done_callback(detached.discard)
        task.add_done_callback(_retrieve)
        raise


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # nobody else will ask
