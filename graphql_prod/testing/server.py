"""A real GraphQL server on a loopback port that does what a test tells it to."""

import asyncio
import ssl
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from .delivery import stop_listening
from .facts import listed
from .resolvers import Resolvers
from .scripting import ScriptedHTTP
from .websocket import ScriptedSockets


class ScriptedServer(ScriptedSockets, ScriptedHTTP):
    """A GraphQL server over HTTP and WebSockets, scripted by the test that runs it.

    Without a script it executes what it is sent, on a schema of the test's own or on the toy in
    `testing.schema`. Scripts change its answers; facts say what arrived and what really ran.

    `schema` is SDL, the Path of a file with SDL, or a schema of graphql-core, Ariadne, Graphene or
    Strawberry. None: the toy. `resolvers` resolve it by type and field, each a function
    `(source, info, **arguments)`, an async one, or a value; those of the subscription type are async
    generator functions, or lists of events. `root` is an object whose attributes, or a mapping whose
    items, resolve top-level fields. `info.context` is `{"request": ReceivedRequest}`; over a socket it
    has `connection_params` too. With a schema of its own a scripted answer that breaks it is an error:
    the client meets a 400, and leaving the `async with` block raises AssertionError.

    `port` 0 takes a free one and keeps it across restarts. `ssl_context` None is plain HTTP.

    Raises ValueError for resolvers that the schema has no place for, TypeError for what is no
    schema, GraphQLError for SDL that cannot be read.

        async with ScriptedServer() as server:
            server.script(Answer.page(502), Answer.reset("body", execute=True))
            ...  # a client calls server.url
            await server.executed("increment", 1)
    """

    def __init__(
        self,
        *,
        schema: Any = None,
        resolvers: Resolvers | None = None,
        root: Any = None,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = "/graphql",
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(path, schema, resolvers, root)
        self.host = host
        self.port: int = port
        self.connections: int = 0
        """TCP connections accepted so far, those before a restart included."""
        self._ssl = ssl_context
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    @property
    def url(self) -> str:
        """The endpoint for HTTP."""
        return f"{'https' if self._ssl else 'http'}://{self.host}:{self.port}{self.path}"

    @property
    def ws_url(self) -> str:
        """The endpoint for WebSockets."""
        return f"{'wss' if self._ssl else 'ws'}://{self.host}:{self.port}{self.path}"

    async def start(self) -> None:
        """Listen, on the same port as before if there was one; nothing if it runs already.

        Raises OSError when the port is taken.
        """
        if self._listener is not None:
            return
        self._stopping = False
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: self._accept(server),
            self.host,
            self.port,
            ssl=self._ssl,
            ssl_handshake_timeout=5.0 if self._ssl else None,
            ssl_shutdown_timeout=1.0 if self._ssl else None,
        )
        self._web = server
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and every connection at once, without waiting for any answer.

        Facts and scripts stay. Nothing if it does not run. A polite end is
        `close_sockets(1001)` before it.
        """
        if self._listener is None or self._web is None:
            return
        listener, self._listener = self._listener, None
        self._stopping = True
        await stop_listening(listener)
        await self._drop(self._web)
        await listener.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        if error is None and self.problems:
            raise AssertionError(listed("scripted answers broke the schema:", self.problems))

    def _accept(self, server: web.Server) -> asyncio.BaseProtocol:
        self.connections += 1
        self._changed()
        return server()

    async def _drop(self, server: web.Server) -> None:
        # A connection leaves the list when its task has ended, which an abort brings about.
        while connections := server.connections:
            for connection in connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._upgrade(request)
        return await self._exchange(request)
