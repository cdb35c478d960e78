"""headers_from_files: mounted secrets, read at start-up and followed when they are exchanged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from clocks import Later

from graphql_prod import ConfigurationError, ProductionClient, clock, headers_from_files
from graphql_prod.testing import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from graphql_prod.testing import ScriptedServer

SECRET = "s3cr3t"


@pytest.fixture
def later() -> Iterator[Later]:
    with clock.using(Later()) as running:
        yield running  # type: ignore[misc]


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A file that was mounted long ago."""
    file = tmp_path / "token"
    write(file, SECRET)
    return file


def write(file: Path, text: str | bytes, age: float = 100.0) -> None:
    """Write a file as if that had been some seconds ago."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    now = file.stat().st_mtime
    os.utime(file, (now - age, now - age))


class TestReading:
    @pytest.mark.parametrize(
        ("content", "value"),
        [
            ("abc", "abc"),
            ("abc\n", "abc"),
            ("abc\r\n", "abc"),
            ("a b", "a b"),
            ("\ufeffabc\n", "abc"),
            ("ü", "ü"),
            ("{0} {x}", "{0} {x}"),
        ],
    )
    def test_values(self, token: Path, content: str, value: str) -> None:
        """One newline at the end is dropped, and a byte order mark; all else is the value."""
        write(token, content)
        assert dict(headers_from_files({"X-Key": token})()) == {"X-Key": value}
        assert headers_from_files({"X-Key": str(token)}, format="Key {}")()["X-Key"] == f"Key {value}"

    def test_formats(self, token: Path) -> None:
        """One for all, or by header; names compare without case, and braces can be written."""
        files = {"Authorization": token, "X-Key": token}
        both = headers_from_files(files, format="Bearer {}")()
        assert dict(both) == {"Authorization": f"Bearer {SECRET}", "X-Key": f"Bearer {SECRET}"}
        one = headers_from_files(files, format={"authorization": "{{{}}}"})()
        assert dict(one) == {"Authorization": f"{{{SECRET}}}", "X-Key": SECRET}

    @pytest.mark.parametrize(
        "content", ["", "\n", "\r\n", "  \n", "a\nb", "a\n\n", "a\x00", "\x7f", "€", b"\xff"]
    )
    def test_what_no_header_carries(self, token: Path, content: Any) -> None:
        """At construction it is refused by the names of header and file, without the value."""
        write(token, content.replace("a", SECRET) if isinstance(content, str) else content)
        with pytest.raises(ConfigurationError) as caught:
            headers_from_files({"X-Key": token})
        assert "X-Key" in str(caught.value)
        assert str(token) in str(caught.value)
        assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"

    @pytest.mark.parametrize("kind", ["missing", "folder", "huge", "fifo", "null"])
    def test_what_is_no_such_file(self, token: Path, kind: str) -> None:
        """So is a file that is not there, or is none; nothing waits for a pipe."""
        file: Any = token.parent / kind
        if kind == "folder":
            file.mkdir()
        elif kind == "huge":
            write(file, "a" * 70_000)
        elif kind == "fifo":
            os.mkfifo(file)
        elif kind == "null":
            file = f"{token}\0"
        with pytest.raises(ConfigurationError, match="Authorization"):
            headers_from_files({"Authorization": file})

    @pytest.mark.parametrize(
        "arguments",
        [
            ({},),
            (None,),
            ("token",),
            ({"X Y": "token"},),
            ({"X\n": "token"},),
            ({"": "token"},),
            ({3: "token"},),
            ({"X": 3},),
            ({"X": None},),
        ],
    )
    def test_wrong_files(self, arguments: Any) -> None:
        """What is no mapping of header names to paths is a ConfigurationError too."""
        with pytest.raises(ConfigurationError, match="headers_from_files"):
            headers_from_files(*arguments)

    @pytest.mark.parametrize("wrong", [f"Bearer {SECRET}", f"{SECRET}.of.sixteen.or.more", f"{SECRET}\n"])
    def test_a_secret_in_the_place_of_its_file(self, wrong: str) -> None:
        """What is no file, and may be the secret itself, is not shown."""
        with pytest.raises(ConfigurationError, match="Authorization") as caught:
            headers_from_files({"Authorization": wrong})
        assert SECRET not in str(caught.value)

    def test_twice(self, token: Path) -> None:
        """Two spellings are one header."""
        with pytest.raises(ConfigurationError, match="given twice"):
            headers_from_files({"x-key": token, "X-Key": token})

    @pytest.mark.parametrize(
        "wrong", ["Bearer", "{} {}", "{0}", "{x}", "{!r}", "{:>9}", "{", "}", "{}\n", 3, None, {"Y": "{}"}]
    )
    def test_wrong_formats(self, token: Path, wrong: Any) -> None:
        """So is a format that has not one ``{}``, or is for another header."""
        with pytest.raises(ConfigurationError, match="format"):
            headers_from_files({"X": token}, format=wrong)
        if not isinstance(wrong, dict):
            with pytest.raises(ConfigurationError, match="format"):
                headers_from_files({"X": token}, format={"X": wrong})

    def test_repr(self, token: Path) -> None:
        """It says which headers and files, and no value."""
        provider = headers_from_files({"Authorization": token}, format="Bearer {}")
        assert repr(provider) == f"<headers_from_files Authorization={token}>"


class TestRotation:
    def test_once_a_second(self, token: Path, later: Later) -> None:
        """A new value is found at the next look; there is one a second, however many ask."""
        provider = headers_from_files({"A": token})
        write(token, "new", age=50)
        assert {provider()["A"] for _ in range(1000)} == {SECRET}
        later.ahead += 1.1
        assert provider()["A"] == "new"

    def test_refresh(self, token: Path, later: Later) -> None:
        """``refresh=True`` reads at once, whatever the time of the file says."""
        provider = headers_from_files({"A": token})
        before = token.stat()
        token.write_text("n3w3r!")
        os.utime(token, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert provider()["A"] == SECRET
        assert provider(refresh=True)["A"] == "n3w3r!"

    def test_written_twice_in_a_moment(self, token: Path, later: Later) -> None:
        """A change that leaves no trace in time and size is found while the file is fresh."""
        write(token, "one", age=0)
        provider = headers_from_files({"A": token})
        stamp = token.stat()
        token.write_text("two")
        os.utime(token, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        later.ahead += 1.1
        assert provider()["A"] == "two"

    def test_links_as_kubernetes_exchanges_them(self, tmp_path: Path, later: Later) -> None:
        """``token`` leads to ``..data/token``, and ``..data`` to a folder that is exchanged at once."""
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            write(tmp_path / name / "token", f"{name}\n")
        (tmp_path / "..data").symlink_to("one")
        (tmp_path / "token").symlink_to("..data/token")
        provider = headers_from_files({"A": tmp_path / "token"}, format="Bearer {}")
        assert provider()["A"] == "Bearer one"
        (tmp_path / "..new").symlink_to("two")
        (tmp_path / "..new").replace(tmp_path / "..data")
        later.ahead += 1.1
        assert provider()["A"] == "Bearer two"

    @pytest.mark.parametrize("trouble", ["missing", "empty", "folder", "newline", "no text"])
    def test_trouble(self, token: Path, later: Later, trouble: str, caplog: pytest.LogCaptureFixture) -> None:
        """The last good value stays, one warning says so, and what comes next is taken."""
        other = token.parent / "other"
        write(other, "other")
        provider = headers_from_files({"A": token, "B": other})
        token.unlink()
        if trouble == "folder":
            token.mkdir()
        elif trouble != "missing":
            write(token, {"empty": b"", "newline": b"n3w\nn3w", "no text": b"\xff"}[trouble])
        write(other, "another", age=50)
        with caplog.at_level("INFO", "graphql_prod"):
            for refresh in (False, True, False):
                later.ahead += 1.1
                assert dict(provider(refresh=refresh)) == {"A": SECRET, "B": "another"}
        (record,) = caplog.records
        assert (record.levelname, "header A " in record.getMessage()) == ("WARNING", True)
        assert str(token) in record.getMessage()
        assert SECRET not in caplog.text
        assert "n3w" not in caplog.text
        if trouble == "folder":
            token.rmdir()
        write(token, "back")
        later.ahead += 1.1
        with caplog.at_level("INFO", "graphql_prod"):
            assert provider()["A"] == "back"
        token.unlink()
        later.ahead += 1.1
        with caplog.at_level("INFO", "graphql_prod"):
            assert provider()["A"] == "back"
        assert [each.levelname for each in caplog.records] == ["WARNING", "INFO", "WARNING"]

    async def test_in_a_client(self, server: ScriptedServer, backend: Any, token: Path, later: Later) -> None:
        """A token that the server refuses is read anew at once; one that was rotated in time is sent."""
        provider = headers_from_files({"Authorization": token}, format="Bearer {}")
        async with ProductionClient(
            server.url, validate=False, backend=backend, headers_provider=provider
        ) as client:
            await client.query("{ hello }")
            write(token, "two", age=50)
            server.script(Answer.page(401))
            assert (await client.query("{ hello }")).data
            write(token, "three", age=20)
            later.ahead += 1.1
            assert (await client.query("{ hello }")).data
        sent = [request.headers["Authorization"] for request in server.requests]
        assert sent == [f"Bearer {SECRET}", f"Bearer {SECRET}", "Bearer two", "Bearer three"]
