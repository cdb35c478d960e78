"""The scripted server, met by a real aiohttp client over real sockets."""

import asyncio
import contextlib
import gc
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import trustme

from graphql_prod.testing import Answer, ReceivedRequest, ScriptedServer
from graphql_prod.testing.schema import SDL

RESPONSE_JSON = "application/graphql-response+json"
MODERN = "graphql-transport-ws"
LEGACY = "graphql-ws"
INCREMENT = "mutation Add { increment }"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


async def post(
    http: aiohttp.ClientSession,
    server: ScriptedServer,
    query: str = "{ hello }",
    accept: str = RESPONSE_JSON,
    **more: Any,
) -> tuple[int, str, Any]:
    body = {"query": query, **more}
    async with http.post(server.url, json=body, headers={"Accept": accept}) as answer:
        return answer.status, answer.content_type, json.loads(await answer.read())


async def send(http: aiohttp.ClientSession, server: ScriptedServer, query: str) -> bytes:
    async with http.post(server.url, json={"query": query}) as answer:
        return await answer.read()


async def drain(raw: socket.socket, into: bytearray) -> None:
    while data := await asyncio.get_running_loop().sock_recv(raw, 65536):
        into += data


async def bytes_until_reset(server: ScriptedServer, request: bytes) -> bytes:
    loop, got = asyncio.get_running_loop(), bytearray()
    with socket.create_connection((server.host, server.port)) as raw:
        raw.setblocking(False)
        await loop.sock_sendall(raw, request)
        with pytest.raises(ConnectionResetError):
            await drain(raw, got)
    return bytes(got)


def tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks()


def sockets_of_this_process() -> int:
    gc.collect()
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    found = 0
    for link in links:
        with contextlib.suppress(OSError):
            found += os.readlink(link).startswith("socket:")
    return found


