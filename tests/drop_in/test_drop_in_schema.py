"""Decoding, introspection and validation as in the stock client."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import graphql
import pytest
from aiographql.client import (
    DefaultGraphQLCodec,
    GraphQLClientValidationException,
    GraphQLCodecException,
    GraphQLRequest,
)
from aiographql.client.serializer import JSONSerializer
from dropping_in import ADD, BOTH, GREET, Variant, Wrong
from pydantic import BaseModel

from graphql_prod import (
    ProductionClient,
)
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.schema import SDL
from graphql_prod.testing.waiting import no_waiting


@dataclass
class Greeting:
    hello: str


class GreetingModel(BaseModel):
    hello: str


class TestDecoding:
    async def test_query_data_as(self, server: ScriptedServer, variant: Variant) -> None:
        """Data is decoded into dataclasses, pydantic models and plain types, from a path if one is given."""
        targets: list[tuple[Any, str | None, object]] = [
            (Greeting, None, Greeting("Hello, world!")),
            (GreetingModel, None, GreetingModel(hello="Hello, world!")),
            (str, "hello", "Hello, world!"),
            (dict, None, {"hello": "Hello, world!"}),
            (dict[str, str], None, {"hello": "Hello, world!"}),
            (str, "absent", None),
        ]
        async with variant.client(server) as client:
            for target, path, decoded in targets:
                result = await client.query_data_as(GREET, target, path=path)
                assert result == decoded
                assert type(result) is type(decoded)

    async def test_by_position(self, server: ScriptedServer, variant: Variant) -> None:
        """All arguments may be given by position, in the stock's order."""
        async with variant.client(server) as client:
            result = await client.query_data_as(
                GraphQLRequest(BOTH), str, "hello", "get", {"X-A": "1"}, "Greet", {"b": 2}, {"c": 3}, None
            )
        (seen,) = server.requests
        assert result == "Hello, world!"
        assert (seen.method, seen.headers["X-A"], seen.extensions) == ("GET", "1", {"c": 3})

    async def test_decoding_fails(self, server: ScriptedServer, variant: Variant) -> None:
        """A decoding error is the stock's own; ours tells besides that the mutation was executed."""
        targets: list[tuple[Any, str | None, type[Exception]]] = [
            (Wrong, None, GraphQLCodecException),
            (GreetingModel, "increment", GraphQLCodecException),
            (str, "increment.deeper", ValueError),
            (list[int], "increment", TypeError),
        ]
        async with variant.client(server) as client:
            for target, path, error in targets:
                with pytest.raises(error) as caught:
                    await client.query_data_as(ADD, target, path=path)
                assert type(caught.value) is error
                if variant.ours:
                    found: Any = caught.value
                    assert (found.attempts, found.may_have_executed) == (1, True)
                    assert found.elapsed > 0
        assert server.executions["increment"] == 4

    async def test_decoding_fails_after_retries(self, server: ScriptedServer, backend: Any) -> None:
        """The attempts told are those of the query that was decoded, and a query changed nothing."""
        server.script(Answer.page(503), Answer.page(503))
        with no_waiting():
            async with ProductionClient(server.url, backend=backend) as client:
                with pytest.raises(GraphQLCodecException) as caught:
                    await client.query_data_as(GREET, Wrong)
        error: Any = caught.value
        seen = [each.operation_name or each.query for each in server.requests]
        assert (error.attempts, error.may_have_executed) == (1, False), seen

    @pytest.mark.parametrize("where", ["client", "request"])
    async def test_codec(self, server: ScriptedServer, variant: Variant, where: str) -> None:
        """A codec of the client or of the request encodes variables and decodes data."""

        class Name:
            def __init__(self, text: str) -> None:
                self.text = text

        codec = DefaultGraphQLCodec()
        codec.register_encoder(Name, lambda name: name.text.upper())
        codec.register_decoder(Name, lambda text: Name(text.lower()))
        request = GraphQLRequest(GREET, variables={"name": Name("you")})
        if where == "request":
            request = dataclasses.replace(request, codec=codec)
        async with variant.client(server, codec=codec if where == "client" else None) as client:
            result = await client.query_data_as(request, Name, path="hello")
        assert server.requests[0].variables == {"name": "YOU"}
        assert result.text == "hello, you!"

    async def test_serializer(self, server: ScriptedServer, variant: Variant) -> None:
        """A serializer of the caller's writes requests and reads answers; it may write text."""

        class Counting(JSONSerializer):
            calls: ClassVar[list[str]] = []

            def loads(self, data: str | bytes) -> Any:
                self.calls.append("loads")
                return super().loads(data)

            def dumps(self, value: Any) -> str | bytes:
                self.calls.append("dumps")
                return super().dumps(value)

        Counting.calls.clear()
        async with variant.client(server, serializer=Counting()) as client:
            response = await client.query(GREET, variables={"name": "ü"})
            again = await client.query(GREET, method="get", variables={"name": "ü"})
        assert response.data == again.data == {"hello": "Hello, ü!"}
        assert Counting.calls == ["dumps", "loads"] * 2


