"""Validation against a file: no introspection at all."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import TYPE_CHECKING, Any

import graphql
import pytest
from aiographql.client import GraphQLClientValidationException
from schema_world import (
    CHANGED,
    HELLO,
    HELLO_DATA,
    WRONG,
    Hand,
    asked,
    client_of,
    dropped,
    renewed,
    requested,
    warned,
    warnings_of,
)

from graphql_prod import ConfigurationError, ProductionClient, ProductionConfig, SchemaPolicy, clock
from graphql_prod.testing.schema import SDL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schema_world import Backend

    from graphql_prod.testing import ScriptedServer

TTL = 100.0
INTROSPECTION: dict[str, Any] = dict(graphql.introspection_from_schema(graphql.build_schema(SDL)))
FORMS = {
    "SDL": SDL,
    "SDL with descriptions": f'"""The whole."""\nschema {{ query: Query mutation: Mutation }}\n{SDL}',
    "JSON": json.dumps(INTROSPECTION),
    "an answer": json.dumps({"data": INTROSPECTION}, indent=2),
}
# What a file may hold by mistake: its text, and where the mistake is.
BROKEN: dict[str, tuple[str | bytes, str]] = {
    "SDL": ("type Query {\n  hello: String\n  hi! String\n}\n", r"\b3\D+5\b"),
    "SDL cut short": ("type Query {\n  hello: String", r"\b2\D+16\b"),
    "SDL rules": ("type Query {\n  hello: Nothing\n}\n", r"Nothing"),
    "SDL rules, placed": ("type Query {\n  hello: Nothing\n}\n", r"\b2\D+10\b"),
    "a type twice": ("type Query { a: Int }\ntype Query { b: Int }\n", r"\b2\D+6\b"),
    "JSON": ('{"data":\n  {"__schema": nul}}', r"\b2\D+16\b"),
    "JSON of another kind": ('{"hello": "world"}', "introspection"),
    "JSON without a schema": ('{"data": {"__schema": null}}', "introspection"),
    "JSON that cannot be built": ('{"__schema": {"types": 1}}', ""),
    "no types": ("scalar Date", ""),
    "nothing": ("", ""),
    "no text": (b"\xff\xfe\x00type", ""),
}


@pytest.fixture
def hand() -> Iterator[Hand]:
    """Time that passes when the test says so."""
    with clock.using(found := Hand()):
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with the server's schema."""
    found = tmp_path / "schema.graphql"
    found.write_text(SDL, "utf-8")
    return found


def changed(file: Path, text: str | None) -> None:
    """Give a file another text; the time of its change is another one, too. None: none at all."""
    if text is None:
        file.unlink()
        return
    file.write_text(text, "utf-8")
    found = file.stat()
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + 5_000_000_000))


def replaced(file: Path, text: str) -> None:
    """Put another file in its place, with nothing different that one sees from outside but its inode."""
    found, new = file.stat(), file.with_suffix(".new")
    new.write_text(text, "utf-8")
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert new.stat().st_size == found.st_size
    new.replace(file)


