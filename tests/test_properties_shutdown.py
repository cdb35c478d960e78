"""What holds for every deadline, however often it is brought forward, and whatever waits until then."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from skipping import skipping

from graphql_prod.shutdown.deadline import Deadline


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Nothing to leave: looking for it around each test would cost more than they do."""


# Quarters of a second: no two things are almost at once.
times = st.integers(0, 200).map(lambda quarters: quarters / 4)


@example(5.0, [(1.0, 50.0)])
@given(
    limit=st.none() | times,
    words=st.lists(st.tuples(times, st.none() | times | st.just(-1.0)), max_size=6),
)
def test_a_deadline_is_only_brought_forward(
    limit: float | None, words: list[tuple[float, float | None]]
) -> None:
    """It ends at the earliest of all the ends that anybody asked for while it ran, and says when that was."""

    async def use() -> None:
        now = asyncio.get_running_loop().time
        deadline = Deadline(limit)
        end = float("inf") if limit is None else now() + limit
        for pause, seconds in words:
            await asyncio.sleep(pause)
            if seconds is not None and now() < end:
                deadline.shorten(seconds)
                await asyncio.sleep(0)
                end = min(end, max(now(), now() + seconds))
            assert deadline.remaining == pytest.approx(max(0.0, end - now()))
        if end == float("inf"):
            assert not deadline.over.done()
            assert deadline.passed is None
        else:
            await deadline.over
            assert deadline.passed == pytest.approx(end)
            assert deadline.remaining == 0
        deadline.close()

    skipping(use)


@given(
    limit=st.none() | times,
    at_least=times,
    finishes=st.lists(times.map(lambda at: at + 0.125), min_size=1, max_size=3),
)
@example(1.0, 50.0, [2.125, 40.125])
def test_waiting_within_a_deadline(limit: float | None, at_least: float, finishes: list[float]) -> None:
    """The first that is done ends the wait, or the deadline, or what was granted beyond it."""

    async def use() -> None:
        loop = asyncio.get_running_loop()
        begun, deadline = loop.time(), Deadline(limit)
        futures: list[asyncio.Future[None]] = [loop.create_future() for _ in finishes]
        for future, at in zip(futures, finishes, strict=True):
            loop.call_later(at, future.set_result, None)
        done = await deadline.within(*futures, at_least=at_least)
        until = float("inf") if limit is None else max(limit, at_least)
        assert done is (min(finishes) < until)
        assert loop.time() - begun == pytest.approx(min(*finishes, until, min(finishes)))
        assert not any(future.cancelled() for future in futures)
        await asyncio.wait(futures)
        deadline.close()

    skipping(use)
