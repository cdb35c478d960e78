"""What a server writes does not reach the terminal as more than text."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from typing import TYPE_CHECKING, Any

import pytest

from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from pathlib import Path

# A title, a colour, a cleared line, the same in C1, an override of the direction, an invisible separator.
WILD = (
    "W\x1b]0;owned\x07\x1b[31m\r\x1b[2K\x9b31m\x9d0;x\x9c\u202eabc\u2066\u2028\u200b\x00\x08\x7f"
    "\nINFO forged" + "w" * 5000
)
ERRORS = {"errors": [{"message": WILD, "extensions": {"code": WILD}, "path": [WILD]}]}
ANSWERS = {
    "errors": Answer(body=json.dumps(ERRORS), media_type="application/graphql-response+json"),
    "errors in a bad request": Answer(status=400, body=json.dumps(ERRORS), media_type="application/json"),
    "a page": Answer(status=503, body=WILD, media_type="text/html"),
    "a page with success": Answer(body=WILD, media_type="text/html"),
    "an odd media type": Answer(body=b"{}", headers={"Content-Type": "text/\x9b31m"}),
    "a redirect": Answer.redirect("https://other.test/\x9b31m%1b"),
    "no HTTP": Answer.garbage(),
}


async def output_of(*arguments: str, terminal: int | None = None) -> str:
    """What a command prints, on both of its streams."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "graphql_prod",
        *arguments,
        stdout=asyncio.subprocess.PIPE if terminal is None else terminal,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 40)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return (out or b"").decode()


def unprintable(text: str) -> list[str]:
    """Characters that a terminal would obey, or that would turn a line around."""
    return [ascii(each) for each in text if not each.isprintable() and each != "\n"]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_commands(server: ScriptedServer, answer: Answer, tmp_path: Path) -> None:
    """A probe, an introspection and the demo show a server's words escaped and bounded."""
    server.always(answer)
    config = tmp_path / "client.json"
    config.write_text(json.dumps({"endpoint": server.url, "retry": {"attempts": 1}}), encoding="utf-8")
    commands = [
        ("check", "--config", str(config)),
        ("check", "--config", str(config), "--json"),
        ("schema", "--config", str(config)),
        ("demo", "--endpoint", server.url),
    ]
    for shown in await asyncio.gather(*(output_of(*each) for each in commands)):
        assert unprintable(shown) == [], shown
        assert len(shown) < 8000
        assert not any(line.startswith("INFO forged") for line in shown.splitlines())


async def test_a_schema_with_wild_words(server: ScriptedServer, tmp_path: Path) -> None:
    """A terminal is shown descriptions escaped; a file or a pipe gets the schema as it is."""
    server.sdl = (
        f"{_literal(WILD[:200])}\ntype Query "
        f"{{ hello(a: Int = 1): String @deprecated(reason: {_literal(WILD[:200])}) }}"
    )
    config = tmp_path / "client.json"
    config.write_text(json.dumps({"endpoint": server.url}), encoding="utf-8")
    arguments = ("schema", "--config", str(config))
    piped = await output_of(*arguments)
    assert "\u202e" in piped
    main, side = pty.openpty()
    try:
        await output_of(*arguments, terminal=side)
        shown = os.read(main, 1 << 16).decode().replace("\r\n", "\n")
    finally:
        os.close(main)
        os.close(side)
    assert "hello" in shown
    assert unprintable(shown) == [], shown


def _literal(text: str) -> Any:
    return json.dumps(text)
