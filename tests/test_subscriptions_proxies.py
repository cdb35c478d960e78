"""Subscriptions through forward proxies: a setting's, and the environment's."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme
from raw_sockets import Peer, RawServer, answering
from subscribing import COUNT, Follower, client_of

from graphql_prod import ConfigurationError, HTTPStatusError, TransportError
from graphql_prod.testing.delivery import stop_listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Backend
    from subscribing import Protocol

    from graphql_prod.testing import ScriptedServer

VARIABLES = ("http_proxy", "https_proxy", "ws_proxy", "wss_proxy", "socks_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def _relay(peer: Peer) -> None:
    """A forward proxy: CONNECT is a tunnel, and GET is passed on with its Upgrade, as few do."""
    method, target, _ = peer.line.split(" ")
    authority = target if method == "CONNECT" else target.split("/")[2]
    host, port = authority.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    if method == "CONNECT":
        await peer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    else:
        path = "/" + target.split("/", 3)[3]
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in peer.headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    try:
        await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[RawServer]:
    async with RawServer(_relay) as server:
        yield server


@contextlib.asynccontextmanager
async def _tls(port: int, authority: trustme.CA) -> AsyncIterator[str]:
    """The server on this port, with TLS before it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, out = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, out), pump(inner, writer))

    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await relay(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/graphql"
    finally:
        await stop_listening(server)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()


def _lines(proxy: RawServer) -> set[str]:
    return {peer.line.split(" ")[0] for peer in proxy.peers}


KINDS = ["aiohttp", "httpx", "a given aiohttp session"]


@contextlib.asynccontextmanager
async def _trusting(url: str, kind: str, **settings: Any) -> AsyncIterator[Any]:
    """A client that looks at the environment."""
    async with contextlib.AsyncExitStack() as stack:
        objects: dict[str, Any] = {}
        if kind in ("aiohttp", "httpx"):
            settings["trust_env"] = True
        else:
            objects["session"] = await stack.enter_async_context(aiohttp.ClientSession(trust_env=True))
        backend: Any = None if objects else kind
        yield await stack.enter_async_context(
            client_of(url, backend, objects=objects, settings=settings, connect_attempts=2)
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ws_proxy"])
async def test_the_environments_proxy_is_used(
    counting: ScriptedServer,
    proxy: RawServer,
    protocol: Protocol,
    kind: str,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """trust_env holds for subscriptions: they do not go around http_proxy."""
    monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
    async with (
        _trusting(counting.url, kind) as client,
        Follower(client, "stream", protocol) as follower,
    ):
        await follower.came(2)
        assert _lines(proxy) == {"CONNECT" if kind == "httpx" else "GET"}


@pytest.mark.parametrize("kind", ["aiohttp", "httpx"])
@pytest.mark.parametrize("by", ["https_proxy", "wss_proxy", "the setting"])
async def test_a_secure_endpoint_goes_through_a_tunnel(
    counting: ScriptedServer,
    proxy: RawServer,
    kind: str,
    by: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    """wss:// is tunnelled on both libraries, whoever names the proxy."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    settings: dict[str, Any] = {"tls": {"ca_file": tmp_path / "ca.pem"}}
    if by == "the setting":
        settings["proxy"] = f"http://127.0.0.1:{proxy.port}"
    else:
        monkeypatch.setenv(by, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with (
        _tls(counting.port, authority) as url,
        _trusting(url, kind, **settings) as client,
        Follower(client, "stream") as follower,
    ):
        await follower.came(2)
        assert _lines(proxy) == {"CONNECT"}


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_a_proxy_behind_tls_is_judged_by_our_authorities(
    counting: ScriptedServer, proxy: RawServer, secure: bool, tmp_path: Any
) -> None:
    """websockets trusts an https:// proxy by the settings of ``tls``, as it trusts the server."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with (
        _tls(proxy.port, authority) as front,
        _tls(counting.port, authority) as target,
        client_of(
            target if secure else counting.url,
            "httpx",
            settings={
                "tls": {"ca_file": tmp_path / "ca.pem"},
                "proxy": front.removesuffix("/graphql"),
            },
        ) as client,
        Follower(client, "stream") as follower,
    ):
        await follower.came(2)
        assert _lines(proxy) == {"CONNECT"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ["127.0.0.1", "*", "127.0.0.1:{port}"])
async def test_no_proxy_holds(
    counting: ScriptedServer,
    proxy: RawServer,
    kind: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host of no_proxy is connected to directly."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", value.format(port=counting.port))
    async with _trusting(counting.url, kind) as client, Follower(client, "stream") as follower:
        await follower.came()
    assert not proxy.peers


@pytest.mark.parametrize("kind", ["aiohttp", "httpx"])
async def test_without_trust_env_the_environment_is_no_matter(
    counting: ScriptedServer, proxy: RawServer, kind: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the setting says."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    async with client_of(counting.url, kind) as client, Follower(client, "stream") as follower:
        await follower.came()
    assert not proxy.peers


@pytest.mark.parametrize("kind", ["aiohttp", "httpx"])
async def test_the_setting_comes_before_the_environment(
    counting: ScriptedServer, proxy: RawServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that is named in the settings is the one, with its credentials."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with (
        _trusting(counting.url, kind, proxy=f"http://user:pw@127.0.0.1:{proxy.port}") as client,
        Follower(client, "stream") as follower,
    ):
        await follower.came()
    assert proxy.peers[0].headers["proxy-authorization"] == "Basic dXNlcjpwdw=="


@pytest.mark.parametrize("kind", KINDS)
async def test_the_environments_credentials_are_sent(
    counting: ScriptedServer, proxy: RawServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in its URL, as for requests; a proxy without a scheme is one of http://."""
    monkeypatch.setenv("http_proxy", f"user:pw@127.0.0.1:{proxy.port}")
    async with _trusting(counting.url, kind) as client, Follower(client, "stream") as follower:
        await follower.came()
    assert proxy.peers[0].headers["proxy-authorization"] == "Basic dXNlcjpwdw=="


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value", ["http://user:s3cret@", "http://user:s3cret@host:99999", "gopher://user:s3cret@host"]
)
async def test_a_proxy_that_cannot_be_used(
    server: ScriptedServer, kind: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its variable is named, and nothing secret; it is not tried again."""
    monkeypatch.setenv("http_proxy", value)
    async with _trusting(server.url, kind) as client:
        with pytest.raises(ConfigurationError, match="http_proxy") as caught:
            await client.subscribe(COUNT)
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert not server.upgrades


@pytest.mark.parametrize("how", ["the setting", "trust_env", "a given session"])
@pytest.mark.parametrize("status", [200, 400, 404, 405, 426, 501])
async def test_ws_over_a_proxy_that_refuses_get(
    monkeypatch: pytest.MonkeyPatch, how: str, status: int, protocol: Protocol
) -> None:
    """aiohttp asks for ws:// with GET: refused, it says at once what would work, in words."""
    answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
    async with RawServer(answering(answer)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        url = "http://upstream.example:8080/graphql"
        if how == "the setting":
            context: Any = client_of(
                url, "aiohttp", settings={"proxy": f"http://127.0.0.1:{proxy.port}"}, connect_attempts=4
            )
        else:
            context = _trusting(url, "aiohttp" if how == "trust_env" else "given")
        async with context as client:
            with pytest.raises(HTTPStatusError, match="wss://") as caught:
                await client.subscribe(COUNT, protocols=protocol)
        assert len(proxy.peers) == 1
    assert caught.value.status == status
    assert 'backend="httpx"' in str(caught.value)
    assert caught.value.attempts == 1


async def test_ws_over_a_proxy_that_hangs_up() -> None:
    """Some only close: tried again, and told with the same words."""
    async with RawServer(answering(b"")) as proxy:
        settings = {"proxy": f"http://127.0.0.1:{proxy.port}"}
        async with client_of(
            "http://upstream.example/graphql", "aiohttp", settings=settings, connect_attempts=2
        ) as client:
            with pytest.raises(TransportError, match="after 2 attempts") as caught:
                await client.subscribe(COUNT)
    assert "wss://" in str(caught.value)
    assert 'backend="httpx"' in str(caught.value)


async def test_ws_over_a_proxy_that_passes_it_on(
    counting: ScriptedServer, proxy: RawServer, backend: Backend, protocol: Protocol
) -> None:
    """Where a proxy does pass upgrades on, it works on both libraries."""
    settings = {"proxy": f"http://127.0.0.1:{proxy.port}"}
    async with (
        client_of(counting.url, backend, settings=settings) as client,
        Follower(client, "stream", protocol) as follower,
    ):
        await follower.came()
        proxy.peers[0].writer.transport.abort()
        await follower.went_on()
    assert _lines(proxy) == {"CONNECT" if backend == "httpx" else "GET"}


@pytest.mark.parametrize("kind", ["aiohttp", "httpx"])
async def test_a_proxy_that_wants_to_know_who_asks(kind: Backend) -> None:
    """A 407 speaks of the credentials for the proxy, asked by CONNECT or by GET; it is final."""
    head = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with (
        RawServer(answering(head)) as proxy,
        client_of(
            "ws://127.0.0.1:1/graphql", kind, settings={"proxy": f"http://127.0.0.1:{proxy.port}"}
        ) as client,
    ):
        error = await Follower(client, "stream").end()
    assert isinstance(error, TransportError | HTTPStatusError)
    assert "Check the user and the password for the proxy." in str(error)
    assert len(proxy.peers) == 1


@pytest.mark.parametrize("kind", ["aiohttp", "httpx"])
async def test_no_tls_through_a_tunnel_is_no_noise(
    server: ScriptedServer, proxy: RawServer, kind: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """What the tunnel leads to speaks no TLS: the caller is told, and asyncio's log is not."""
    async with client_of(
        f"wss://127.0.0.1:{server.port}/graphql", kind, settings={"proxy": f"http://127.0.0.1:{proxy.port}"}
    ) as client:
        error = await Follower(client, "stream").end()
    assert "did not agree on TLS" in str(error)
    assert not [record for record in caplog.records if record.name == "asyncio"]
