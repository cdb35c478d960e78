"""What is remembered of documents, for how long, in how much memory; and the thread that judges them."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import graphql
import pytest
from aiographql.client import GraphQLClientException, GraphQLClientValidationException
from schema_world import (
    CHANGED,
    HELLO,
    HELLO_DATA,
    WRONG,
    Hand,
    Watched,
    a_few_rounds,
    asked,
    client_of,
    marked,
    renewed,
    requested,
)
from subscribing import until

from graphql_prod import ProductionClient, RequestTimeoutError, clock
from graphql_prod.testing.schema import SDL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from schema_world import Backend

    from graphql_prod.testing import ScriptedServer

URL = "http://127.0.0.1:9/graphql"


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A schema that tells of validations; whatever stands still in it goes on at the end."""
    found = Watched()
    yield found
    found.gate.set()


@pytest.fixture
async def client(watched: Watched) -> AsyncIterator[ProductionClient]:
    """A client that validates against the watched schema, of a server that nobody needs."""
    async with ProductionClient(URL, schema=watched.schema) as client:
        yield client


class Text(str):
    """A text whose life can be followed."""


class Followed:
    """Documents, and how many of their texts are still alive."""

    def __init__(self) -> None:
        self._alive: list[weakref.ref[Text]] = []

    def request(self, document: str) -> Any:
        """A request with a document that nobody else holds."""
        text = Text(document)
        self._alive.append(weakref.ref(text))
        return requested(text)

    def alive(self) -> list[Text]:
        """Those that somebody holds."""
        gc.collect()
        return [text for each in self._alive if (text := each()) is not None]


class TestRemembering:
    @pytest.mark.parametrize("fits", [True, False])
    async def test_once_a_document(
        self, server: ScriptedServer, backend: Backend, watched: Watched, fits: bool
    ) -> None:
        """F8: a document is validated once for a schema, not once a call, by client and views."""
        document = marked(1, "" if fits else "nothing")
        async with ProductionClient(server.url, schema=watched.schema, backend=backend) as client:

            async def call(caller: ProductionClient) -> None:
                if fits:
                    assert (await caller.query(document)).data == {"echo": "1"}
                else:
                    with pytest.raises(GraphQLClientValidationException, match="nothing"):
                        await caller.query(requested(document))

            await call(client)
            first = list(watched.seen)
            for caller in (client, client.with_options(timeout=9), client.with_options(headers={"A": "b"})):
                await call(caller)
        assert first
        assert watched.seen == first
        assert len(server.requests) == 4 * fits

    async def test_the_stock_does_it_each_time(self, watched: Watched) -> None:
        """The measure of these tests: a validation is seen."""
        for n in range(1, 4):
            assert graphql.validate(watched.schema, graphql.parse(marked(1))) == []
            assert watched.seen == ["1"] * n

    async def test_whatever_goes_with_it(self, client: ProductionClient, watched: Watched) -> None:
        """Variables, headers, the operation's name and the request object do not matter, the text does."""
        document = f"query A {marked(1)} query B {marked(2)}"
        await client.validate(requested(document, operation="A"))
        seen = len(watched.seen)
        await client.validate(requested(document, operation="B", variables={"x": 1}, headers={"A": "b"}))
        assert len(watched.seen) == seen
        await client.validate(requested(document + " "))
        assert len(watched.seen) > seen

    @pytest.mark.parametrize("fits", [True, False])
    async def test_once_for_all_who_wait(
        self, client: ProductionClient, watched: Watched, fits: bool
    ) -> None:
        """However many first calls there are at once; each has an exception of its own."""
        document = marked(1, "" if fits else "nothing")
        calls = (client.validate(requested(document)) for _ in range(200))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        alone = Watched()
        await client.validate(requested(marked(1)), schema=alone.schema)
        assert len(watched.seen) <= 2 * len(alone.seen)  # once more to say where it does not fit, at most
        assert [type(each) for each in errors] == [
            type(None) if fits else GraphQLClientValidationException
        ] * 200
        assert fits or len({id(each) for each in errors}) == 200
        assert len({str(each) for each in errors}) == 1

    @pytest.mark.parametrize(
        ("document", "kind"),
        [
            (WRONG, GraphQLClientValidationException),
            ("{ hello", graphql.GraphQLSyntaxError),
            ("", graphql.GraphQLSyntaxError),
        ],
        ids=["validation", "syntax", "empty"],
    )
    async def test_errors_do_not_grow(self, document: str, kind: type[Exception]) -> None:
        """An error raised many times says what the stock's says, and each is as small as the first."""
        schema = graphql.build_schema(SDL)
        errors: list[Any] = []
        async with ProductionClient(URL, schema=schema) as client:
            for n in range(50):
                with pytest.raises(kind) as caught:
                    await client.query(document)
                caught.value.add_note(f"note {n}")
                errors.append(caught.value)
            with pytest.raises(kind) as validated:
                await client.validate(requested(document), schema=schema)
        assert len({id(error) for error in errors}) == 50
        assert {str(error) for error in errors} == {str(validated.value)}
        assert {len(error.__notes__) for error in errors} == {1}
        assert len({_depth(error) for error in errors[1:]}) == 1
        assert _depth(errors[-1]) <= _depth(errors[0])
        if kind is graphql.GraphQLSyntaxError:
            with pytest.raises(kind) as stock:
                graphql.parse(document)
            assert str(errors[-1]) == str(stock.value)
            assert (errors[-1].locations, errors[-1].positions, errors[-1].formatted) == (
                stock.value.locations,
                stock.value.positions,
                stock.value.formatted,
            )
        else:
            found = graphql.validate(schema, graphql.parse(document))
            assert str(errors[-1]) == str(GraphQLClientValidationException(*found))

    async def test_for_one_schema(self, client: ProductionClient, watched: Watched) -> None:
        """What fits one schema says nothing about another."""
        other = Watched()
        await client.validate(requested(marked(1)))
        await client.validate(requested(marked(1)), schema=other.schema)
        assert (watched.seen, other.seen) == (["1"], ["1"])
        narrow = graphql.build_schema("type Query { hello: String }")
        for _ in range(2):
            with pytest.raises(GraphQLClientValidationException):
                await client.validate(requested(marked(1)), schema=narrow)
            await client.validate(requested(marked(1)))
        assert (watched.seen, other.seen) == (["1"], ["1"])


