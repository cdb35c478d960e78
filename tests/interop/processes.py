"""The programs that nobody here wrote, as processes: servers with a journal, and the proxies before them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import trustme

if TYPE_CHECKING:
    from collections.abc import Callable

    from subscribing import Protocol

HERE = Path(__file__).parent
SERVERS = HERE / "servers"
MODERN: Protocol = "graphql-transport-ws"
LEGACY: Protocol = "graphql-ws"

Listener = Literal["plain", "tls", "impatient", "narrow", "hasty", "page"]
LISTENERS: tuple[Listener, ...] = ("plain", "tls", "impatient", "narrow", "hasty", "page")

# A program needs seconds to start, and more of them on a machine that is busy.
PATIENCE = 40


@dataclasses.dataclass(frozen=True)
class Peer:
    """A server of the matrix.

    :ivar paths: the endpoint's path for each WebSocket protocol that it speaks.
    """

    name: str
    program: str
    paths: dict[Protocol, str]

    @property
    def command(self) -> list[str]:
        """What starts it, less the port."""
        if self.program.endswith(".py"):
            return [sys.executable, str(SERVERS / self.program)]
        needs(shutil.which("node"), "the program node (apt-get install nodejs)")
        needs((SERVERS / "node_modules" / "graphql").is_dir(), "the JavaScript servers (make interop)")
        return ["node", str(SERVERS / self.program)]


PEERS = (
    Peer("strawberry", "strawberry_server.py", {MODERN: "/graphql", LEGACY: "/graphql"}),
    Peer("ariadne", "ariadne_server.py", {MODERN: "/graphql", LEGACY: "/legacy"}),
    Peer("apollo", "apollo.mjs", {MODERN: "/graphql"}),
    Peer("yoga", "yoga.mjs", {MODERN: "/graphql"}),
    Peer("graphql-ws", "graphql_ws.mjs", {MODERN: "/graphql"}),
    Peer("subscriptions-transport-ws", "transport_ws.mjs", {LEGACY: "/graphql"}),
)


def needs(present: object, what: str) -> None:
    """Skip a test whose programs are not there; in CI none may be missing."""
    if not present:
        (pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip)(f"needs {what}")


async def until(true: Callable[[], object], what: Callable[[], object]) -> None:
    """Wait until it is true; as long as a program may take to start, at most."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not true():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what()}") from None


