"""SIGTERM and SIGINT: real signals, to processes under load and to this one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from subscribing import COUNT, until

from graphql_prod import (
    ClientClosedError,
    ConfigurationError,
    ProductionClient,
    ShutdownCoordinator,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals of Linux")

PROGRAM = Path(__file__).parent / "programs" / "signalled.py"
TERM, INT = signal.SIGTERM, signal.SIGINT
BOTH = (TERM, INT)
HELLO = {"hello": "Hello, world!"}
# What would be ours to tidy up, in the words of Python and of aiohttp.
LITTER = ("never retrieved", "never awaited", "Unclosed", "unclosed", "ResourceWarning", "was destroyed")


class Program:
    """A function of ``signalled.py`` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.send = process.send_signal

    async def says(self, key: str) -> dict[str, Any]:
        """Wait for the line that tells of it."""
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            while line := await self._process.stdout.readline():
                if key in (facts := json.loads(line)):
                    return facts  # type: ignore[no-any-return]
        raise AssertionError(f"it ended without {key}: {await self.end()}")

    async def end(self) -> tuple[int | None, list[dict[str, Any]], str]:
        """Wait for the end: exit status, what else it told, and what stands on the error stream."""
        out, err = await asyncio.wait_for(self._process.communicate(), 20)
        return self._process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