def _depth(error: BaseException) -> int:
    depth, trace = 0, error.__traceback__
    while trace is not None:
        depth, trace = depth + 1, trace.tb_next
    chain = 0
    above = error.__context__
    while above is not None:
        chain, above = chain + 1, above.__context__
    return depth + 100 * chain


class TestMemory:
    @pytest.mark.timeout(120)
    async def test_documents_that_never_come_back(self, client: ProductionClient, watched: Watched) -> None:
        """Thousands of different ones take no more memory than a thousand, and push out none in use."""
        hot = [marked(f"hot {n}") for n in range(50)]
        for document in hot * 2:
            await client.validate(requested(document))
        followed = Followed()
        most, blocks = 0, []
        for batch in range(5):
            requests = [followed.request(marked(f"{batch} {n}")) for n in range(600)]
            await asyncio.gather(*map(client.validate, requests))
            del requests
            most = max(most, len(followed.alive()))
            blocks.append(sys.getallocatedblocks())
        assert most <= 1000
        assert blocks[-1] - blocks[2] < 20_000
        watched.seen.clear()
        for document in hot:
            await client.validate(requested(document))
        assert watched.seen == []

    async def test_documents_that_come_twice(self, client: ProductionClient) -> None:
        """Are bounded too: two thousand at most, whatever the order."""
        followed = Followed()
        for batch in range(4):
            documents = [followed.request(f"{{ hello{' ' * (batch * 600 + n)}}}") for n in range(600)]
            for _ in range(3):
                await asyncio.gather(*map(client.validate, documents))
            del documents
        assert len(followed.alive()) <= 2000

    async def test_documents_that_are_long(self, client: ProductionClient) -> None:
        """The sum of what is remembered is bounded, not only the number."""
        followed = Followed()
        for n in range(24):
            await client.validate(followed.request(f"{{ hello }} # {n} {'x' * 500_000}"))
        assert sum(map(len, followed.alive())) <= 10_000_000

    async def test_errors_that_are_long(self, client: ProductionClient) -> None:
        """So are the texts of errors, which quote the document."""
        tracemalloc.start()
        try:
            for n in range(40):
                with pytest.raises(GraphQLClientValidationException) as caught:
                    await client.validate(requested(f"{{ nothing{n}{'x' * 100_000} }}"))
                assert len(str(caught.value)) > 100_000
            del caught
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < 6_000_000
        finally:
            tracemalloc.stop()

    async def test_schemas_that_were_given_once(self, client: ProductionClient) -> None:
        """A schema given to ``validate()`` is not kept for ever, nor what is known of its documents."""
        schemas = []
        for _ in range(30):
            other = Watched()
            await client.validate(requested(marked(1)), schema=other.schema)
            schemas.append(weakref.ref(other.schema))
            del other
        gc.collect()
        assert sum(each() is not None for each in schemas) <= 10

    async def test_schemas_that_were_replaced(self, server: ScriptedServer) -> None:
        """So are those that the server had once."""
        async with client_of(server.url) as client:
            schemas = []
            for n in range(4):
                server.sdl = SDL + f"type Extra{n} {{ id: ID }}"
                schemas.append(weakref.ref(await client.get_schema(refresh=True)))
                await client.query(HELLO)
            gc.collect()
            assert [each() is not None for each in schemas] == [False, False, False, True]


