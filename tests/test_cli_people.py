"""What the commands show to a person at a terminal, and headers that stand in files."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from graphql_prod import __version__
from graphql_prod.__main__ import main
from graphql_prod.cli.listing import lines
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = str(Path(__file__).parent.parent)
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def at_a_terminal(arguments: Sequence[str], **variables: str) -> tuple[int, str]:
    """The command's status, and what a terminal of 80 columns was shown by it."""
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRAPHQL_PROD_")}
    environment |= {"COLUMNS": "80", "PYTHONPATH": ROOT, "TERM": "xterm"}
    environment |= {f"GRAPHQL_PROD_{name}": value for name, value in variables.items()}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "graphql_prod", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other side has closed it
                break
            if not data:
                break
            shown += data
        os.close(ours)
        return process.wait(30), ESCAPES.sub("", shown.decode()).replace("\r\n", "\n")


def test_settings_in_eighty_columns(tmp_path: Path) -> None:
    """By group, no line longer than the terminal is wide, with the source of what somebody has set."""
    file = tmp_path / "c.toml"
    file.write_text('endpoint = "https://h/graphql"\n[operations.Report]\ntimeout = "batch"\n')
    status, shown = at_a_terminal(["config", "--config", str(file)], RETRY__ATTEMPTS="6")
    assert status == 0
    rows = shown.splitlines()
    assert [row for row in rows if len(row) > 80 and str(file) not in row] == []
    assert "[retry]" in rows
    assert any(re.fullmatch(r"  attempts +6  # GRAPHQL_PROD_RETRY__ATTEMPTS", row) for row in rows)
    assert any("500, 502-504, 507-509, 520-599" in row for row in rows)
    assert "[operations.Report]" in rows
    assert "default" not in shown


def test_long_values_are_wrapped() -> None:
    """A value that does not fit goes on below itself, and its source stands beneath it."""
    value = ",".join(f"CODE_{number}" for number in range(20))
    found = [line for line, _ in lines([(("retry", "error_codes"), value, "client.toml")], 80)]
    assert found[:2] == ["", "[retry]"]
    assert max(map(len, found)) <= 80
    assert found[-1].strip() == "# client.toml"
    assert "".join(found[2:-1]).replace(" ", "").removeprefix("error_codes") == value


@pytest.mark.parametrize("command", ["check", "schema"])
async def test_headers_from_files(server: ScriptedServer, tmp_path: Path, command: str) -> None:
    """A mounted secret is sent as a header, and is not shown."""
    (tmp_path / "token").write_text("s3cr3t\n")
    environment = {**os.environ, "GRAPHQL_PROD_ENDPOINT": server.url, "PYTHONPATH": ROOT}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "graphql_prod", command),
        *("--header-file", f"Authorization={tmp_path / 'token'}", "--header-format", "Bearer {}"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    shown, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert b"s3cr3t" not in shown
    assert {request.headers["Authorization"] for request in server.requests} == {"Bearer s3cr3t"}


@pytest.mark.parametrize("given", ["Authorization", "Authorization=", "=/x", "Authorization=/not/there"])
def test_a_header_file_that_cannot_be(
    given: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what is wanted, and asks nobody."""
    monkeypatch.setenv("GRAPHQL_PROD_ENDPOINT", "http://127.0.0.1:1/graphql")
    assert main(["check", "--header-file", given]) == 1
    out, err = capsys.readouterr()
    assert "cannot work" in out
    assert "header" in err


async def test_a_slow_schema(server: ScriptedServer) -> None:
    """A terminal sees after a second what is waited for."""
    server.always(Answer(delay=1.5))
    status, shown = await asyncio.to_thread(at_a_terminal, ["schema", "-o", "/dev/null"], ENDPOINT=server.url)
    assert status == 0
    assert re.search(r"asking 127.0.0.1:\d+ for its schema: 1 s", shown)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """``graphql-prod --version``."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == f"graphql_prod {__version__}"


def test_the_command_is_installed() -> None:
    """The wheel brings ``graphql-prod`` beside ``python -m graphql_prod``."""
    program = Path(sys.executable).parent / "graphql-prod"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == f"graphql_prod {__version__}"