@contextlib.asynccontextmanager
async def program(name: str, *arguments: str, **variables: str) -> AsyncIterator[Program]:
    """Run it, on this very package; it does not outlive the test."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRAPHQL_PROD_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(PROGRAM), name, *arguments),
        env=environment | {"PYTHONPATH": str(PROGRAM.parents[2])} | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Program(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


class TestService:
    @pytest.mark.parametrize(
        ("number", "name", "arguments"),
        [
            (TERM, "service", ["coordinator"]),
            (INT, "service", ["client"]),
            (INT, "on_a_plain_loop", []),
        ],
        ids=["SIGTERM", "SIGINT under asyncio.run", "SIGINT on a plain loop"],
    )
    async def test_the_first_signal_loses_nothing(
        self, counting: ScriptedServer, number: signal.Signals, name: str, arguments: list[str]
    ) -> None:
        """Calls under way are answered, subscriptions end in order, all are counted, handlers are restored.

        The defaults among them (SIG_DFL, default_int_handler, asyncio.Runner's) are not called afterwards:
        the program goes on, its main task is not cancelled, and it ends with status 0.
        """
        gate = asyncio.Event()
        counting.always(Answer(gate=gate))
        async with program(name, counting.url, *arguments) as running:
            await running.says("running")
            await counting.received(50)
            running.send(number)
            await running.says("draining")
            gate.set()
            facts = await running.says("report")
            duration = facts["report"].pop("duration")
            assert 0 < duration < 30
            assert facts == {
                "report": {
                    "clean": True,
                    "requests_completed": 50,
                    "requests_cancelled": 0,
                    "subscriptions_drained": 6,
                    "subscriptions_cancelled": 0,
                    "hooks_failed": [],
                },
                "outcomes": {"GraphQLResponse": 50, "NoneType": 1},
                "state": "closed",
                "taken": True,
                "restored": True,
                "cancelled": 0,
            }
            assert await running.end() == (0, [], "")

    @pytest.mark.parametrize("second", BOTH, ids=["SIGTERM", "SIGINT"])
    async def test_the_second_signal_cuts_it_short(
        self, counting: ScriptedServer, second: signal.Signals
    ) -> None:
        """What is left is cut at once, a callback that hangs too, and the program ends as after a drain."""
        counting.always(Answer.hang())
        async with program("service", counting.url, "stuck") as running:
            await running.says("running")
            await counting.received(50)
            running.send(TERM)
            await running.says("draining")
            running.send(second)
            cut = time.monotonic()
            facts = await running.says("report")
            report = facts["report"]
            assert report["duration"] < 30  # the deadline is 60 s
            assert (report["clean"], report["hooks_failed"]) == (False, [])
            assert (report["requests_completed"], report["requests_cancelled"]) == (0, 50)
            assert report["subscriptions_cancelled"] >= 1
            assert report["subscriptions_drained"] + report["subscriptions_cancelled"] == 6
            assert facts["outcomes"]["ClientClosedError"] >= 50  # the stream's, if events were left
            assert (facts["state"], facts["restored"]) == ("closed", True)
            status, _, errors = await running.end()
            assert status == 0
            assert "Traceback" not in errors
            assert time.monotonic() - cut < 10

    async def test_ctrl_c_without_handlers(self, counting: ScriptedServer) -> None:
        """Leaving ``async with client`` by it cuts what is under way; only Python's own traceback shows."""
        counting.always(Answer.hang())
        async with program("interrupted", counting.url, PYTHONASYNCIODEBUG="1") as running:
            await running.says("running")
            await counting.received(50)
            running.send(INT)
            facts = await running.says("outcomes")
            assert facts["state"] == "closed"
            assert facts["outcomes"]["ClientClosedError"] >= 50
            status, _, errors = await running.end()
            assert status == -INT
            assert errors.strip().endswith("KeyboardInterrupt")
            assert errors.count("Traceback") == 2, errors
            assert [words for words in LITTER if words in errors] == []

    async def test_the_programs_own_handler_may_end_it(self) -> None:
        """It is called when the client is closed, and what it raises ends the program."""
        async with program("own_handler", "") as running:
            assert await running.says("state") == {"state": "closed", "number": TERM}
            assert await running.end() == (3, [], "")

    async def test_without_the_loop_a_signal_does_what_it_did_before(self) -> None:
        """Handlers that can shut nothing down swallow nothing: the process ends by the signal."""
        async with program("loop_is_over", "") as running:
            assert await running.says("taken") == {"taken": True}
            assert await running.end() == (-TERM, [], "")


class TestServers:
    # uvicorn raises the signal again once it is through; aiohttp ends as if nothing had happened.
    @pytest.mark.parametrize(("name", "status"), [("under_uvicorn", -TERM), ("under_aiohttp", 0)])
    async def test_servers_that_handle_signals_are_left_in_peace(
        self, server: ScriptedServer, name: str, status: int
    ) -> None:
        """Ours beside theirs: the request under way is answered, and the process ends."""
        gate = asyncio.Event()
        server.always(Answer(gate=gate))
        async with program(name, server.url) as running, aiohttp.ClientSession() as session:
            port = (await running.says("port"))["port"]

            async def get() -> str:
                async with session.get(f"http://127.0.0.1:{port}/") as response:
                    return await response.text()

            request = asyncio.create_task(get())
            await server.received(1)
            running.send(TERM)
            await running.says("draining")
            gate.set()
            assert await asyncio.wait_for(request, 20) == "Hello, world!"
            ended, _, errors = await running.end()
            assert (ended, errors) == (status, "")


# From here on the signals go to this process.


class Own:
    """The program's own handler of both signals, which also keeps a mistake of ours from ending pytest."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.seen: list[object] = []
        self.look: Callable[[], object] = lambda: None
        self.handler = self._handle

    def _handle(self, number: int, frame: object) -> None:
        self.calls.append(number)
        self.seen.append(self.look())

    @property
    def installed(self) -> bool:
        return all(signal.getsignal(number) is self.handler for number in BOTH)


@pytest.fixture
def own() -> Iterator[Own]:
    """Installed before the test's loop runs, and gone after it."""
    own = Own()
    before = {number: signal.signal(number, own.handler) for number in BOTH}
    yield own
    for number, handler in before.items():
        signal.signal(number, handler)


def send(*numbers: signal.Signals) -> None:
    """Send signals to this process; the handlers have run when it returns, the loop has not."""
    for number in numbers:
        os.kill(os.getpid(), number)


def client_of(url: str) -> ProductionClient:
    return ProductionClient(url, validate=False)


class Held:
    """Clients with a call each that is answered once its gate opens."""

    def __init__(self, server: ScriptedServer, count: int = 1) -> None:
        self.clients = [client_of(server.url) for _ in range(count)]
        self.gates = [asyncio.Event() for _ in range(count)]
        self.calls: list[asyncio.Task[Any]] = []
        self._server = server

    @property
    def states(self) -> list[str]:
        return [client.state for client in self.clients]

    async def __aenter__(self) -> Held:
        for client, gate in zip(self.clients, self.gates, strict=True):
            self._server.script(Answer(gate=gate))
            self.calls.append(asyncio.create_task(client.query("{ hello }")))
            await self._server.received(len(self.calls))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self.calls, *(client.shutdown(0) for client in self.clients))

    async def answered(self, n: int) -> None:
        """Open a gate: the call is answered, and its client, if it drains, is closed."""
        self.gates[n].set()
        assert (await asyncio.wait_for(self.calls[n], 10)).data == HELLO

    async def reached(self, *states: str) -> None:
        await until(lambda: self.states == list(states), lambda: f"{states}; they are {self.states}")