def spoil(file: Path) -> None:
    """Other content under the same time and length: who looks at those only reads no more."""
    stat = file.stat()
    file.write_bytes(b"#" * stat.st_size)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("mode", ["strict", "auto"])
    async def test_read(
        self, server: ScriptedServer, backend: Backend, tmp_path: Path, form: str, mode: str
    ) -> None:
        """SDL or an introspection's JSON, whatever the file's name."""
        (tmp_path / "schema.txt").write_text(FORMS[form], "utf-8")
        async with client_of(server.url, backend, mode=mode, file=tmp_path / "schema.txt") as client:
            for _ in range(2):
                assert (await client.query(HELLO)).data == HELLO_DATA
                with pytest.raises(GraphQLClientValidationException, match="nothing"):
                    await client.query(WRONG)
            assert "hello" in (await client.get_schema()).query_type.fields  # type: ignore[union-attr]
        assert asked(server) == 0

    async def test_off(self, server: ScriptedServer, tmp_path: Path) -> None:
        """A file that is not needed is not read, be there one or not; force needs it."""
        async with client_of(server.url, mode="off", file=tmp_path / "gone.graphql") as client:
            assert (await client.query(WRONG)).errors
            with pytest.raises(ConfigurationError, match=r"gone\.graphql"):
                await client.validate(requested(HELLO), force=True)
        assert asked(server) == 0

    async def test_relative(
        self, server: ScriptedServer, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A relative path starts at the working directory."""
        monkeypatch.chdir(file.parent)
        config = ProductionConfig(schema=SchemaPolicy(mode="strict", file=file.relative_to(file.parent)))
        async with ProductionClient(server.url, config=config) as client:
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)

    async def test_from_config(
        self, server: ScriptedServer, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The environment can name it."""
        monkeypatch.setenv("GRAPHQL_PROD_SCHEMA__FILE", str(file))
        async with ProductionClient.from_config({"endpoint": server.url}) as client:
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)
        assert server.requests == []

    async def test_at_the_start(self, server: ScriptedServer, file: Path, tmp_path: Path) -> None:
        """``from_config`` reads it at once: one that cannot be used stops the roll-out. It is read once."""
        settings = {"endpoint": server.url, "schema": {"file": tmp_path / "gone.graphql"}}
        with pytest.raises(ConfigurationError, match=r"gone\.graphql.*No such file"):
            ProductionClient.from_config(settings)
        (tmp_path / "gone.graphql").write_text("type Query {", "utf-8")
        with pytest.raises(ConfigurationError, match=r"gone\.graphql"):
            ProductionClient.from_config(settings)
        for unused in ({"validate": False}, {"schema": graphql.build_schema(SDL)}):
            ProductionClient.from_config(settings, **unused)
        async with ProductionClient.from_config({"endpoint": server.url, "schema": {"file": file}}) as client:
            spoil(file)
            await client.query(HELLO)

    async def test_age(self, server: ScriptedServer, file: Path, hand: Hand) -> None:
        """Seconds since it was read."""
        async with client_of(server.url, file=file) as client:
            assert client.stats().schema_age is None
            await client.query(HELLO)
            hand.now += 7
            assert client.stats().schema_age == 7

    async def test_many_first_calls(self, server: ScriptedServer, file: Path) -> None:
        """Wait for one reading."""
        async with client_of(server.url, file=file) as client:
            found = await asyncio.gather(*(client.get_schema() for _ in range(100)))
            assert len({id(each) for each in found}) == 1
        assert server.requests == []

    async def test_introspect(self, server: ScriptedServer, tmp_path: Path) -> None:
        """Asks the server all the same: it is what it is for."""
        async with client_of(server.url, file=tmp_path / "gone.graphql") as client:
            assert "hello" in (await client.introspect()).query_type.fields  # type: ignore[union-attr]
        assert asked(server) == 1