def free_port() -> int:
    """A port that stays ours while its program is down: not one of those that the system hands out."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


class Process:
    """A program whose output goes to a file, which outlives it. No pipes: it may live longer than a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "output"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def lines(self) -> list[str]:
        """What it has said, in all its lives."""
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def spawn(self, command: list[str], stdin: int = subprocess.DEVNULL, **options: Any) -> None:
        assert not self.runs
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def said(self, line: str, times: int = 1) -> None:
        """Wait until it has said so, so many times."""
        await until(
            lambda: self.lines.count(line) >= times,
            lambda: f"{line!r} ({times} times) in {self.lines[-20:]}",
        )

    async def ended(self) -> None:
        await until(lambda: not self.runs, lambda: f"the end of it: {self.lines[-20:]}")

    def kill(self) -> None:
        """End it and all that it has started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Server(Process):
    """A GraphQL server of the matrix. Its journal tells what has run; lines sent to it open its gates."""

    def __init__(self, peer: Peer, folder: Path) -> None:
        super().__init__(folder)
        self.peer = peer
        self.port = 0
        self.log.touch()
        self._control: int | None = None

    async def start(self) -> None:
        """Start it, on the port that it had before."""
        known = self.port
        for _ in range(5):
            self.port = known or free_port()
            born = len(self.lines)
            self._open_control()
            await until(
                lambda born=born: f"listening {self.port}" in self.lines[born:] or not self.runs,  # type: ignore[misc]
                lambda: f"{self.peer.name} to listen: {self.lines[-20:]}",
            )
            if self.runs:
                return
        raise AssertionError(f"{self.peer.name} does not start: {self.lines[-20:]}")

    def _open_control(self) -> None:
        """A named pipe of its own for each life: it ends with us, and leftover lines end with it."""
        command = [*self.peer.command, str(self.port)]
        self._close_control()
        path = self.folder / "control"
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._control = os.open(path, os.O_WRONLY)
        os.set_blocking(reading, True)
        self.spawn(command, stdin=reading)
        os.close(reading)

    def _close_control(self) -> None:
        if self._control is not None:
            os.close(self._control)
            self._control = None

    async def say(self, line: str) -> None:
        """Open or close a gate, or set a token, and wait until it is."""
        assert self._control is not None
        times = self.lines.count(line) + 1
        os.write(self._control, f"{line}\n".encode())
        await self.said(line, times)

    async def stop(self) -> None:
        """Ask it to stop, and wait until it has begun to."""
        times = self.lines.count("stopping") + 1
        self.signal(signal.SIGTERM)
        await self.said("stopping", times)

    async def restart(self) -> None:
        """Wait until it has ended, and start it again."""
        await self.ended()
        await self.start()

    async def kill_9(self) -> None:
        """End it as the kernel does when memory is short."""
        self.signal(signal.SIGKILL)
        await self.ended()

    def executions(self, key: str) -> int:
        """How often the mutation with this key has run, in all its lives."""
        return self.lines.count(f"increment {key}")

    def kill(self) -> None:
        super().kill()
        self._close_control()


class Proxy(Process):
    """nginx or HAProxy before one server, as an unprivileged process with its own configuration."""

    def __init__(self, program: str, server_port: int, folder: Path, certificate: bytes) -> None:
        super().__init__(folder)
        self.program = program
        self.ports = _free_ports()
        template = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[program]
        self.configuration = folder / template
        text = (HERE / "proxies" / template).read_text(encoding="utf-8")
        for name, port in {"server": server_port, **self.ports}.items():
            text = text.replace(f"@{name}@", str(port))
        self.configuration.write_text(text, encoding="utf-8")
        (folder / "server.pem").write_bytes(certificate)
        (folder / "page.html").write_text("<!doctype html><title>The application</title>", encoding="utf-8")
        folder.chmod(0o777)

    async def start(self) -> None:
        found = shutil.which(self.program, path=f"{os.environ['PATH']}:/usr/sbin")
        needs(found, f"the program {self.program} (apt-get install {self.program})")
        assert found is not None
        where = str(self.configuration)
        arguments = {"nginx": ["-p", str(self.folder), "-c", where], "haproxy": ["-W", "-f", where]}
        nobody: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        who = nobody if os.getuid() == 0 else {}
        # A run that is killed takes its proxies along; servers see the end of their standard input.
        watch = shutil.which("setpriv")
        along = [watch, "--pdeathsig", "TERM"] if watch else []
        self.spawn([*along, found, *arguments[self.program]], **who)
        await until(self._listens, lambda: f"{self.program} to listen: {self.told}")

    @property
    def told(self) -> str:
        """Its log and its output."""
        log = self.folder / "nginx.log"
        return "\n".join(self.lines) + (log.read_text(encoding="utf-8") if log.exists() else "")

    async def reload(self) -> Callable[[], bool]:
        """Ask for new workers, and wait for them; gives whether the old ones are gone."""
        begun, gone = {
            "nginx": ("start worker process ", "exited with code 0"),
            "haproxy": ("Loading success", "Former worker"),
        }[self.program]
        before, old = self.told.count(begun), self.told.count(gone)
        self.signal(signal.SIGHUP if self.program == "nginx" else signal.SIGUSR2)
        await until(lambda: self.told.count(begun) > before, lambda: f"a new worker: {self.told[-2000:]}")
        return lambda: self.told.count(gone) > old

    def _listens(self) -> bool:
        assert self.runs, f"{self.program} ended: {self.told}"
        for port in self.ports.values():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    return False
        return True

    def kill(self) -> None:
        if self.runs:  # workers end with a master that has the time to tell them
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert self.process is not None
                self.process.wait(5)
        super().kill()


def _free_ports() -> dict[str, int]:
    found: set[int] = set()
    while len(found) < len(LISTENERS):
        found.add(free_port())
    return dict(zip(LISTENERS, found, strict=True))


class Authority:
    """A private authority, with a certificate for loopback."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        issued = authority.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.ECDSA)
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        self.certificate = issued.private_key_and_cert_chain_pem.bytes()
