"""The scripted server over HTTP: schema, script, facts."""

import asyncio
import json
import socket
import ssl
from typing import Any

import aiohttp
import pytest
import trustme
from serving import INCREMENT, MODERN, send

from graphql_prod.testing import Answer, ReceivedRequest, ScriptedServer
from graphql_prod.testing.schema import SDL

RESPONSE_JSON = "application/graphql-response+json"


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
