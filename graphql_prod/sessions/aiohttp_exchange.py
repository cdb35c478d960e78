"""One attempt over an aiohttp session."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import aiohttp
from multidict import CIMultiDictProxy

from graphql_prod.sessions import bodies
from graphql_prod.sessions.bodies import LARGE
from graphql_prod.sessions.connector import settled
from graphql_prod.sessions.exchange import (
    Exchange,
    SessionClosedError,
    StaleConnectionError,
    UnwritableRequestError,
    before_parsing,
)
from graphql_prod.sessions.request_body import CautiousBody, WatchedBody
from graphql_prod.sessions.thin_answers import bytes_of, headers_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping
    from contextlib import AbstractAsyncContextManager


# What aiohttp says in a bare ValueError of headers and credentials of the session itself, 3.13 the last one.
_REFUSALS = ("Cannot combine AUTHORIZATION", "Forbidden control character", "Newline or carriage return")


class AiohttpExchange(Exchange):
    """Stands in for an aiohttp session, and for the response that it gives."""

    __slots__ = ("_context", "_limit", "_response", "_session", "_values")

    def __init__(
        self, session: aiohttp.ClientSession, limit: int | None = None, values: int | None = None
    ) -> None:
        # Not super().__init__(): one frame less on the path of every call.
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.body: bytes = b""
        self.sent: bool | None = False
        self._session = session
        self._limit = limit
        self._values = values

    def opened(
        self, method: str, url: str, *, data: Any = None, **options: Any
    ) -> AbstractAsyncContextManager[Any]:
        """What is entered for the answer. It is told to :meth:`answered`, or is this exchange itself."""
        if type(data) is bytes:
            data = WatchedBody(data)
            data.exchange = self
        else:
            self.sent = None
        return self._session.request(method, url, data=data, **options)

    def request(self, method: str, url: str, *, data: Any = None, **options: Any) -> AiohttpExchange:
        self._context = AiohttpExchange.opened(self, method, url, data=data, **options)
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

    def answered(self, response: Any) -> Awaitable[bytes] | None:
        """Note what came, and begin to read the body.

        None where that is to be awaited by :meth:`read`: it has to be bounded while it is inflated.
        """
        self._response = response
        self.sent = True
        self.status = response.status
        headers = getattr(response, "headers", None)
        headers = self.headers = headers if type(headers) is CIMultiDictProxy else headers_of(response)
        return response.read() if bodies.fits(headers, self._limit) else None

    def take(self, body: object) -> None:
        """Look at a body that is not the usual one: a large one, or what a double of a session gives.

        :raises TooManyValuesError: it holds too many values.
        """
        self.body = body if type(body) is bytes else bytes_of(body)
        if len(self.body) > LARGE:
            before_parsing(self.body, self._values)

    async def read(self) -> Any:
        response, limit = self._response, self._limit
        if bodies.fits(self.headers, limit) or not _is_real(response):
            body = await response.read()
        else:
            asked = response.request_info.headers
            body = await bodies.read(response.content.iter_any, self.headers, asked, limit)
        self.take(body)
        return body


class UnboundedExchange(AiohttpExchange):
    """For a session that is not ours: how much it reads, and inflates, is its owner's affair."""

    __slots__ = ()

    async def read(self) -> Any:
        body = await self._response.read()
        self.body: bytes = body if type(body) is bytes else bytes_of(body)
        if len(self.body) > LARGE:
            before_parsing(self.body, None)
        return body


class GivenAiohttpExchange(UnboundedExchange):
    """For a caller's aiohttp session, whose connector is its owner's affair.

    aiohttp gives a stray answer on a kept connection to the next request, before that was written or at once
    after. So the body looks at the connection when it is to write itself.
    """

    __slots__ = ("_options",)

    def opened(
        self, method: str, url: str, *, data: Any = None, **options: Any
    ) -> AbstractAsyncContextManager[Any]:
        return self.request(method, url, data=data, **options)

    def answered(self, response: Any) -> Awaitable[bytes] | None:
        return None

    def request(self, method: str, url: str, *, data: Any = None, **options: Any) -> AiohttpExchange:
        if type(data) is bytes:
            data = CautiousBody(data)
            data.exchange = self
        else:
            self.sent: bool | None = None
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
        self.status: int | None = response.status
        headers = getattr(response, "headers", None)
        self.headers: Mapping[str, str] = (
            headers if type(headers) is CIMultiDictProxy else headers_of(response)
        )
        return self


class OtherExchange(UnboundedExchange):
    """For a session of another library, of which is known only that the stock can use it."""

    __slots__ = ()

    def request(self, **options: Any) -> AiohttpExchange:  # type: ignore[override]
        self.sent: bool | None = None
        self._context = self._session.request(**options)
        return self

    async def __aenter__(self) -> AiohttpExchange:
        response = self._response = await self._context.__aenter__()
        self.status: int | None = response.status
        self.headers: Mapping[str, str] = headers_of(response)
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