class TestHandlers:
    @pytest.mark.parametrize("kind", ["client", "coordinator"])
    @pytest.mark.parametrize("numbers", [(TERM,), (INT,), (TERM, INT), (INT, TERM)], ids=str)
    async def test_the_programs_own_are_called_after_the_drain(
        self, server: ScriptedServer, own: Own, kind: str, numbers: tuple[signal.Signals, ...]
    ) -> None:
        """Each once, for a signal that came; two at once are a first and a second one."""
        client = client_of(server.url)
        coordinator = ShutdownCoordinator()
        coordinator.register(client)
        own.look = lambda: client.state
        gate = asyncio.Event()
        server.always(Answer(gate=gate))
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        (client if kind == "client" else coordinator).install_signal_handlers()
        send(*numbers)
        await until(lambda: client.state != "open", lambda: "the end to begin")
        assert own.calls == [] or client.state == "closed"
        if len(numbers) == 1:
            gate.set()
            assert (await call).data == HELLO
        else:
            with pytest.raises(ClientClosedError):
                await asyncio.wait_for(call, 5)  # the deadline is 25 s
        await until(lambda: len(own.calls) >= len(numbers), lambda: f"own handlers: {own.calls}")
        await asyncio.sleep(0)
        assert own.calls == list(numbers)
        assert set(own.seen) == {"closed"}
        assert own.installed

    async def test_sig_ign_is_restored_and_not_called(self, own: Own) -> None:
        """It is no function, and would do nothing."""
        client = client_of("http://127.0.0.1:9/")
        signal.signal(TERM, signal.SIG_IGN)
        client.install_signal_handlers()
        send(TERM)
        await until(lambda: client.state == "closed")
        assert signal.getsignal(TERM) is signal.SIG_IGN

    async def test_a_shutdown_without_a_signal_restores_too(self, own: Own) -> None:
        """And calls nobody."""
        for end in (ProductionClient.shutdown, ProductionClient.close):
            client = client_of("http://127.0.0.1:9/")
            client.install_signal_handlers()
            assert not own.installed
            await end(client)
            assert own.installed
        async with ShutdownCoordinator() as coordinator:
            coordinator.install_signal_handlers([TERM])
            assert signal.getsignal(TERM) is not own.handler
            assert signal.getsignal(INT) is own.handler
        assert own.installed
        await asyncio.sleep(0)
        assert own.calls == []

    async def test_installing_again_changes_nothing(self, server: ScriptedServer, own: Own) -> None:
        """One signal is one signal, and what was there at first is restored."""
        async with Held(server) as held:
            for _ in range(3):
                held.clients[0].install_signal_handlers()
            send(TERM)
            await held.reached("draining")
            await held.answered(0)
            await held.reached("closed")
            assert own.installed
            await until(lambda: own.calls == [TERM])

    async def test_a_handler_installed_after_ours_stays(self, own: Own) -> None:
        """It is not for us to remove what somebody else has put in our place."""
        client = client_of("http://127.0.0.1:9/")
        client.install_signal_handlers()

        def later(number: int, frame: object) -> None: ...

        signal.signal(TERM, later)
        await client.shutdown()
        assert signal.getsignal(TERM) is later
        assert signal.getsignal(INT) is own.handler

    async def test_ours_put_back_when_it_is_through_swallows_nothing(self, own: Own) -> None:
        """A server that borrowed the signals gives ours back when its client is closed, and raises again."""
        client = client_of("http://127.0.0.1:9/")
        client.install_signal_handlers()
        ours = signal.signal(TERM, lambda *_: None)
        await client.shutdown()
        signal.signal(TERM, ours)
        send(TERM)
        await until(lambda: own.calls, lambda: "the handler that was there before ours")
        assert own.calls == [TERM]

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first", "last"])
    async def test_two_clients_drain_at_the_same_time(
        self, server: ScriptedServer, own: Own, order: tuple[int, int]
    ) -> None:
        """Either may end first; then, and no sooner, the program's own handler is back and is called once."""
        async with Held(server, 2) as held:
            for client in held.clients:
                client.install_signal_handlers()
            own.look = lambda: held.states
            send(TERM)
            await held.reached("draining", "draining")
            await held.answered(order[0])
            await until(lambda: "closed" in held.states)
            assert not own.installed
            await asyncio.sleep(0.01)
            assert own.calls == []
            await held.answered(order[1])
            await held.reached("closed", "closed")
            assert own.installed
            await until(lambda: own.calls)
            assert (own.calls, own.seen) == ([TERM], [["closed", "closed"]])

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first", "last"])
    async def test_two_clients_that_end_without_a_signal(self, own: Own, order: tuple[int, int]) -> None:
        """Whichever ends first, the other's handler works on, and the first handler of all is restored."""
        clients = [client_of("http://127.0.0.1:9/") for _ in range(2)]
        for client in clients:
            client.install_signal_handlers()
        await clients[order[0]].shutdown()
        assert not own.installed
        send(INT)
        await until(lambda: clients[order[1]].state == "closed")
        assert own.installed
        await until(lambda: own.calls == [INT])

    async def test_a_coordinator_beside_its_client(self, server: ScriptedServer, own: Own) -> None:
        """Both install, which nobody needs: one drain, one report, one call of the program's own handler."""
        async with Held(server, 2) as held:
            coordinator = ShutdownCoordinator()
            for owner in (held.clients[0], coordinator):
                owner.install_signal_handlers()
            for client in held.clients:
                coordinator.register(client)
            own.look = lambda: held.states
            waiting = asyncio.create_task(coordinator.wait())
            send(TERM)
            await held.reached("draining", "draining")
            for n in (0, 1):
                await held.answered(n)
            report = await asyncio.wait_for(waiting, 10)
            assert (report.clean, report.requests_completed) == (True, 2)
            assert own.installed
            await until(lambda: own.calls)
            assert (own.calls, own.seen) == ([TERM], [["closed", "closed"]])

    def test_without_the_loop_the_programs_own_is_called_once(self, own: Own) -> None:
        """However many clients had installed theirs: it does what it did before them."""

        async def install() -> None:
            for _ in range(3):
                client_of("http://127.0.0.1:9/").install_signal_handlers()

        asyncio.run(install())
        assert not own.installed
        send(TERM)
        assert own.calls == [TERM]