class TestChange:
    @pytest.mark.parametrize("how", ["wish", "ttl"])
    async def test_upstream(self, server: ScriptedServer, backend: Backend, how: str) -> None:
        """What fitted no longer does, what did not fit does, as soon as the new schema is there."""
        with clock.using(hand := Hand()):
            async with client_of(server.url, backend, ttl=100) as client:

                async def changed() -> None:
                    if how == "wish":
                        await client.get_schema(refresh=True)
                    else:
                        hand.now += 101
                        await client.get_schema()
                        await renewed(client)

                for sdl, good, bad in [
                    (SDL, HELLO, WRONG),
                    (CHANGED.replace("hello(", "hi("), WRONG, HELLO),
                    (SDL, HELLO, WRONG),
                ]:
                    server.sdl = sdl
                    await changed()
                    for _ in range(2):
                        assert (await client.query(good)).errors == []
                        with pytest.raises(GraphQLClientValidationException):
                            await client.query(bad)
        sent = [request.query for request in server.requests]
        assert [sent.count(document) for document in (HELLO, WRONG)] == [4, 2]

    async def test_a_verdict_on_its_way_when_the_schema_changes(
        self, client: ProductionClient, watched: Watched
    ) -> None:
        """Belongs to the schema that it was made with."""
        watched.gate.clear()
        slow = asyncio.create_task(client.validate(requested(marked(1))))
        await watched.standing_still()
        narrow = graphql.build_schema("type Query { hello: String }")
        other = asyncio.create_task(client.validate(requested(marked(1)), schema=narrow))
        await a_few_rounds()
        watched.gate.set()
        await slow
        with pytest.raises(GraphQLClientValidationException):
            await other

    async def test_none(self, server: ScriptedServer, backend: Backend, watched: Watched) -> None:
        """An introspection that says the same as before costs no document its verdict."""
        async with client_of(server.url, backend) as client:
            await client.query(HELLO)
            first = await client.get_schema()
            second = await client.get_schema(refresh=True)
            assert first is not second
            async with _standing(client, watched):
                assert (await asyncio.wait_for(client.query(HELLO), 5)).data == HELLO_DATA
        assert asked(server) == 2


class _standing:  # noqa: N801 -- reads as a word in a with statement
    """While it lasts the client's thread judges nothing: only what is remembered passes."""

    def __init__(self, client: ProductionClient, watched: Watched) -> None:
        self._watched = watched
        watched.gate.clear()
        self._slow = asyncio.create_task(client.validate(requested(marked("slow")), schema=watched.schema))

    async def __aenter__(self) -> None:
        await self._watched.standing_still()

    async def __aexit__(self, *_: object) -> None:
        self._watched.gate.set()
        await self._slow