class TestBroken:
    @pytest.mark.parametrize("mode", ["strict", "auto"])
    @pytest.mark.parametrize("what", BROKEN)
    async def test_text(
        self, server: ScriptedServer, tmp_path: Path, what: str, mode: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Fails calls with its name and the place, and nothing is sent; once it is mended they succeed."""
        file = tmp_path / "schema.graphql"
        text, said = BROKEN[what]
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        async with client_of(server.url, mode=mode, file=file) as client:
            calls = (client.query(HELLO) for _ in range(3))
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(error) for error in errors] == [ConfigurationError] * 3
            assert len({id(error) for error in errors}) == 3
            after = str(errors[0]).partition(str(file))[2]
            assert after
            assert re.search(said, after)
            assert server.requests == []
            file.write_text(SDL, "utf-8")
            assert (await client.query(HELLO)).data == HELLO_DATA
        assert warnings_of(caplog) == []

    @pytest.mark.parametrize("what", ["gone", "folder"])
    async def test_no_file(self, server: ScriptedServer, tmp_path: Path, what: str) -> None:
        """A file that is none is told by its name; making the client has read nothing."""
        (tmp_path / "folder").mkdir()
        async with client_of(server.url, file=tmp_path / what) as client:
            for call in (lambda: client.query(HELLO), lambda: client.get_schema()):
                with pytest.raises(ConfigurationError, match=what):
                    await call()
        assert server.requests == []


class TestChanged:
    async def test_after_the_ttl(self, server: ScriptedServer, file: Path, hand: Hand) -> None:
        """It is read again if it has changed, in the background; before that it is not looked at."""
        async with client_of(server.url, file=file, ttl=TTL) as client:
            first = await client.get_schema()
            changed(file, CHANGED)
            server.sdl = CHANGED
            hand.now += TTL - 1
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)
            hand.now += 2
            assert await client.get_schema() is first
            await renewed(client)
            assert (await client.query(WRONG)).data == {"nothing": None}
        assert asked(server) == 0

    async def test_unchanged(self, server: ScriptedServer, file: Path, hand: Hand) -> None:
        """The schema stays the same object: nothing is read or built."""
        async with client_of(server.url, file=file, ttl=TTL) as client:
            first = await client.get_schema()
            hand.now += TTL + 1
            assert await client.get_schema() is first
            await renewed(client)
            assert await client.get_schema() is first

    async def test_replaced(self, server: ScriptedServer, file: Path, hand: Hand) -> None:
        """As Kubernetes and careful programs do it, by another file under that name, of the same time."""
        async with client_of(server.url, file=file, ttl=TTL) as client:
            await client.query(HELLO)
            replaced(file, SDL.replace("hello", "hullo"))
            hand.now += TTL + 1
            await client.get_schema()
            await renewed(client)
            with pytest.raises(GraphQLClientValidationException):
                await client.query(HELLO)

    @pytest.mark.parametrize("trouble", ["broken", "gone"])
    async def test_broken_meanwhile(
        self, server: ScriptedServer, file: Path, hand: Hand, trouble: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The old one serves, with a warning that names the file; mended, it is read 1 s later."""
        async with client_of(server.url, file=file, ttl=TTL) as client:
            await client.query(HELLO)
            changed(file, "type Query {\n  oh: }" if trouble == "broken" else None)
            hand.now += TTL + 1
            await client.query(HELLO)
            await warned(caplog, 1)
            for _ in range(3):
                assert (await client.query(HELLO)).data == HELLO_DATA
            (record,) = warnings_of(caplog)
            assert file.name in record.getMessage()
            changed(file, CHANGED)
            server.sdl = CHANGED
            hand.now += 1.1
            await client.query(HELLO)
            await renewed(client)
            assert (await client.query(WRONG)).data == {"nothing": None}

    async def test_broken_and_not_to_be_survived(
        self, server: ScriptedServer, file: Path, hand: Hand
    ) -> None:
        """``stale_if_error=False``: calls fail until it is mended."""
        async with client_of(server.url, file=file, ttl=TTL, stale_if_error=False) as client:
            await client.query(HELLO)
            changed(file, "type Query {")
            hand.now += TTL + 1
            assert (await client.query(HELLO)).data == HELLO_DATA
            await dropped(client)
            with pytest.raises(ConfigurationError, match=file.name):
                await client.query(HELLO)
            changed(file, SDL)
            assert (await client.query(HELLO)).data == HELLO_DATA

    async def test_asked_for(self, server: ScriptedServer, file: Path) -> None:
        """``get_schema(refresh=True)`` reads it at once, ttl or none; what is broken is raised."""
        async with client_of(server.url, file=file) as client:
            first = await client.get_schema()
            changed(file, CHANGED)
            second = await client.get_schema(refresh=True)
            assert second is not first
            assert "nothing" in second.query_type.fields  # type: ignore[union-attr]
            changed(file, "type Query {")
            with pytest.raises(ConfigurationError, match=file.name):
                await client.get_schema(refresh=True)
            assert await client.get_schema() is second
        assert server.requests == []
