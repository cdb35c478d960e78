"""``python -m graphql_prod check``: one probe, one line, one exit status."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import until

from graphql_prod.__main__ import main
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's settings, for this process and for those it starts."""
    for name in [name for name in os.environ if name.upper().startswith("GRAPHQL_PROD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


@contextlib.asynccontextmanager
async def started(*arguments: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command in a process of its own, which does not outlive the test."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "graphql_prod", "check", *arguments),
        env=os.environ | {f"GRAPHQL_PROD_{name}": value for name, value in variables.items()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def run(*arguments: str, **variables: str) -> tuple[int | None, str, str]:
    """Status and both streams of the command in a process of its own."""
    async with started(*arguments, **variables) as process:
        out, err = await asyncio.wait_for(process.communicate(), 30)
        return process.returncode, out.decode(), err.decode()


class InProcess:
    """The command in a thread: no interpreter to start."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    async def __call__(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        with self._monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(f"GRAPHQL_PROD_{name}", value)
            status = await asyncio.to_thread(main, ["check", *arguments])
        return status, *self._capsys.readouterr()

    async def json(self, *arguments: str, **variables: str) -> tuple[int, dict[str, Any]]:
        """Status and the one line of JSON; nothing else may have been said."""
        status, out, err = await self("--json", *arguments, **variables)
        (line,) = out.splitlines()
        assert (err, SECRET in line) == ("", False)
        return status, json.loads(line)


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Runs the command here."""
    return InProcess(capsys, monkeypatch)


def one_line(text: str) -> str:
    """The only line of it, with nothing secret."""
    (line,) = text.splitlines()
    assert SECRET not in line
    return line


async def test_in_a_process_of_its_own(server: ScriptedServer, tmp_path: Path) -> None:
    """Status 0 or 1, one line that says what was found, no traceback beside it.

    One request each; settings come from a file or the environment. An unknown variable is warned of, and
    does not matter.
    """
    async with ScriptedServer() as gone:
        pass
    file = tmp_path / "client.toml"
    file.write_text(f'endpoint = "{server.url}"\n[headers]\nX-Key = "{SECRET}"\n', encoding="utf-8")
    ready, also_ready, refused = await asyncio.gather(
        run(ENDPOINT=server.url, PORT="tcp://10.0.0.1:80"),
        run("--config", str(file)),
        run(ENDPOINT=gone.url.replace("://", f"://user:{SECRET}@") + f"?token={SECRET}"),
    )
    warning = "the environment variable GRAPHQL_PROD_PORT is no setting of graphql_prod and is ignored\n"
    for (status, out, err), said in ((ready, warning), (also_ready, "")):
        assert (status, err) == (0, said)
        assert re.fullmatch(rf"ready: 127\.0\.0\.1:{server.port} answered in \d+\.\d+ s", one_line(out))
    assert sorted(request.headers.get("X-Key", "") for request in server.requests) == ["", SECRET]
    status, out, err = refused
    assert (status, err) == (1, "")
    assert one_line(out).startswith(f"not ready: 127.0.0.1:{gone.port} could not be reached")


async def test_settings_that_cannot_work(tmp_path: Path, check: InProcess) -> None:
    """Status 1 and one line as for any other reason; every problem, with its source, on the error stream."""
    file = tmp_path / "client.toml"
    file.write_text(f'[headers]\nX = "{SECRET}"\n[retry]\nattempts = 0\n[haelth]\nx = 1\n', encoding="utf-8")
    status, out, err = await run("--config", str(file), TIMEOUT="fast")
    assert status == 1
    assert one_line(out).startswith("not ready: ")
    for said in ("4 problems", "endpoint", "haelth", "retry.attempts", str(file), "GRAPHQL_PROD_TIMEOUT"):
        assert said in err
    assert SECRET not in err
    assert "Traceback" not in err
    folder, nonsense = tmp_path / "folder.toml", tmp_path / "nonsense.toml"
    folder.mkdir()
    nonsense.write_bytes(b"\xff\x00[[[")
    tls = {"ENDPOINT": "https://127.0.0.1:9/", "TLS__CA_FILE": str(tmp_path / "gone.pem")}
    cases: list[tuple[list[str], dict[str, str]]] = [
        ([], {}),
        (["--config", str(tmp_path / "gone.toml")], {}),
        (["--config", str(folder)], {}),
        (["--config", str(nonsense)], {}),
        ([], {"ENDPOINT": "not a url"}),
        ([], {"ENDPOINT": "http://127.0.0.1:9/", "BACKEND": "urllib"}),
        *((["--timeout", wrong], {"ENDPOINT": "http://127.0.0.1:9/"}) for wrong in ("0", "-1", "nan")),
    ]
    for arguments, variables in cases:
        status, out, err = await check(*arguments, **variables)
        assert status == 1, (arguments, variables)
        assert one_line(out).startswith("not ready: ")
        assert err.strip(), (arguments, variables)
        status, out, err = await check("--json", *arguments, **variables)
        assert (status, json.loads(one_line(out))["ok"]) == (1, False)
        assert err.strip()
    status, out, _ = await check(**tls)  # whether it is read at once or at first use
    assert status == 1
    assert one_line(out).startswith("not ready: ")


async def test_json(server: ScriptedServer, check: InProcess) -> None:
    """The same facts for programs, on one line, under the same names whatever was found."""
    host = f"127.0.0.1:{server.port}"
    status, found = await check.json(ENDPOINT=server.url)
    latency = found.pop("latency")
    assert (status, found) == (0, {"ok": True, "reason": None, "host": host})
    assert 0 < latency < 2
    server.script(Answer.page(503, SECRET), Answer.graphql(errors=[SECRET]))
    for said in ("answered 503", "GraphQL errors"):
        status, found = await check.json(ENDPOINT=server.url)
        assert (status, found["ok"], found["host"]) == (1, False, host)
        assert said in found["reason"]
        assert 0 < found["latency"] < 2
    assert len(server.requests) == 3
    status, out, err = await check("--json")
    assert (status, "endpoint" in err) == (1, True)
    found = json.loads(one_line(out))
    assert (found["ok"], found["latency"], found["host"]) == (False, None, None)
    assert found["reason"]


async def test_the_timeout(server: ScriptedServer, check: InProcess) -> None:
    """A server that says nothing is waited for as long as was asked, and no longer."""
    async with FaultyProxy(server.port) as proxy:
        proxy.blackhole = True
        status, out, err = await check("--timeout", "0.1", ENDPOINT=proxy.url_for())
        assert (status, err) == (1, "")
        assert "0.1 s" in one_line(out)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
async def test_ctrl_c(server: ScriptedServer) -> None:
    """It ends at once, with the status that shells give to it, and says nothing."""
    server.always(Answer.hang())
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    async with started("--timeout", "30", ENDPOINT=server.url) as process:
        await until(lambda: server.requests or process.returncode is not None, lambda: "the probe")
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 10)
        if not ignored:
            assert (process.returncode, out, err) == (130, b"", b"")