class TestMoments:
    """What the signal interrupts is work under way, and not who asked for the end."""

    @pytest.mark.parametrize("where", ["hook", "stream", "callback", "call"])
    async def test_work_that_it_interrupts_is_finished(
        self, counting: ScriptedServer, own: Own, where: str
    ) -> None:
        """Its own calls are let through, the shutdown waits for it, and it is counted."""
        done: list[object] = []
        tasks: list[asyncio.Task[Any]] = []

        async def work(*_: object) -> None:
            if done:
                return
            done.append("begun")
            send(TERM)
            await until(lambda: client.state != "open")
            await asyncio.sleep(0.03)  # an end that does not wait comes now
            done.append((await client.query("{ hello }")).data)

        async def read() -> None:
            async for event in client.stream(COUNT):
                await work(event)

        async def call() -> None:
            done.append((await client.query("{ hello }")).data)

        def headers() -> dict[str, str]:
            done.append("begun")
            send(TERM)
            return {}

        provider = headers if where == "call" else None
        client = ProductionClient(counting.url, validate=False, headers_provider=provider)
        client.install_signal_handlers()
        if where == "hook":
            client.on_shutdown(work)
            tasks.append(asyncio.create_task(client.shutdown()))
        elif where == "callback":
            await client.subscribe(COUNT, on_data=work)
        else:
            tasks.append(asyncio.create_task(read() if where == "stream" else call()))
        await until(lambda: done and client.state != "open", lambda: f"the end to begin; {done}")
        report = await client.shutdown()
        assert done == ["begun", HELLO]
        assert report.clean
        assert report.requests_completed == 1
        assert report.subscriptions_drained == int(where in ("stream", "callback"))
        await asyncio.gather(*tasks)
        await until(lambda: own.calls == [TERM])

    async def test_a_hook_that_a_second_one_interrupts_is_given_up(self, own: Own) -> None:
        """It has outlived the deadline like any other: it is cancelled, and named in the report."""
        client = client_of("http://127.0.0.1:9/")
        client.install_signal_handlers()
        ended: list[bool] = []

        @client.on_shutdown
        async def stubborn() -> None:
            send(TERM)
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                ended.append(True)
                raise

        send(INT)
        await until(lambda: client.state == "closed")
        report = await client.shutdown()
        assert (report.hooks_failed, ended) == (("stubborn",), [True])


