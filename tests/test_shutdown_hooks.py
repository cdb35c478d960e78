"""What a program does before and after its client ends: in order, in time, and stopping nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import until

from graphql_prod import ClientClosedError, ConfigurationError, ProductionClient, ShutdownReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from graphql_prod.shutdown.hooks import HookPhase

PHASES: tuple[HookPhase, ...] = ("before", "after")


@pytest.fixture
async def client() -> AsyncIterator[ProductionClient]:
    """A client that has nothing under way, and nobody to talk to."""
    async with ProductionClient("http://h.example/graphql", validate=False) as client:
        yield client


@pytest.fixture(params=PHASES)
def phase(request: pytest.FixtureRequest) -> HookPhase:
    """Each test that asks for it runs once a phase."""
    return request.param  # type: ignore[no-any-return]


async def ended(client: ProductionClient, deadline: float = 20) -> ShutdownReport:
    """Shut down; it must not hang."""
    return await asyncio.wait_for(client.shutdown(deadline), 10)


class TestOrder:
    async def test_of_every_kind_in_the_order_of_their_registration(self, client: ProductionClient) -> None:
        """One after another, each through before the next; and the states are those promised."""
        said: list[tuple[str, str]] = []

        def say(name: str) -> None:
            said.append((name, client.state))

        async def slow(name: str = "coroutine function") -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            say(name)

        class Callable_:  # noqa: N801
            async def __call__(self) -> None:
                await slow("object")

        @client.on_shutdown
        async def plain() -> None:
            await slow("decorator")

        @client.on_shutdown(phase="after")
        def bracketed() -> str:
            say("decorator with brackets")
            return "what a hook returns is nobody's business"

        client.on_shutdown(lambda: say("function"), phase="after")
        client.on_shutdown(slow)
        partial = functools.partial(slow, "partial")
        assert client.on_shutdown(partial) is partial
        client.on_shutdown(Callable_(), phase="after")
        client.with_options(timeout=1).on_shutdown(lambda: slow("coroutine from a view's function"))
        assert (plain.__name__, bracketed()) == ("plain", "what a hook returns is nobody's business")
        said.clear()
        report = await ended(client)
        before = ["decorator", "coroutine function", "partial", "coroutine from a view's function"]
        after = ["decorator with brackets", "function", "object"]
        assert said == [(each, "draining") for each in before] + [(each, "closing") for each in after]
        assert report.clean
        assert client.state == "closed"


class TestRegistration:
    @pytest.mark.parametrize("hook", [5, "hook", ("f",)], ids=repr)
    async def test_what_cannot_be_called_is_refused(self, client: ProductionClient, hook: Any) -> None:
        """When it is registered, not when the program ends."""
        with pytest.raises(ConfigurationError, match="a hook must be a callable, not"):
            client.on_shutdown(hook)

    @pytest.mark.parametrize("phase", ["during", None, "", ["before"]], ids=repr)
    async def test_an_unknown_phase_is_refused(self, client: ProductionClient, phase: Any) -> None:
        """A hook that would never run is a mistake."""
        with pytest.raises(ConfigurationError, match="phase must be 'before' or 'after'"):
            client.on_shutdown(print, phase=phase)

    async def test_too_late(self, client: ProductionClient) -> None:
        """A phase that has begun takes no more hooks, and says so; the other one still does."""
        refused: list[HookPhase] = []
        ran: list[str] = []

        def register(what: str) -> None:
            for phase in PHASES:
                try:
                    client.on_shutdown(lambda: ran.append(what), phase=phase)
                except ClientClosedError as error:
                    assert f"The {phase} hook <lambda> comes too late" in str(error)  # noqa: PT017
                    refused.append(phase)

        client.on_shutdown(lambda: register("in before"))
        client.on_shutdown(lambda: register("in after"), phase="after")
        assert (await ended(client)).clean
        register("after the end")
        assert refused == ["before", "before", "after", "before", "after"]
        assert ran == ["in before"]


def raising() -> None:
    raise LookupError("it failed")


async def raising_later() -> None:
    await asyncio.sleep(0)
    raise LookupError("it failed")


async def cancelling_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


def raising_a_cancel() -> None:
    raise asyncio.CancelledError


class Failing:
    def __call__(self) -> None:
        raise LookupError("it failed")


class TestFailing:
    @pytest.mark.parametrize(
        ("hook", "name"),
        [
            (raising, "raising"),
            (raising_later, "raising_later"),
            (cancelling_itself, "cancelling_itself"),
            (raising_a_cancel, "raising_a_cancel"),
            (functools.partial(functools.partial(raising)), "raising"),
            (Failing(), "Failing"),
            (lambda: raising_later(), "<lambda>"),
        ],
        ids=["function", "coroutine", "cancel", "raised cancel", "partial", "object", "lambda"],
    )
    async def test_it_is_logged_named_and_stops_nothing(
        self,
        client: ProductionClient,
        caplog: pytest.LogCaptureFixture,
        phase: HookPhase,
        hook: Callable[[], Any],
        name: str,
    ) -> None:
        """The next one runs, the client is closed, and the report says whose fault it was."""
        ran: list[str] = []
        client.on_shutdown(lambda: ran.append("earlier"), phase=phase)
        client.on_shutdown(hook, phase=phase)
        client.on_shutdown(lambda: ran.append("later"), phase=phase)
        report = await ended(client)
        assert (ran, client.state) == (["earlier", "later"], "closed")
        assert (report.hooks_failed, report.clean) == ((name,), False)
        assert name in str(report)
        [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert f"the {phase} hook {name} failed with" in record.getMessage()
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], LookupError | asyncio.CancelledError)


class TestTime:
    @pytest.mark.parametrize("deadline", [0, 0.05])
    async def test_one_that_hangs_is_cancelled(
        self, client: ProductionClient, caplog: pytest.LogCaptureFixture, phase: HookPhase, deadline: float
    ) -> None:
        """At the deadline and a moment later: then it is named, and the rest goes on."""
        heard: list[str] = []

        async def hanging() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                heard.append("cancel")

        client.on_shutdown(hanging, phase=phase)
        client.on_shutdown(lambda: heard.append("next"), phase=phase)
        report = await ended(client, deadline)
        assert heard == ["cancel", "next"]
        assert (report.hooks_failed, client.state) == (("hanging",), "closed")
        assert f"the {phase} hook hanging has outlived the deadline and is cancelled" in caplog.text
        assert report.duration < 2

    async def test_one_that_swallows_the_cancel_holds_up_nothing(
        self, client: ProductionClient, phase: HookPhase
    ) -> None:
        """It is given a moment to end, and is left behind."""
        over, left = asyncio.Event(), asyncio.Event()

        async def deaf() -> None:
            while not over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await over.wait()
            left.set()

        client.on_shutdown(deaf, phase=phase)
        try:
            report = await ended(client, 0)
            left_behind = not left.is_set()
        finally:
            over.set()
        await asyncio.wait_for(left.wait(), 10)
        assert (report.hooks_failed, client.state, left_behind) == (("deaf",), "closed", True)
        assert report.duration < 3

    async def test_when_no_time_is_left_they_get_a_moment_together(
        self, client: ProductionClient, phase: HookPhase
    ) -> None:
        """Enough for a short one to write a line somewhere; not once for each of those that hang."""
        wrote: list[None] = []

        async def short() -> None:
            for _ in range(10):
                await asyncio.sleep(0)
            wrote.append(None)

        client.on_shutdown(short, phase=phase)
        for _ in range(8):
            client.on_shutdown(asyncio.Event().wait, phase=phase)
        report = await ended(client, 0)
        assert (len(wrote), report.hooks_failed) == (1, ("wait",) * 8)
        assert report.phases[phase] < 1  # of a quarter of a second; once for each would be two

    async def test_a_shorter_deadline_reaches_a_hook_that_runs(self, client: ProductionClient) -> None:
        """A second signal does not wait for what the first one was willing to wait for."""
        began = asyncio.Event()

        async def hanging() -> None:
            began.set()
            await asyncio.Event().wait()

        client.on_shutdown(hanging)
        ending = asyncio.create_task(client.shutdown(20))
        await asyncio.wait_for(began.wait(), 10)
        report = await ended(client, 0)
        assert await ending is report
        assert report.hooks_failed == ("hanging",)

    async def test_a_loop_that_ends_in_mid_hook_skips_no_other_phase(self, client: ProductionClient) -> None:
        """``asyncio.run`` cancels what is left: no more time, but the ``after`` hooks run."""
        heard: list[str] = []

        async def hanging() -> None:
            try:
                heard.append("began")
                await asyncio.Event().wait()
            finally:
                heard.append("cancelled")

        client.on_shutdown(hanging)
        client.on_shutdown(lambda: heard.append("after"), phase="after")

        async def program() -> None:
            ending = asyncio.create_task(client.shutdown(20))
            await until(lambda: heard)
            del ending

        await asyncio.wait_for(asyncio.to_thread(asyncio.run, program()), 10)
        assert heard == ["began", "cancelled", "after"]
        assert client.state == "closed"