class TestSchema:
    @staticmethod
    def introspections(server: ScriptedServer) -> int:
        return sum("__schema" in (seen.query or "") for seen in server.requests)

    async def test_asked_once(self, server: ScriptedServer, variant: Variant) -> None:
        """Without a schema the server is asked for it once, with the headers of the call."""
        async with variant.client(server, validate=True) as client:
            for _ in range(3):
                await client.query(GREET, headers={"X-A": "1"})
        assert self.introspections(server) == 1
        assert server.requests[0].headers["X-A"] == "1"
        assert len(server.requests) == 4

    async def test_given(self, server: ScriptedServer, variant: Variant) -> None:
        """A given schema is used, and the server not asked."""
        schema = graphql.build_schema(SDL)
        async with variant.client(server, validate=True, schema=schema) as client:
            await client.query(GREET)
            assert await client.get_schema() is schema
        assert self.introspections(server) == 0

    @pytest.mark.parametrize("how", ["client", "request"])
    async def test_unvalidated(self, server: ScriptedServer, variant: Variant, how: str) -> None:
        """validate=False, of the client or of a request, sends the document as it is."""
        request = GraphQLRequest("{ nothing }", validate=how != "request")
        async with variant.client(server, validate=how != "client") as client:
            response = await client.query(request)
        assert "Cannot query field 'nothing'" in str(response.errors[0].message)
        assert self.introspections(server) == 0

    async def test_validate(self, server: ScriptedServer, variant: Variant) -> None:
        """validate() judges by the given schema, skips what is not to be validated, and can be forced."""
        schema = graphql.build_schema("type Query { other: Int }")
        async with variant.client(server, validate=True) as client:
            await client.validate(GraphQLRequest("{ other }"), schema)
            with pytest.raises(GraphQLClientValidationException):
                await client.validate(GraphQLRequest("{ hello }"), schema=schema)
            await client.validate(GraphQLRequest("{ hello }", validate=False), schema)
            with pytest.raises(GraphQLClientValidationException):
                await client.validate(GraphQLRequest("{ hello }", validate=False), schema, None, True)
            assert server.requests == []
            await client.validate(GraphQLRequest("{ hello }"), headers={"X-A": "1"})
        async with variant.client(server) as client:
            await client.validate(GraphQLRequest("{ hello }"), schema)
            with pytest.raises(GraphQLClientValidationException):
                await client.validate(GraphQLRequest("{ hello }"), schema, force=True)
        assert self.introspections(server) == 1
        assert server.requests[0].headers["X-A"] == "1"

    async def test_refresh(self, server: ScriptedServer, variant: Variant) -> None:
        """get_schema() remembers; with refresh it asks again, with the headers given."""
        async with variant.client(server) as client:
            first = await client.get_schema()
            assert await client.get_schema() is first
            second = await client.get_schema(True, {"X-A": "1"})
            assert second is not first
            assert await client.get_schema() is second
        assert self.introspections(server) == 2
        assert server.requests[1].headers["X-A"] == "1"
        assert "hello" in second.query_type.fields  # type: ignore[union-attr]

    async def test_introspect(self, server: ScriptedServer, variant: Variant) -> None:
        """introspect() asks each time, and sends the headers given."""
        async with variant.client(server, headers={"X-B": "2"}) as client:
            schema = await client.introspect({"X-A": "1"})
        assert isinstance(schema, graphql.GraphQLSchema)
        assert (server.requests[0].headers["X-A"], server.requests[0].headers["X-B"]) == ("1", "2")

    @pytest.mark.parametrize(("ttl", "count"), [(3600, 1), (None, 1), (0, 2)])
    async def test_ttl(self, server: ScriptedServer, variant: Variant, ttl: float | None, count: int) -> None:
        """schema_ttl says for how long a schema is good."""
        async with variant.client(server, validate=True, schema_ttl=ttl) as client:
            await client.query(GREET)
            await client.query(GREET)
            await server.until(lambda: self.introspections(server) == count)