class TestThread:
    async def test_what_is_remembered_does_not_wait_for_it(
        self, client: ProductionClient, watched: Watched
    ) -> None:
        """A document that takes long to judge delays new ones, no known ones, and not the loop."""
        await client.validate(requested("{ hello }"))
        async with _standing(client, watched):
            await asyncio.wait_for(client.validate(requested("{ hello }")), 5)
            new = asyncio.create_task(client.validate(requested("{ hello echo }")))
            done, _ = await asyncio.wait({new}, timeout=0.05)
            assert not done
        await asyncio.wait_for(new, 5)

    async def test_a_clogged_default_executor(self, client: ProductionClient, watched: Watched) -> None:
        """Does not delay it: the thread is the client's own."""
        release = threading.Event()
        loop = asyncio.get_running_loop()
        busy = [loop.run_in_executor(None, release.wait, 20) for _ in range(40)]
        try:
            await asyncio.wait_for(client.validate(requested(marked(1))), 5)
        finally:
            release.set()
            await asyncio.gather(*busy)
        assert watched.seen == ["1"]

    async def test_one(self, client: ProductionClient, watched: Watched) -> None:
        """However much there is to judge, and a daemon; gone when there is nothing."""
        before = set(threading.enumerate())
        async with _standing(client, watched):
            calls = [asyncio.create_task(client.validate(requested(marked(n)))) for n in range(20)]
            await a_few_rounds()
            (thread,) = set(threading.enumerate()) - before
            assert thread.daemon
        await asyncio.gather(*calls)
        await client.close()
        await until(lambda: set(threading.enumerate()) <= before)
        assert sorted(watched.seen[1:]) == sorted(str(n) for n in range(20))

    async def test_who_has_gone_is_not_served(self, client: ProductionClient, watched: Watched) -> None:
        """What nobody waits for any more is not judged; what somebody does is, whoever asked first."""
        async with _standing(client, watched):
            gone = [asyncio.create_task(client.validate(requested(marked(n)))) for n in range(20)]
            shared = asyncio.create_task(client.validate(requested(marked(7))))
            await a_few_rounds()
            for call in gone:
                call.cancel()
            await asyncio.wait(gone)
            late = asyncio.create_task(client.validate(requested(marked(8))))
            await a_few_rounds()
        await asyncio.wait_for(asyncio.gather(shared, late), 5)
        await client.validate(requested(marked("last")))
        assert watched.seen == ["slow", "7", "8", "last"]
        await client.validate(requested(marked(3)))  # and can still be asked for
        assert watched.seen[-1] == "3"

    async def test_who_goes_while_it_is_judged(self, client: ProductionClient, watched: Watched) -> None:
        """Takes nobody with it, and the verdict is kept."""
        watched.gate.clear()
        first, second = [asyncio.create_task(client.validate(requested(marked(1)))) for _ in range(2)]
        await watched.standing_still()
        first.cancel()
        await asyncio.wait({first})
        assert not second.done()
        watched.gate.set()
        await asyncio.wait_for(second, 5)
        await client.validate(requested(marked(1)))
        assert watched.seen == ["1"]

    async def test_the_deadline_of_a_call(self, server: ScriptedServer, watched: Watched) -> None:
        """Covers it; what is judged meanwhile is known to the next call."""
        async with ProductionClient(server.url, schema=watched.schema) as client:
            watched.gate.clear()
            with pytest.raises(RequestTimeoutError) as caught:
                await client.with_options(timeout=0.1).query(marked(1))
            assert caught.value.phase == "total"
            watched.gate.set()
            assert (await client.query(marked(1))).data == {"echo": "1"}
        assert watched.seen == ["1"]

    async def test_a_client_that_closes_meanwhile(self, server: ScriptedServer, watched: Watched) -> None:
        """Waits for nothing that stands still in the thread."""
        client = ProductionClient(server.url, schema=watched.schema)
        watched.gate.clear()
        call = asyncio.create_task(client.query(marked(1)))
        await watched.standing_still()
        await asyncio.wait_for(client.shutdown(0), 5)
        with pytest.raises(Exception, match="closed"):
            await call

    async def test_a_schema_that_is_none(self, client: ProductionClient) -> None:
        """Fails the call that brought it, each time, and the thread lives on."""
        for _ in range(2):
            with pytest.raises((TypeError, GraphQLClientException), match=r"(?i)query"):
                await client.validate(requested(marked(1)), schema=graphql.GraphQLSchema())
        await asyncio.wait_for(client.validate(requested(marked(1))), 5)

    @pytest.mark.parametrize("depth", [50, 5000])
    async def test_a_document_that_is_deep(self, client: ProductionClient, depth: int) -> None:
        """Fails its own call, in the thread as it would have outside, and the thread lives on."""
        deep = "{ hello " * depth + "}" * depth
        with pytest.raises((RecursionError, graphql.GraphQLSyntaxError, GraphQLClientValidationException)):
            await asyncio.wait_for(client.validate(requested(deep)), 10)
        await asyncio.wait_for(client.validate(requested(marked(1))), 5)

    async def test_two_loops(self, server: ScriptedServer, watched: Watched) -> None:
        """Share the verdicts, also on a document that both ask for at once."""
        client = ProductionClient(server.url, schema=watched.schema)
        watched.gate.clear()

        async def use() -> None:
            await asyncio.gather(*(client.validate(requested(marked(1))) for _ in range(5)))

        both = [asyncio.create_task(asyncio.to_thread(asyncio.run, use())), asyncio.create_task(use())]
        await watched.standing_still()
        await asyncio.sleep(0.05)  # the other loop's calls come in
        watched.gate.set()
        await asyncio.wait_for(asyncio.gather(*both), 10)
        await client.close()
        assert watched.seen == ["1"]

    def test_the_end_of_a_program(self) -> None:
        """Is not held up by a validation that does not end."""
        program = """
import asyncio, sys, threading
sys.path.insert(0, "tests")
from schema_world import Watched, marked
from graphql_prod import ProductionClient, RequestTimeoutError

watched = Watched()
watched.gate.wait = lambda _: threading.Event().wait(60)

async def main():
    async with ProductionClient("http://127.0.0.1:9/", schema=watched.schema) as client:
        try:
            await client.with_options(timeout=0.2).query(marked(1))
        except RequestTimeoutError:
            print("in time", watched.seen)

asyncio.run(main())
"""
        root = Path(__file__).parents[1]
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "in time ['1']\n", "")