class TestSchema:
    @pytest.mark.parametrize(
        ("query", "data"),
        [
            ("{ hello }", {"hello": "Hello, world!"}),
            ('{ hello(name: "you") }', {"hello": "Hello, you!"}),
            ("{ echo }", {"echo": None}),
            ('{ echo(value: "é") }', {"echo": "é"}),
            ("{ counter }", {"counter": 0}),
            ("{ slow(seconds: 0) }", {"slow": True}),
            ("mutation { increment(by: 3) }", {"increment": 3}),
            ("mutation { a: increment b: increment }", {"a": 1, "b": 2}),
        ],
    )
    async def test_fields(
        self, server: ScriptedServer, http: aiohttp.ClientSession, query: str, data: Any
    ) -> None:
        """Without a script every operation is really executed."""
        assert await post(http, server, query) == (200, RESPONSE_JSON, {"data": data})

    async def test_partial(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A nullable field that fails leaves the rest of the data."""
        query = '{ hello fail(message: "no", code: "X") }'
        status, _, body = await post(http, server, query)
        assert (status, body["data"]) == (200, {"hello": "Hello, world!", "fail": None})
        assert body["errors"][0]["message"] == "no"
        assert body["errors"][0]["extensions"] == {"code": "X"}

    async def test_hard(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A non-null field that fails takes all the data with it, under a 200."""
        status, _, body = await post(http, server, '{ failHard(code: "X") }')
        assert (status, body["data"]) == (200, None)

    async def test_introspection(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """The schema can be asked for."""
        query = "{ __schema { types { name } } }"
        _, _, body = await post(http, server, query)
        names = {kind["name"] for kind in body["data"]["__schema"]["types"]}
        assert {"Query", "Mutation", "Subscription"} <= names
        assert "failHard" in SDL


class TestOverHTTP:
    @pytest.mark.parametrize(
        ("accept", "media_type"),
        [
            (RESPONSE_JSON, RESPONSE_JSON),
            ("application/json", "application/json"),
            ("*/*", RESPONSE_JSON),
            (f"{RESPONSE_JSON}, application/json", RESPONSE_JSON),
            (f"{RESPONSE_JSON};q=0.5, application/json", "application/json"),
        ],
    )
    async def test_negotiation(
        self, server: ScriptedServer, http: aiohttp.ClientSession, accept: str, media_type: str
    ) -> None:
        """The answer comes in the media type that the client likes best."""
        assert (await post(http, server, accept=accept))[1] == media_type

    @pytest.mark.parametrize("query", ["{", "{ nothing }", "query ($a: Int!) { echo }"])
    async def test_refused(self, server: ScriptedServer, http: aiohttp.ClientSession, query: str) -> None:
        """A request error is a 400 for those who know the new media type, else a 200."""
        status, _, body = await post(http, server, query)
        assert (status, "data" in body) == (400, False)
        status, _, body = await post(http, server, query, accept="application/json")
        assert (status, "data" in body) == (200, False)
        assert server.executions.total() == 0

    async def test_get(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A query may come as a GET; a mutation over GET is a 405 and does not run."""
        query = "query Q($v: String) { echo(value: $v) }"
        params = {"query": query, "variables": '{"v": "x"}', "operationName": "Q"}
        async with http.get(server.url, params=params) as answer:
            assert await answer.json(content_type=None) == {"data": {"echo": "x"}}
        async with http.get(server.url, params={"query": INCREMENT}) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert server.executions == {"echo": 1}
        assert server.requests[0].variables == {"v": "x"}

    @pytest.mark.parametrize(
        ("kind", "body", "status"),
        [
            ("application/json", b"{", 400),
            ("application/json", b"[]", 400),
            ("application/json", b"{}", 400),
            ("application/json", b'{"query": "{ hello }", "variables": []}', 400),
            ("text/plain", b"{ hello }", 415),
        ],
    )
    async def test_no_graphql(
        self,
        server: ScriptedServer,
        http: aiohttp.ClientSession,
        kind: str,
        body: bytes,
        status: int,
    ) -> None:
        """What is no GraphQL request is recorded and refused."""
        async with http.post(server.url, data=body, headers={"Content-Type": kind}) as answer:
            assert answer.status == status
        assert (server.requests[0].body, server.requests[0].query) == (body, None)

    async def test_not_acceptable(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A client that takes no JSON gets a 406."""
        assert (await post(http, server, accept="text/html;q=x, image/png"))[0] == 406

    async def test_other_path(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Other paths are not found, other methods not allowed, and both are recorded."""
        async with http.post(server.url + "/x", json={"query": INCREMENT}) as answer:
            assert answer.status == 404
        async with http.put(server.url) as answer:
            assert answer.status == 405
        assert [r.path for r in server.requests] == ["/graphql/x", "/graphql"]
        assert not server.executions

    async def test_tls(self, http: aiohttp.ClientSession) -> None:
        """With an ssl_context it speaks TLS, on both endpoints."""
        authority = trustme.CA()
        theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(theirs)
        ours = ssl.create_default_context()
        authority.configure_trust(ours)
        async with ScriptedServer(ssl_context=theirs) as server:
            async with http.post(server.url, json={"query": "{ hello }"}, ssl=ours) as answer:
                assert answer.status == 200
            async with http.ws_connect(server.ws_url, protocols=[MODERN], ssl=ours) as ws:
                await ws.send_json({"type": "connection_init"})
                assert await ws.receive_json() == {"type": "connection_ack"}
            server.script(Answer.reset())
            with pytest.raises(aiohttp.ClientConnectionError):
                await http.post(server.url, json={"query": "{ hello }"}, ssl=ours)


class TestScript:
    async def test_queue(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Each request takes one answer; afterwards requests are executed again."""
        server.script(Answer.graphql(503, errors=["busy"]), Answer.graphql(data={"hello": "x"}))
        assert server.unused == 2
        assert (await post(http, server))[0] == 503
        assert (await post(http, server))[2] == {"data": {"hello": "x"}}
        assert (await post(http, server))[2] == {"data": {"hello": "Hello, world!"}}
        assert (server.executions["hello"], server.unused) == (1, 0)

    async def test_by_operation(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Answers for an operation come first, and the document's own name counts too."""
        server.script(Answer.graphql(data={"from": "queue"}))
        server.on("Add", Answer.graphql(data={"from": "add"}))
        server.always(Answer.graphql(data={"from": "always"}))
        server.always(Answer.graphql(data={"from": "always add"}), "Add")
        bodies = [(await post(http, server, q))[2] for q in (INCREMENT, INCREMENT, INCREMENT)]
        assert [b["data"]["from"] for b in bodies] == ["add", "queue", "always add"]
        assert (await post(http, server))[2]["data"] == {"from": "always"}
        server.always(None)
        assert (await post(http, server))[2]["data"] == {"hello": "Hello, world!"}

    async def test_real_result_in_disguise(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Without a body the real result travels under the given status and media type."""
        server.script(Answer(status=294, media_type="text/plain", headers={"X-A": "1"}), Answer())
        async with http.post(server.url, json={"query": "{ hello }"}) as answer:
            assert (answer.status, answer.content_type, answer.headers["X-A"]) == (
                294,
                "text/plain",
                "1",
            )
        assert (await post(http, server, "{"))[0] == 400

    @pytest.mark.parametrize(
        ("answer", "status", "media_type"),
        [
            (Answer(body={"a": 1}), 200, "application/json"),
            (Answer(body="a"), 200, "text/plain"),
            (Answer(body=b"a"), 200, "application/octet-stream"),
            (Answer.page(), 502, "text/html"),
            (Answer.login_page(), 200, "text/html"),
            (Answer.redirect("/x", headers={"X-A": "1"}), 302, "application/octet-stream"),
        ],
    )
    async def test_bodies(
        self,
        server: ScriptedServer,
        http: aiohttp.ClientSession,
        answer: Answer,
        status: int,
        media_type: str,
    ) -> None:
        """A body given here is sent as it is, and nothing is executed."""
        server.script(answer)
        async with http.post(server.url, json={"query": INCREMENT}, allow_redirects=False) as got:
            assert (got.status, got.content_type) == (status, media_type)
        assert not server.executions

    async def test_lost_answer_counts(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """An execution counts even when its answer is lost; without `execute` there is none."""
        server.script(Answer.reset(execute=True), Answer.page(execute=True), Answer.reset())
        with pytest.raises(aiohttp.ClientConnectionError):
            await send(http, server, INCREMENT)
        await send(http, server, INCREMENT)
        with pytest.raises(aiohttp.ClientConnectionError):
            await send(http, server, INCREMENT)
        assert (server.executions["increment"], server.counter) == (2, 2)

    @pytest.mark.parametrize(
        ("when", "parts"),
        [("before", [b""]), ("headers", [b"200 OK", b""]), ("body", [b"200 OK", b"12345"])],
    )
    async def test_reset_is_a_reset(self, server: ScriptedServer, when: Any, parts: list[bytes]) -> None:
        """A reset is an ECONNRESET on the client's socket, after just the bytes it should be."""
        server.script(Answer.reset(when, body="1234567890"))
        got = await bytes_until_reset(server, b"GET /graphql HTTP/1.1\r\nHost: x\r\n\r\n")
        head, *body = got.split(b"\r\n\r\n")
        assert parts[0] in head
        assert body == parts[1:]
        assert bool(head) == (when != "before")

    @pytest.mark.parametrize("when", ["headers", "body"])
    async def test_reset_later(self, server: ScriptedServer, http: aiohttp.ClientSession, when: Any) -> None:
        """For an HTTP client a later reset is a status and then a broken body."""
        server.script(Answer.reset(when))
        async with http.post(server.url, json={"query": "{ hello }"}) as answer:
            assert answer.status == 200
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
                await answer.read()

    async def test_disconnect(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A disconnect is a clean close without an answer."""
        server.script(Answer.disconnect())
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await send(http, server, "{ hello }")

    async def test_truncated(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A truncated body announces its whole length and stops short."""
        server.script(Answer.truncated(7))
        async with http.post(server.url, json={"query": "{ hello }"}) as answer:
            assert int(answer.headers["Content-Length"]) > 7
            assert await answer.content.readexactly(7) == b'{"data"'
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()

    async def test_drip(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A dripping body comes in pieces, and whole in the end."""
        server.script(Answer.drip(2, 0.002, body="abcde"))
        async with http.post(server.url, json={"query": "{ hello }"}) as answer:
            pieces = [piece async for piece, _ in answer.content.iter_chunks()]
        assert (len(pieces), b"".join(pieces)) == (3, b"abcde")
        with pytest.raises(ValueError, match="at least 1 byte"):
            Answer.drip(0)

    async def test_garbage(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Garbage is no HTTP."""
        server.script(Answer.garbage())
        with pytest.raises(aiohttp.ClientResponseError):
            await send(http, server, "{ hello }")

    async def test_on_request(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """What is asked first decides: its answer comes before scripts, and None lets a request pass."""
        asked: list[ReceivedRequest] = []

        def verdict(request: ReceivedRequest) -> Answer | None:
            asked.append(request)
            return Answer(status=401, body=b"") if len(asked) == 1 else None

        server.on_request = verdict
        server.script(Answer.page(503))
        statuses = []
        for _ in range(3):
            async with http.post(server.url, json={"query": "{ hello }"}) as answer:
                statuses.append(answer.status)
        assert statuses == [401, 503, 200]
        assert asked == server.requests

    async def test_gate(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A gated answer is executed at once and sent when the test says so."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        call = asyncio.create_task(send(http, server, INCREMENT))
        await server.executed("increment", 1)
        assert not call.done()
        gate.set()
        assert json.loads(await call) == {"data": {"increment": 1}}

    async def test_delay(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A delayed answer comes no earlier than that."""
        server.script(Answer(delay=0.05))
        start = asyncio.get_running_loop().time()
        await send(http, server, "{ hello }")
        assert asyncio.get_running_loop().time() - start >= 0.05

    async def test_close_header(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """`Connection: close` closes; otherwise the connection is kept, as peers show."""
        server.script(Answer(), Answer(headers={"Connection": "close"}), Answer())
        for _ in range(3):
            await send(http, server, "{ hello }")
        first, second, third = (request.peer for request in server.requests)
        assert first == second != third
        assert server.connections == 2


class TestFacts:
    async def test_request(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A request is recorded with everything it said."""
        await post(
            http,
            server,
            "query A { hello }",
            operationName="A",
            variables={"a": 1},
            extensions={"b": 2},
        )
        (request,) = await server.received(1)
        assert (request.method, request.path, request.operation_name) == ("POST", "/graphql", "A")
        assert (request.variables, request.extensions) == ({"a": 1}, {"b": 2})
        assert request.headers["aCCEPT"] == RESPONSE_JSON
        assert json.loads(request.body)["query"] == request.query == "query A { hello }"
        assert request.peer[0] == "127.0.0.1"

    async def test_late(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A fact that does not come true fails with a readable list of those that did."""
        await send(http, server, "{ hello }")
        with pytest.raises(AssertionError, match=r"2 requests, came 1:\n  1\. POST /graphql"):
            await server.received(2, timeout=0.01)
        with pytest.raises(AssertionError, match=r"what ran: \{'hello': 1\}"):
            await server.executed("increment", 1, timeout=0.01)
        with pytest.raises(AssertionError, match=r"0\.01 s in vain for the moon"):
            await server.until(lambda: False, "the moon", 0.01)

    async def test_abandoned(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A request whose client leaves before the answer is a fact."""
        server.script(Answer.hang(execute=True), Answer.reset(), Answer(gate=asyncio.Event()))
        call = asyncio.create_task(send(http, server, INCREMENT))
        await server.executed("increment", 1)
        call.cancel()
        assert [r.query for r in await server.abandoned(1)] == [INCREMENT]
        with pytest.raises(aiohttp.ClientConnectionError):
            await send(http, server, "{ hello }")
        call = asyncio.create_task(send(http, server, "{ counter }"))
        await server.received(3)
        call.cancel()
        assert [r.query for r in await server.abandoned(2)] == [INCREMENT, "{ counter }"]


class TestLife:
    async def test_again_on_the_same_port(self, http: aiohttp.ClientSession) -> None:
        """A stopped server refuses; started again it has its port, facts and scripts."""
        server = ScriptedServer()
        async with server:
            port = server.port
            await send(http, server, "{ hello }")
            server.script(Answer.page(418))
            await server.stop()
            await server.stop()
            with pytest.raises(aiohttp.ClientConnectorError):
                await send(http, server, "{ hello }")
            await server.start()
            await server.start()
            assert (server.port, server.running) == (port, True)
            assert await send(http, server, "{ hello }") == b"<html><body><h1>418</h1></body></html>"
            assert (len(server.requests), server.connections) == (2, 2)

    async def test_stop_ends_everything(self, http: aiohttp.ClientSession) -> None:
        """A stop ends hanging handlers and sockets at once; no task, no socket stays."""
        tasks_before, sockets_before = tasks(), sockets_of_this_process()
        server = ScriptedServer()
        await server.start()
        server.always(Answer.hang())
        calls = [asyncio.create_task(send(http, server, "{ hello }")) for _ in range(5)]
        ws = await http.ws_connect(server.ws_url, protocols=[MODERN])
        await begin(ws)
        await ws.send_json(start("1", "subscription { count }"))
        await server.subscribed(1)
        idle = socket.create_connection((server.host, server.port))
        await server.until(lambda: server.connections == 7)
        await server.received(5)
        async with asyncio.timeout(1):
            await server.stop()
        assert not server.sockets
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(o, aiohttp.ClientConnectionError) for o in outcomes)
        await ws.close()
        idle.close()
        await http.close()
        assert tasks() <= tasks_before
        assert sockets_of_this_process() <= sockets_before

    async def test_answers_do_not_leak(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Every fault leaves the server without a task and without a connection."""
        faults = [Answer.reset(w) for w in ("before", "headers", "body")]
        before = tasks()
        server.script(*faults, Answer.disconnect(), Answer.truncated(), Answer.garbage())
        while server.unused:
            with contextlib.suppress(aiohttp.ClientError):
                await send(http, server, INCREMENT)
        await http.close()
        await server.stop()
        assert tasks() <= before


async def begin(ws: aiohttp.ClientWebSocketResponse) -> None:
    await ws.send_json({"type": "connection_init"})
    assert (await ws.receive_json())["type"] == "connection_ack"


def start(key: str, query: str, kind: str = "subscribe", **more: Any) -> dict[str, Any]:
    return {"type": kind, "id": key, "payload": {"query": query, **more}}


async def until_closed(ws: aiohttp.ClientWebSocketResponse) -> int | None:
    async for _ in ws:
        pass
    return ws.close_code


class TestSockets:
    async def test_modern(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """graphql-transport-ws: subscribe, next, complete; the cursor is inclusive."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN, LEGACY]) as ws:
            assert ws.protocol == MODERN
            await begin(ws)
            query = "subscription C($a: Int!) { count(from: $a, to: 4) }"
            await ws.send_json(start("x", query, variables={"a": 3}, operationName="C"))
            got = [await ws.receive_json() for _ in range(3)]
        assert [m["type"] for m in got] == ["next", "next", "complete"]
        assert got[1] == {"type": "next", "id": "x", "payload": {"data": {"count": 4}}}
        assert [(e.connection, e.subscription, e.value) for e in server.events_sent] == [
            (1, "x", 3),
            (1, "x", 4),
        ]
        assert server.executions == {"count": 1}

    async def test_padding(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Events are as large as the test wants them, beside their data."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            for key, padding, more in (("1", 5, {"extensions": {"padding": "xxxxx"}}), ("2", 0, {})):
                server.padding = padding
                await ws.send_json(start(key, "subscription { count(to: 0) }"))
                assert (await ws.receive_json())["payload"] == {"data": {"count": 0}, **more}
                assert (await ws.receive_json())["type"] == "complete"

    async def test_legacy(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """graphql-ws: start, data, stop with a complete, connection_terminate."""
        async with http.ws_connect(server.ws_url, protocols=[LEGACY]) as ws:
            await begin(ws)
            await ws.send_json(start("1", "subscription { count }", "start"))
            assert (await ws.receive_json())["type"] == "data"
            await ws.send_json({"type": "stop", "id": "1"})
            async for message in ws:
                if message.json()["type"] == "complete":
                    break
            await ws.send_json(start("2", "{ nothing }", "start"))
            error = await ws.receive_json()
            assert (error["type"], error["id"]) == ("error", "2")
            assert "nothing" in error["payload"]["message"]
            await ws.send_json({"type": "connection_terminate"})
            assert await until_closed(ws) == 1000
        assert len(await server.subscribed(2)) == 2

    async def test_complete_by_client(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """After the client's complete nothing more comes for that id, and the id is free."""
        server.tick = 60
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            for _ in range(2):
                await ws.send_json(start("1", "subscription { count }"))
                assert (await ws.receive_json())["type"] == "next"
                await ws.send_json({"type": "complete", "id": "1"})
            await ws.send_json({"type": "ping", "payload": {"a": 1}})
            assert await ws.receive_json() == {"type": "pong", "payload": {"a": 1}}
            assert server.sockets[0].subscriptions == []

    async def test_queries_and_errors(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Queries and mutations run over a socket too; a request error is an error message."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            await ws.send_json(start("1", INCREMENT))
            assert (await ws.receive_json())["payload"] == {"data": {"increment": 1}}
            assert await ws.receive_json() == {"type": "complete", "id": "1"}
            for query in ("{", "subscription ($a: Int!) { count(from: $a) }"):
                await ws.send_json(start("1", query))
                error = await ws.receive_json()
                assert (error["type"], len(error["payload"])) == ("error", 1)

    @pytest.mark.parametrize(
        ("code", "messages"),
        [
            (4400, ["no JSON"]),
            (4400, ["[]"]),
            (4400, [{"type": "what"}]),
            (4400, [{"type": "connection_init", "payload": 1}]),
            (4400, [{"type": "subscribe", "payload": {"query": "{ hello }"}}]),
            (4400, [{"type": "subscribe", "id": "1", "payload": {}}]),
            (4400, [{"type": "complete"}]),
            (4401, [start("1", "{ hello }")]),
            (4429, [{"type": "connection_init"}] * 2),
        ],
    )
    async def test_violations(
        self,
        server: ScriptedServer,
        http: aiohttp.ClientSession,
        code: int,
        messages: list[Any],
    ) -> None:
        """Breaking the protocol closes the socket with the code of the reference server."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            for message in messages:
                await ws.send_str(message if isinstance(message, str) else json.dumps(message))
            assert await until_closed(ws) == code
        await server.socket_count(0)
        assert server.close_codes == {1: code}
        assert len(server.messages) == len(messages)

    async def test_taken_id(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """An id in use is a 4409; the legacy protocol replaces the running operation."""
        server.tick = 60
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            await ws.send_json(start("1", "subscription { count }"))
            await ws.send_json(start("1", "subscription { count }"))
            assert await until_closed(ws) == 4409
        async with http.ws_connect(server.ws_url, protocols=[LEGACY]) as ws:
            await begin(ws)
            for _ in range(2):
                await ws.send_json(start("1", "subscription { count }", "start"))
                assert (await ws.receive_json())["type"] == "data"
            assert server.sockets[0].subscriptions == ["1"]

    async def test_no_protocol(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Without a common subprotocol the socket closes with 4406."""
        async with http.ws_connect(server.ws_url) as ws:
            assert await until_closed(ws) == 4406

    async def test_acknowledgement(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """The acknowledgement can be late, and can stay away while the socket lives."""
        server.ack_delay = 0.05
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            began = asyncio.get_running_loop().time()
            await begin(ws)
            assert asyncio.get_running_loop().time() - began >= 0.05
        server.never_ack = True
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await ws.send_json({"type": "connection_init", "payload": {"token": "t"}})
            await ws.send_json({"type": "ping"})
            assert await ws.receive_json() == {"type": "pong"}
            assert server.sockets[0].init_payload == {"token": "t"}
            assert not server.sockets[0].acknowledged

    async def test_init_timeout(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A client that never initialises gets a 4408."""
        server.init_timeout = 0.01
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            assert await until_closed(ws) == 4408

    async def test_on_connect(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """An upgrade can be refused with a status, an answer or a close code."""
        verdicts: list[int | Answer | None] = [401, Answer.redirect("/x"), 4403, None]

        def verdict(request: ReceivedRequest) -> int | Answer | None:
            assert request.headers["x-token"] == "t"
            return verdicts.pop(0)

        server.on_connect = verdict
        http.headers["X-Token"] = "t"
        for status in (401, 404):  # aiohttp follows the redirect of an upgrade
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(server.ws_url, protocols=[MODERN])
            assert caught.value.status == status
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            assert await until_closed(ws) == 4403
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
        assert len(server.upgrades) == 5
        assert not server.requests

    async def test_on_init(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """The initialisation can be refused by its payload."""
        server.on_init = lambda payload: None if payload.get("token") else 4403
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await ws.send_json({"type": "connection_init"})
            assert await until_closed(ws) == 4403

    async def test_close_all(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """All sockets close cleanly with the code that the test wants, and leave no task."""
        before = tasks()
        async with (
            http.ws_connect(server.ws_url, protocols=[MODERN]) as one,
            http.ws_connect(server.ws_url, protocols=[LEGACY]) as two,
        ):
            await server.socket_count(2)
            endings = [asyncio.create_task(ws.receive()) for ws in (one, two)]
            await server.close_sockets(1012, "restart")
            frames = await asyncio.gather(*endings)
        assert [(f.type, f.data, f.extra) for f in frames] == [(aiohttp.WSMsgType.CLOSE, 1012, "restart")] * 2
        await server.socket_count(0)
        assert server.close_codes == {1: 1012, 2: 1012}
        await http.close()
        await server.stop()
        assert tasks() <= before

    async def test_close_in_mid_stream(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A clean close arrives behind the events of a stream that has no end."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            await ws.send_json(start("1", "subscription { count }"))
            await server.until(lambda: len(server.events_sent) >= 5)
            closing = asyncio.create_task(server.close_sockets(1001))
            assert await until_closed(ws) == 1001
            await closing
        await server.socket_count(0)

    async def test_reset_all(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A reset ends a socket without a close frame."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            server.reset_sockets()
            assert await until_closed(ws) == 1006
            await server.socket_count(0)
        assert server.close_codes == {1: None}

    async def test_own_message(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A test can send messages of its own, valid or not."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            for message in ({"type": "ping"}, "nonsense", b"bytes"):
                await server.send_to_sockets(message)
            assert [(await ws.receive()).data for _ in range(3)] == [
                '{"type": "ping"}',
                "nonsense",
                b"bytes",
            ]

    async def test_other_path(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Only the endpoint takes upgrades."""
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(server.ws_url + "x", protocols=[MODERN])
        assert caught.value.status == 404
