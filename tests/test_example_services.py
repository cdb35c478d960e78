"""The example services, run as their manifests say, against an upstream that misbehaves."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import pytest
import yaml
from subscribing import until

from graphql_prod import PROBE, ProductionClient
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

EXAMPLES = Path(__file__).parent.parent / "examples"
TOKEN = "Bearer t0ken"
RESERVE = 5.0
LISTENS = r"[Rr]unning on http://[\d.]+:(\d+)"

# What the processes end with after a SIGTERM: uvicorn raises the signal again once it is through, aiohttp
# ends as if nothing had happened.
STATUS = {"fastapi_service": -signal.SIGTERM, "aiohttp_service": 0}
# The shortest time for requests that the servers take; uvicorn wants whole seconds.
SHORT = {"fastapi_service": "1", "aiohttp_service": "0.2"}


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a kubernetes.yaml says."""

    name: str

    @property
    def pod(self) -> dict[str, Any]:
        text = (EXAMPLES / self.name / "kubernetes.yaml").read_text(encoding="utf-8")
        deployment, service = yaml.safe_load_all(text)
        assert (deployment["kind"], service["kind"]) == ("Deployment", "Service")
        pod = deployment["spec"]["template"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
        return pod["spec"]  # type: ignore[no-any-return]

    @property
    def container(self) -> dict[str, Any]:
        (container,) = self.pod["containers"]
        return container  # type: ignore[no-any-return]

    @property
    def environment(self) -> dict[str, str]:
        """Its variables; those from a Secret have a token."""
        return {each["name"]: each.get("value", TOKEN) for each in self.container["env"]}

    @property
    def server_limit(self) -> float:
        """Seconds that the server may take for its requests."""
        if self.name == "aiohttp_service":  # once for them to end, once more after they were cut
            return 2 * float(self.environment["SHUTDOWN_TIMEOUT"])
        command = self.container["command"]
        return float(command[command.index("--timeout-graceful-shutdown") + 1])

    def command(self, graceful: str | None) -> list[str]:
        """Its command, on a free port of this machine."""
        program, *arguments = self.container["command"]
        if program == "python":
            return [sys.executable, "-W", "error", *arguments]
        arguments[arguments.index("--port") + 1] = "0"
        if graceful is not None:
            arguments[arguments.index("--timeout-graceful-shutdown") + 1] = graceful
        return [sys.executable, "-W", "error", "-m", program, *arguments]


class Service:
    """An example in a process of its own, started as its manifest says.

    ``graceful``: seconds that the server gives its requests; None: those of the manifest.
    """

    def __init__(self, name: str, upstream: str, graceful: str | None = None) -> None:
        self.name = name
        self.log: list[str] = []
        self.session: aiohttp.ClientSession
        self._command = Manifest(name).command(graceful)
        self._environment = {
            **os.environ,
            **Manifest(name).environment,
            **({} if graceful is None else {"SHUTDOWN_TIMEOUT": graceful}),
            "PORT": "0",
            "PYTHONUNBUFFERED": "1",
            "GRAPHQL_PROD_ENDPOINT": upstream,
            "GRAPHQL_PROD_RETRY__WAIT_INITIAL": "0.01",
            "GRAPHQL_PROD_HEALTH__MIN_INTERVAL": "0",
            "GRAPHQL_PROD_SUBSCRIPTIONS__WAIT_MAX": "0.05",
        }
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]

    @property
    def text(self) -> str:
        return "\n".join(self.log)

    async def logged(self, pattern: str) -> re.Match[str]:
        """Wait until a line of its output matches."""
        await until(
            lambda: re.search(pattern, self.text) or self._reading.done(), lambda: f"{pattern} in {self.text}"
        )
        found = re.search(pattern, self.text)
        assert found, f"{pattern} is not in:\n{self.text}"
        return found

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        """The status and the body."""
        async with self.session.get(path, params=query) as response:
            return response.status, await response.json()

    async def until(self, path: str, status: int) -> Any:
        """Ask until it answers with that status; the body."""
        answer: tuple[int, Any] = (0, None)
        async with asyncio.timeout(10):
            while answer[0] != status:
                answer = await self.get(path)
                await asyncio.sleep(0.01)
        return answer[1]

    async def terminate(self) -> None:
        """Send SIGTERM, and wait until it takes no more connections.

        Without making one: a connection of the server's own port was seen left open at its end.
        """
        self._process.terminate()
        await until(self._is_deaf, lambda: self.text)

    def _is_deaf(self) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", self._port))
            except OSError:  # somebody listens
                return False
        return True

    async def status(self) -> int:
        """Wait for its end: the exit status."""
        async with asyncio.timeout(15):
            await self._reading
            return await self._process.wait()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=EXAMPLES / self.name,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._read())
        try:
            self._port = int((await self.logged(LISTENS)).group(1))
        except BaseException:
            await self._kill()
            raise
        self.session = aiohttp.ClientSession(
            f"http://127.0.0.1:{self._port}", timeout=aiohttp.ClientTimeout(20)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()
        await self._kill()

    async def _kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.log.append(line.decode().rstrip())


@pytest.fixture(params=STATUS)
def name(request: pytest.FixtureRequest) -> str:
    """Each test that asks for it runs once an example."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    """A GraphQL server that counts fast."""
    async with ScriptedServer() as server:
        server.tick = 0.01
        yield server


def hellos(server: ScriptedServer) -> int:
    """How often the service's query has arrived."""
    return sum("query Hello" in (request.query or "") for request in server.requests)


class TestServices:
    async def test_sigterm_under_load_loses_no_answer(self, name: str, upstream: ScriptedServer) -> None:
        """It serves and is ready; told to stop it finishes what is under way, says so in one line, and ends.

        The server waits for its requests before the client is shut down: no call is left for the client
        then, but the subscription is.
        """
        async with Service(name, upstream.url) as service:
            assert await service.get("/hello", name="Ada") == (200, {"hello": "Hello, Ada!"})
            for probe in ("readinessProbe", "livenessProbe"):
                await service.until(Manifest(name).container[probe]["httpGet"]["path"], 200)
            first = (await service.until("/latest", 200))["count"]
            while (await service.until("/latest", 200))["count"] <= first + 5:
                assert len(upstream.upgrades) == 1

            gate = asyncio.Event()
            upstream.on("Hello", *[Answer(gate=gate)] * 8)
            calls = [asyncio.create_task(service.get("/hello", name=f"{n}")) for n in range(8)]
            await until(lambda: hellos(upstream) == 9, lambda: upstream.requests)
            await service.terminate()
            assert not any(call.done() for call in calls)
            gate.set()
            answers = await asyncio.gather(*calls)
            assert answers == [(200, {"hello": f"Hello, {n}!"}) for n in range(8)]
            assert await service.status() == STATUS[name]

        host = re.escape(f"127.0.0.1:{upstream.port}")
        reports = [line for line in service.log if "shutdown of" in line and "requests:" in line]
        assert len(reports) == 1, service.text
        assert re.search(
            rf"INFO graphql_prod: shutdown of {host}: clean in \d.*requests: 0 completed, 0 cancelled.*"
            r"subscriptions: 1 drained, 0 cancelled.*hooks failed: none",
            reports[0],
        )
        assert "Traceback" not in service.text, service.text
        assert TOKEN not in service.text
        assert {request.headers["Authorization"] for request in upstream.requests} == {TOKEN}
        assert [each.message["type"] for each in upstream.messages][-1] == "complete"

    async def test_a_stop_has_an_end_even_if_the_upstream_has_none(
        self, name: str, upstream: ScriptedServer
    ) -> None:
        """Requests that outlive the server's limit are cut; the clients are shut down all the same."""
        upstream.on("Hello", Answer.hang())
        async with Service(name, upstream.url, graceful=SHORT[name]) as service:
            await service.until("/latest", 200)
            call = asyncio.create_task(service.get("/hello"))
            await until(lambda: hellos(upstream) == 1, lambda: upstream.requests)
            await service.terminate()
            assert await service.status() == STATUS[name]
            await asyncio.wait({call}, timeout=5)
            assert call.exception() is not None or call.result()[0] >= 500
        assert re.search(r"shutdown of .*subscriptions: 1 drained, 0 cancelled", service.text), service.text

    async def test_an_upstream_that_is_down_is_told_and_outlived(
        self, name: str, upstream: ScriptedServer
    ) -> None:
        """Routes and readiness answer 503 with a reason, liveness 200; with the upstream all comes back."""
        async with Service(name, upstream.url) as service:
            await service.until("/latest", 200)
            assert (await service.get("/hello"))[0] == 200
            await upstream.stop()
            status, body = await service.get("/hello")
            assert (status, body["detail"]) == (503, "the upstream gave no answer: TransportError")
            readiness = await service.until("/readyz", 503)
            assert readiness["reasons"] == [{"reason": "unreachable"}]
            assert (await service.get("/livez"))[0] == 200

            await upstream.start()
            await service.until("/readyz", 200)
            assert (await service.get("/hello"))[0] == 200
            await service.logged("values are missing: down for")
            await service.terminate()
            assert await service.status() == STATUS[name]
        assert "Traceback" not in service.text, service.text

    async def test_a_subscription_that_fails_is_not_silent(self, name: str, upstream: ScriptedServer) -> None:
        """What the background meets is in the log, the service goes on, and can be stopped meanwhile."""
        upstream.on_init = lambda _: 4403
        async with Service(name, upstream.url) as service:
            await service.logged("the subscription failed; it begins anew in 5 s")
            await service.logged("SubscriptionClosedError: .*4403")
            assert (await service.get("/latest"))[0] == 503
            assert (await service.get("/hello"))[0] == 200
            assert (await service.get("/livez"))[0] == 200
            await service.terminate()
            assert await service.status() == STATUS[name]
        assert re.search(r"shutdown of .*subscriptions: 0 drained, 0 cancelled", service.text), service.text

    async def test_the_upstream_runs_until_it_is_told_to_stop(self) -> None:
        """The server that readers try the services with: it answers, counts, and ends well."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(EXAMPLES / "upstream.py"), "0"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
            url = line.split()[-1]
            async with ProductionClient(url) as client:
                assert (await client.query("{ hello }")).data == {"hello": "Hello, world!"}
                events = client.stream("subscription { count }")
                assert (await anext(events)).json["payload"]["data"] == {"count": 0}
                await events.aclose()
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), 20) == 0
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


class TestManifests:
    def test_the_grace_period_covers_the_longest_stop(self, name: str) -> None:
        """preStop, the server's requests, the client's deadline and a reserve fit, or the pod is killed."""
        manifest = Manifest(name)
        parts = [
            float(manifest.container["lifecycle"]["preStop"]["sleep"]["seconds"]),
            manifest.server_limit,
            float(manifest.environment["GRAPHQL_PROD_SHUTDOWN__DEADLINE"]),
            RESERVE,
        ]
        assert sum(parts) <= manifest.pod["terminationGracePeriodSeconds"]

    def test_the_sum_is_written_down(self, name: str) -> None:
        """The comment that readers will change their numbers by adds up, and the README agrees."""
        manifest = Manifest(name)
        text = (EXAMPLES / name / "kubernetes.yaml").read_text(encoding="utf-8")
        *parts, total = [int(number) for number in re.findall(r"^#  [ +=] +(\d+)  ", text, re.MULTILINE)]
        assert len(parts) == 4
        assert sum(parts) == total == manifest.pod["terminationGracePeriodSeconds"]
        assert parts[1] == manifest.server_limit
        assert parts[2] == float(manifest.environment["GRAPHQL_PROD_SHUTDOWN__DEADLINE"])
        readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        assert f"= {total} s" in readme

    def test_probes_leave_the_client_time_to_answer(self, name: str) -> None:
        """A readiness probe waits longer than the client's own, whose reason would be lost otherwise."""
        container = Manifest(name).container
        assert PROBE.total is not None
        assert container["readinessProbe"]["timeoutSeconds"] > PROBE.total
        port = container["ports"][0]["containerPort"]
        assert {container[each]["httpGet"]["port"] for each in ("readinessProbe", "livenessProbe")} == {port}

    def test_the_settings_are_the_clients(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every variable means something: an unknown one would only warn, and a test fails on warnings."""
        for key, value in Manifest(name).environment.items():
            monkeypatch.setenv(key, value)
        config = ProductionClient.from_config().config
        assert config.shutdown.deadline == 10
        assert config.headers["authorization"].get_secret_value() == TOKEN

    def test_the_token_comes_from_a_secret(self, name: str) -> None:
        """No credential stands in a manifest."""
        headers = [
            each
            for each in Manifest(name).container["env"]
            if each["name"].startswith("GRAPHQL_PROD_HEADERS")
        ]
        assert headers
        assert all("secretKeyRef" in each["valueFrom"] for each in headers)
