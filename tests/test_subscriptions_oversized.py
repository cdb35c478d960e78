"""1009: whose message was too large, who ends for it, and who goes on."""

from __future__ import annotations

import asyncio

import pytest
from subscribing import COUNT, Backend, Follower, Mode, Protocol, client_of, until
from talking import Talk, talking

from graphql_prod import SubscriptionClosedError, SubscriptionPolicy

LIMIT = 16 * 1024
LARGE = {"ids": ["x" * 100] * 300}


@pytest.fixture(params=[False, True], ids=["own", "shared"])
def share(request: pytest.FixtureRequest) -> bool:
    """Each test that asks for it runs on a socket of its own, and on a shared one."""
    return bool(request.param)


@pytest.fixture(params=[True, False], ids=["answered", "quiet"])
def answers(request: pytest.FixtureRequest) -> bool:
    """Whether the server has anything to tell on its own."""
    return bool(request.param)


async def counting(talk: Talk) -> None:
    await talk.hello()
    await talk.ack()
    while True:
        await talk.tell(await talk.asked(), talk.number)


async def silent(talk: Talk) -> None:
    await talk.hello()
    await talk.ack()
    await talk.quiet()


class TestOurs:
    async def test_a_subscription_that_is_too_large_for_the_server(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool, answers: bool
    ) -> None:
        """It ends alone, with a text that says whose message it was; a sibling on its socket goes on."""
        async with (
            talking(counting if answers else silent, max_msg_size=LIMIT) as server,
            client_of(server.url, backend, share_connection=share, linger=0.0) as client,
            Follower(client, "stream", protocol) as sibling,
        ):
            await until(lambda: server.of("subscribe", "start"))
            if answers:
                await sibling.began()
            error = await Follower(client, mode, protocol, COUNT, variables=LARGE).end()
            assert isinstance(error, SubscriptionClosedError)
            assert error.close_code == 1009
            assert "probably our message that was too large" in str(error)
            assert "smaller variables" in str(error)
            assert "max_response_bytes" not in str(error)
            if share:
                await until(lambda: len(server.of("subscribe", "start")) == 2)
                if answers:
                    await sibling.went_on()
                    assert sibling.gaps[0].close_code == 1009
            assert server.connections == 2
            assert not sibling.task.done()

    async def test_several_end_one_after_another(self, backend: Backend, protocol: Protocol) -> None:
        """The largest first; those that fit remain."""
        async with (
            talking(counting, max_msg_size=LIMIT) as server,
            client_of(server.url, backend, share_connection=True, linger=0.0) as client,
            Follower(client, "stream", protocol) as sibling,
        ):
            await sibling.began()
            errors = await asyncio.gather(
                *(Follower(client, "stream", protocol, COUNT, variables=LARGE).end() for _ in range(3))
            )
            assert all(isinstance(error, SubscriptionClosedError) for error in errors)
            await sibling.went_on(len(sibling.gaps) or 1)
            assert not sibling.task.done()

    async def test_a_connection_init_that_is_too_large(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool
    ) -> None:
        """Nothing else was sent: that was it."""
        async with (
            talking(counting, max_msg_size=LIMIT) as server,
            client_of(server.url, backend, share_connection=share, linger=0.0) as client,
        ):
            error = await Follower(client, mode, protocol, connection_init_payload=LARGE).end()
            assert isinstance(error, SubscriptionClosedError)
            assert error.close_code == 1009
            assert "our connection_init that was too large" in str(error)
            assert server.connections == 1


class TestTheirs:
    async def test_an_event_that_is_too_large_for_us(
        self, backend: Backend, protocol: Protocol, share: bool
    ) -> None:
        """It is the server's message then, however large ours was."""

        async def serve(talk: Talk) -> None:
            await talk.hello()
            await talk.ack()
            key = await talk.asked()
            await talk.send(type=talk.event, id=key, payload={"data": {"count": "x" * 5000}})
            await talk.quiet()

        async with (
            talking(serve) as server,
            client_of(
                server.url,
                backend,
                settings={"max_response_bytes": 2000},
                share_connection=share,
                linger=0.0,
            ) as client,
        ):
            error = await Follower(client, "stream", protocol, COUNT, variables=LARGE).end()
            assert isinstance(error, SubscriptionClosedError)
            assert error.close_code == 1009
            assert "Ask for less in an event, or raise max_response_bytes" in str(error)
            assert "our message" not in str(error)

    async def test_after_an_answer_nobody_is_blamed(
        self, backend: Backend, protocol: Protocol, share: bool
    ) -> None:
        """The server took our message; all that share the socket end, as with every fatal code."""

        async def serve(talk: Talk) -> None:
            await talk.hello()
            await talk.ack()
            for _ in range(1 + share):
                await talk.tell(await talk.asked(), 1)
            await talk.close(1009)

        async with (
            talking(serve) as server,
            client_of(server.url, backend, share_connection=share, linger=0.0) as client,
        ):
            followers = [
                Follower(client, "stream", protocol, COUNT, variables=LARGE) for _ in range(1 + share)
            ]
            for each in followers:
                error = await each.end()
                assert isinstance(error, SubscriptionClosedError)
                assert "A message was too large for the server" in str(error)
            assert server.connections == 1

    async def test_the_table_is_a_setting_here_too(self, backend: Backend, protocol: Protocol) -> None:
        """Who takes 1009 out of the fatal codes is reconnected."""
        fatal = SubscriptionPolicy().fatal_close_codes - {1009}
        async with (
            talking(silent, max_msg_size=LIMIT) as server,
            client_of(server.url, backend, fatal_close_codes=fatal) as client,
            Follower(client, "stream", protocol, COUNT, variables=LARGE),
        ):
            await until(lambda: server.connections >= 3)