class TestInstalling:
    @pytest.fixture(params=["client", "coordinator"])
    def owner(self, request: pytest.FixtureRequest) -> ProductionClient | ShutdownCoordinator:
        """Each test that asks for it runs with a client, and with a coordinator."""
        return client_of("http://127.0.0.1:9/") if request.param == "client" else ShutdownCoordinator()

    @pytest.mark.parametrize(
        "signals",
        [[TERM, signal.SIGKILL], [signal.SIGSTOP], [TERM, 0], [TERM, 1000], [-1], ["TERM"], [None], 15, None],
        ids=str,
    )
    async def test_what_cannot_be_handled_is_refused(
        self, owner: ProductionClient | ShutdownCoordinator, own: Own, signals: Any
    ) -> None:
        """With an error that says so, and before anything is taken."""
        with pytest.raises(ConfigurationError, match=r"(?i)sig"):
            owner.install_signal_handlers(signals)
        assert own.installed

    def test_without_a_loop(self, owner: ProductionClient | ShutdownCoordinator, own: Own) -> None:
        """Making one takes nothing, and installing says what it needs."""
        with pytest.raises(RuntimeError, match=r"needs the event loop.*asyncio\.run"):
            owner.install_signal_handlers()
        assert own.installed

    async def test_outside_the_main_thread(
        self,
        owner: ProductionClient | ShutdownCoordinator,
        own: Own,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Python allows it to nobody there: nothing is taken, a warning says so, the rest works."""

        async def install() -> None:
            assert threading.current_thread() is not threading.main_thread()
            owner.install_signal_handlers()

        await asyncio.to_thread(asyncio.run, install())
        assert own.installed
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "not the main thread" in record.getMessage()
        assert (await owner.shutdown()).clean

    async def test_at_the_end_it_is_too_late(
        self, owner: ProductionClient | ShutdownCoordinator, own: Own
    ) -> None:
        """Nobody would give the signals back; during the end it is not."""
        owner.on_shutdown(lambda: owner.install_signal_handlers())
        owner.on_shutdown(lambda: seen.append(own.installed), phase="after")
        seen: list[bool] = []
        report = await owner.shutdown()
        assert (seen, report.hooks_failed) == ([False], ())
        assert own.installed
        with pytest.raises(ClientClosedError):
            owner.install_signal_handlers()
        assert own.installed
