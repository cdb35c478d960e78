"""How our own sessions reach the server: TLS, proxies, the environment, sizes, and connections that age."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import os
import shutil
import ssl
import subprocess
import tracemalloc
from typing import TYPE_CHECKING, Any, Literal

import pytest
import trustme
from aiographql.client import GraphQLClientException
from cryptography.hazmat.primitives import serialization

from graphql_prod import (
    ConfigurationError,
    HTTPStatusError,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    TransportError,
)
from graphql_prod._version import __version__
from graphql_prod.sessions.policy import MAX_RESPONSE_BYTES
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

Backend = Literal["aiohttp", "httpx"]

HELLO = {"hello": "Hello, world!"}
INCREMENT = "mutation Add { increment }"
SECRET = "s3cr3t"
MIB = 1024 * 1024


def client_of(url: str, backend: Backend | None = None, **settings: Any) -> ProductionClient:
    """A client of these settings, that does not validate."""
    return ProductionClient.from_config({"endpoint": url, "backend": backend, **settings}, validate=False)


class Files:
    """A private authority, and what it issued, as PEM files."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.issued = self.authority.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.ECDSA)
        other = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.ca = folder / "ca.pem"
        self.other_ca = folder / "other-ca.pem"
        self.both = folder / "both.pem"
        self.cert = folder / "cert.pem"
        self.key = folder / "key.pem"
        self.other_key = folder / "other-key.pem"
        self.encrypted = folder / "encrypted.pem"
        self.no_pem = folder / "no.pem"
        self.gone = folder / "gone.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        other.cert_pem.write_to_path(self.other_ca)
        self.issued.private_key_and_cert_chain_pem.write_to_path(self.both)
        self.issued.cert_chain_pems[0].write_to_path(self.cert)
        self.issued.private_key_pem.write_to_path(self.key)
        other.private_key_pem.write_to_path(self.other_key)
        key = serialization.load_pem_private_key(self.issued.private_key_pem.bytes(), None)
        self.encrypted.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"pass"),
            )
        )
        self.no_pem.write_text("no certificate")

    def server_context(self, *, client_certificates: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.issued.configure_cert(context)
        if client_certificates:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Certificates."""
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def secure(files: Files) -> AsyncIterator[ScriptedServer]:
    """A server whose certificate only the private authority vouches for."""
    async with ScriptedServer(ssl_context=files.server_context()) as server:
        yield server


class TestTls:
    async def test_private_authority(self, secure: ScriptedServer, files: Files, backend: Backend) -> None:
        """``tls.ca_file`` is trusted, for calls and for subscriptions."""
        got: asyncio.Queue[Any] = asyncio.Queue()

        async def on_data(event: Any) -> None:
            got.put_nowait(event.payload.data)

        async with client_of(secure.url, backend, tls={"ca_file": str(files.ca)}) as client:
            assert (await client.query("{ hello }")).data == HELLO
            subscription = await client.subscribe("subscription { count(to: 0) }", on_data=on_data)
            assert await asyncio.wait_for(got.get(), 5) == {"count": 0}
            await subscription.unsubscribe_and_wait()

    @pytest.mark.parametrize("trust", ["other_ca", None], ids=["another", "system"])
    async def test_not_trusted(
        self, secure: ScriptedServer, files: Files, backend: Backend, trust: str | None
    ) -> None:
        """Any other authority is a certificate error at once: nothing was sent, nothing is tried again."""
        tls = {"ca_file": getattr(files, trust)} if trust else {}
        async with client_of(secure.url, backend, tls=tls) as client:
            with pytest.raises(TransportError, match="certificate that is not trusted") as caught:
                await client.query(INCREMENT)
        assert (caught.value.attempts, caught.value.may_have_executed) == (1, False)
        assert secure.requests == []

    @pytest.mark.parametrize("one_file", [True, False])
    async def test_client_certificate(self, files: Files, one_file: bool) -> None:
        """A server that requires a certificate gets ours, from one file or two; without one it refuses."""
        own = {"cert_file": files.both} if one_file else {"cert_file": files.cert, "key_file": files.key}
        async with ScriptedServer(ssl_context=files.server_context(client_certificates=True)) as server:
            async with client_of(server.url, tls={"ca_file": files.ca, **own}) as client:
                assert (await client.query("{ hello }")).data == HELLO
            retry = RetryPolicy(attempts=1)
            async with client_of(server.url, tls={"ca_file": files.ca}, retry=retry) as client:
                with pytest.raises(TransportError):
                    await client.query("{ hello }")
            assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("tls", "key"),
        [
            ({"ca_file": "gone"}, "ca_file"),
            ({"ca_file": "no_pem"}, "ca_file"),
            ({"ca_file": "key"}, "ca_file"),
            ({"cert_file": "gone"}, "cert_file"),
            ({"cert_file": "no_pem"}, "cert_file"),
            ({"cert_file": "cert"}, "cert_file"),
            ({"key_file": "key"}, "key_file"),
            ({"cert_file": "cert", "key_file": "gone"}, "cert_file, key_file"),
            ({"cert_file": "cert", "key_file": "other_key"}, "cert_file, key_file"),
            ({"cert_file": "cert", "key_file": "encrypted"}, "cert_file, key_file"),
        ],
    )
    def test_wrong_files(self, files: Files, tmp_path: Path, tls: dict[str, str], key: str) -> None:
        """Files that cannot work are told when the client is made: the setting, its source, the file."""
        paths = {name: str(getattr(files, file)) for name, file in tls.items()}
        path = tmp_path / "client.toml"
        lines = [f'{name} = "{file}"' for name, file in paths.items()]
        path.write_text("\n".join(['endpoint = "https://h/graphql"', 'method = "put"', "[tls]", *lines]))
        with pytest.raises(ConfigurationError) as caught:
            ProductionClient.from_config(path)
        found = {problem.key: problem for problem in caught.value.problems}
        assert set(found) == {f"tls.{key}", "method"}
        assert len(caught.value.problems) == 2
        assert found[f"tls.{key}"].source == str(path)
        assert key == "key_file" or all(file in found[f"tls.{key}"].message for file in paths.values())
        with pytest.raises(ConfigurationError):
            ProductionConfig(tls=paths)


def start_tinyproxy(folder: Path, port: int, credentials: str = "") -> subprocess.Popen[bytes]:
    """A real proxy, as an unprivileged process in a folder of its own."""
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 10", "Allow 127.0.0.1", "MaxClients 10"]
    lines += ["LogLevel Connect", f'LogFile "{folder}/proxy.log"', credentials]
    (folder / "proxy.conf").write_text("\n".join(lines) + "\n")
    who = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    if who:
        for parent in (folder, *folder.parents):
            if parent.owner() == "root" and "pytest-" in str(parent):
                parent.chmod(0o755)
        folder.chmod(0o777)
    program = shutil.which("tinyproxy")
    assert program is not None
    options: dict[str, Any] = who
    return subprocess.Popen(
        [program, "-d", "-c", str(folder / "proxy.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )


@contextlib.asynccontextmanager
async def tinyproxy(folder: Path, port: int, credentials: str = "") -> AsyncIterator[Callable[[], str]]:
    """The proxy while it accepts connections; gives its log."""
    if shutil.which("tinyproxy") is None:
        reason = "needs the program tinyproxy (apt-get install tinyproxy)"
        (pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip)(reason)
    process = start_tinyproxy(folder, port, credentials)
    try:
        async with asyncio.timeout(10):
            while True:
                assert process.poll() is None, "tinyproxy ended"
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    await writer.wait_closed()
                    break
                await asyncio.sleep(0.01)
        yield lambda: (folder / "proxy.log").read_text(errors="replace")
    finally:
        process.kill()
        process.wait(10)


class TestProxy:
    @pytest.mark.parametrize(
        ("target", "credentials"), [("http", False), ("http", True), ("https", True)], ids=str
    )
    async def test_through_a_real_one(
        self,
        files: Files,
        tmp_path: Path,
        unused_tcp_port: int,
        backend: Backend,
        target: str,
        credentials: bool,
    ) -> None:
        """Calls go through the proxy, HTTPS ones in a tunnel, with the credentials of its URL."""
        context = files.server_context() if target == "https" else None
        login = f"user:{SECRET}@" if credentials else ""
        settings: dict[str, Any] = {"proxy": f"http://{login}127.0.0.1:{unused_tcp_port}"}
        settings["tls"] = {"ca_file": files.ca}
        async with (
            tinyproxy(tmp_path, unused_tcp_port, f"BasicAuth user {SECRET}" if credentials else "") as log,
            ScriptedServer(ssl_context=context) as server,
        ):
            async with client_of(server.url, backend, **settings) as client:
                assert (await client.query("{ hello }")).data == HELLO
                assert (await client.query("{ hello }")).data == HELLO
            said = log()
            assert ("CONNECT 127.0.0.1" if target == "https" else "POST http://127.0.0.1") in said
            assert len(server.requests) == 2
            assert SECRET not in str(server.requests[0].headers)
            if credentials:
                await refused_without_login(server, unused_tcp_port, backend, files)

    @pytest.mark.parametrize("target", ["http", "https"])
    async def test_down(self, backend: Backend, unused_tcp_port: int, target: str) -> None:
        """A proxy that is not there is a TransportError; nothing was sent, and it is tried again."""
        proxy = f"http://user:{SECRET}@127.0.0.1:{unused_tcp_port}"
        with no_waiting():
            async with client_of(f"{target}://127.0.0.1:9/graphql", backend, proxy=proxy) as client:
                with pytest.raises(TransportError, match="proxy") as caught:
                    await client.query(INCREMENT)
        assert (caught.value.attempts, caught.value.may_have_executed) == (4, False)
        assert SECRET not in f"{caught.value} {caught.value!r}"

    @pytest.mark.parametrize(
        "proxy",
        ["socks5://u:{}@h:1", "h:3128", "http://u:{}@h:port", "http://u:{}@:80", "http://u:{} @h", ""],
    )
    def test_bad_url(self, proxy: str) -> None:
        """A proxy's URL that cannot work is told when the client is made, without its password."""
        with pytest.raises(ConfigurationError) as caught:
            client_of("http://h/graphql", proxy=proxy.format(SECRET))
        assert [problem.key for problem in caught.value.problems] == ["proxy"]
        assert SECRET not in f"{caught.value} {caught.value!r}"

    @pytest.mark.parametrize("trust_env", [False, True])
    async def test_environment(
        self, server: ScriptedServer, backend: Backend, trust_env: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """HTTP_PROXY counts only with ``trust_env``."""
        async with ScriptedServer() as proxy:
            proxy.always(Answer.page(418))
            for name in ("HTTP_PROXY", "http_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.delenv(name, raising=False)
            async with client_of(server.url, backend, trust_env=trust_env) as client:
                if trust_env:
                    with pytest.raises(HTTPStatusError):
                        await client.query("{ hello }")
                else:
                    assert (await client.query("{ hello }")).data == HELLO
            assert (len(proxy.requests), len(server.requests)) == (int(trust_env), int(not trust_env))


async def refused_without_login(server: ScriptedServer, port: int, backend: Backend, files: Files) -> None:
    """The proxy asks for the credentials; without them the call fails, once, and reaches nobody."""
    proxy = f"http://127.0.0.1:{port}"
    before = len(server.requests)
    async with client_of(server.url, backend, proxy=proxy, tls={"ca_file": files.ca}) as client:
        with pytest.raises(GraphQLClientException) as caught:
            await client.query("{ hello }")
    assert getattr(caught.value, "attempts", None) == 1
    assert len(server.requests) == before


def padded(size: int) -> bytes:
    """A GraphQL answer of so many bytes."""
    frame = b'{"data":{"hello":"%s"}}'
    return frame % (b"x" * (size - len(frame) + 2))


class TestSize:
    LIMIT = MIB

    @pytest.mark.parametrize("zipped", [False, True])
    @pytest.mark.parametrize("over", [0, 1])
    async def test_limit(self, server: ScriptedServer, backend: Backend, zipped: bool, over: int) -> None:
        """A body of exactly ``max_response_bytes``, after decompression, passes; one byte more does not."""
        body = padded(self.LIMIT + over)
        headers = {"Content-Encoding": "gzip"} if zipped else {}
        answer = gzip.compress(body) if zipped else body
        server.always(Answer(status=200, body=answer, media_type="application/json", headers=headers))
        async with client_of(server.url, backend, max_response_bytes=self.LIMIT) as client:
            if not over:
                assert (await client.query("{ hello }")).data
                return
            with pytest.raises(TransportError, match="max_response_bytes") as caught:
                await client.query("{ hello }")
            with pytest.raises(TransportError) as changed:
                await client.query(INCREMENT)
        assert (caught.value.attempts, caught.value.may_have_executed) == (1, False)
        assert (changed.value.attempts, changed.value.may_have_executed) == (1, True)

    async def test_chunked(self, server: ScriptedServer, backend: Backend) -> None:
        """A body whose length is not announced is counted as it comes."""
        server.always(Answer.drip(64 * 1024, 0, body=padded(self.LIMIT + 1)))
        async with client_of(server.url, backend, max_response_bytes=self.LIMIT) as client:
            with pytest.raises(TransportError, match="max_response_bytes"):
                await client.query("{ hello }")

    async def test_error_pages(self, server: ScriptedServer, backend: Backend) -> None:
        """It holds for error pages too."""
        server.always(Answer.page(404, "x" * (self.LIMIT + 1)))
        async with client_of(server.url, backend, max_response_bytes=self.LIMIT) as client:
            with pytest.raises(TransportError, match="max_response_bytes"):
                await client.query("{ hello }")

    async def test_no_limit(self, server: ScriptedServer) -> None:
        """The default is 64 MiB; None is no limit."""
        assert ProductionConfig().max_response_bytes == MAX_RESPONSE_BYTES == 64 * MIB
        body = padded(MAX_RESPONSE_BYTES + 1)
        zipped = gzip.compress(body, 1)
        headers = {"Content-Encoding": "gzip"}
        server.always(Answer(status=200, body=zipped, media_type="application/json", headers=headers))
        async with client_of(server.url, max_response_bytes=None) as client:
            assert len((await client.query("{ hello }")).data["hello"]) > 64 * MIB - 100
        async with client_of(server.url) as client:
            with pytest.raises(TransportError, match="max_response_bytes"):
                await client.query("{ hello }")

    async def test_bomb(self, server: ScriptedServer, backend: Backend) -> None:
        """A small body that grows a thousandfold is stopped early: memory stays near the limit."""
        bomb = gzip.compress(b"0" * 100 * MIB, 6)
        assert len(bomb) < MIB / 5
        headers = {"Content-Encoding": "gzip"}
        server.always(Answer(status=200, body=bomb, media_type="application/json", headers=headers))
        async with client_of(server.url, backend, max_response_bytes=self.LIMIT) as client:
            tracemalloc.start()
            try:
                with pytest.raises(TransportError, match="max_response_bytes"):
                    await client.query("{ hello }")
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert peak < 8 * MIB, f"{peak / MIB:.0f} MiB"


class TestAge:
    AGE = 0.05

    def client(self, url: str, backend: Backend, age: float = AGE) -> ProductionClient:
        return client_of(url, backend, pool=PoolPolicy(max_age=age))

    async def test_renewed(self, server: ScriptedServer, backend: Backend) -> None:
        """Connections older than ``max_age`` are not used again, and are closed."""
        async with (
            FaultyProxy(server.port) as proxy,
            self.client(proxy.url_for("/graphql"), backend) as client,
        ):
            async with asyncio.timeout(5):
                while server.connections < 4:
                    assert (await client.query("{ hello }")).data == HELLO
                    await asyncio.sleep(0.005)
                while proxy.open > 1:
                    await asyncio.sleep(0.005)
        peers = [request.peer for request in server.requests]
        assert len(peers) > len(set(peers)) >= 4
        assert [a for a, b in itertools.pairwise(peers) if a != b] == list(dict.fromkeys(peers))[:-1]

    async def test_calls_under_way(self, server: ScriptedServer, backend: Backend) -> None:
        """A call under way on an old connection finishes there, while new ones go over a new one."""
        gate = asyncio.Event()
        server.on("Slow", Answer(gate=gate))
        async with self.client(server.url, backend) as client:
            slow = asyncio.create_task(client.query("query Slow { hello }"))
            await server.received(1)
            await asyncio.sleep(self.AGE)
            assert (await client.query("{ hello }")).data == HELLO
            gate.set()
            assert (await slow).data == HELLO
        assert len({request.peer for request in server.requests}) == 2

    @pytest.mark.parametrize("graceful", [True, False])
    async def test_close_while_retiring(
        self, server: ScriptedServer, backend: Backend, graceful: bool
    ) -> None:
        """Closing while an old session waits for its last call leaves nothing open."""
        gate = asyncio.Event()
        server.on("Slow", Answer(gate=gate))
        async with FaultyProxy(server.port) as proxy:
            client = self.client(proxy.url_for("/graphql"), backend)
            slow = asyncio.create_task(client.query("query Slow { hello }"))
            await server.received(1)
            await asyncio.sleep(self.AGE)
            await client.query("{ hello }")
            if graceful:
                closing = asyncio.create_task(client.close())
                while client.state == "open":
                    await asyncio.sleep(0)
                gate.set()
                await closing
                assert (await slow).data == HELLO
            else:
                with pytest.raises(ZeroDivisionError):
                    async with client:
                        raise ZeroDivisionError
                with pytest.raises(GraphQLClientException):
                    await slow
            await proxy.connections(0)

    async def test_subscription_keeps_its_session(self, server: ScriptedServer, backend: Backend) -> None:
        """A subscription lives on its old session for as long as it wants to; closing ends both."""
        got: asyncio.Queue[int] = asyncio.Queue()

        async def on_data(event: Any) -> None:
            got.put_nowait(event.payload.data["count"])

        server.tick = 0.01
        async with self.client(server.url, backend) as client:
            subscription = await client.subscribe("subscription { count }", on_data=on_data)
            assert await asyncio.wait_for(got.get(), 5) == 0
            for _ in range(3):
                await asyncio.sleep(self.AGE)
                assert (await client.query("{ hello }")).data == HELLO
            assert len({request.peer for request in server.requests}) == 3
            last = got.qsize()
            for number in range(1, last + 5):
                assert await asyncio.wait_for(got.get(), 5) == number
            assert subscription.active()
            assert len(server.upgrades) == 1
        await server.socket_count(0)


async def test_user_agent(server: ScriptedServer, backend: Backend) -> None:
    """Requests say who sends them: this package and the stock client, unless a header says otherwise."""
    async with client_of(server.url, backend) as client:
        await client.query("{ hello }")
        await client.query("{ hello }", headers={"user-agent": "mine"})
    sent: list[Any] = [request.headers for request in server.requests]
    (agent,) = sent[0].getall("User-Agent")
    assert agent.split() == [f"graphql_prod/{__version__}", agent.split()[1]]
    assert agent.split()[1].startswith("aiographql-client/2.")
    assert sent[1].getall("User-Agent") == ["mine"]
