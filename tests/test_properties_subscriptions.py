"""What holds for every close code, and for every wait between two connections."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphql_prod import SubscriptionClosedError, SubscriptionPolicy, TransportError
from graphql_prod.subscriptions.backoff import ReconnectBackoff
from graphql_prod.subscriptions.endings import RejectedError, SocketClosed, UpgradeRefusedError
from graphql_prod.subscriptions.losses import loss_of
from graphql_prod.subscriptions.reconnect import ReconnectDecision, should_reconnect

# The contract's, section 5.
FATAL = {4400, 4401, 4403, 4406, 4409, 4429, 4500, 1002, 1003, 1007, 1009, 1010, 1015}
CREDENTIALS = {4401, 4403}
EVERY = (None, *range(65536))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Nothing to leave: looking for it around each test would cost more than they do."""


@pytest.mark.parametrize("established", [False, True])
def test_every_close_code(established: bool) -> None:
    """The table is total: of all that a frame can hold, the contract's codes end, the others and none return.

    Credentials that were refused are renewed where there are others.
    """
    fatal = SubscriptionPolicy().fatal_close_codes
    for code in EVERY:
        loss = loss_of(SocketClosed(code))
        expected = ReconnectDecision.FATAL if code in FATAL else ReconnectDecision.AGAIN
        assert should_reconnect(loss, fatal, established=established, renewable=False) is expected, code
        if code in CREDENTIALS:
            expected = ReconnectDecision.RENEW
        assert should_reconnect(loss, fatal, established=established, renewable=True) is expected, code


@given(
    fatal=st.frozensets(st.integers(1000, 4999), max_size=5),
    code=st.none() | st.integers(0, 65535),
    established=st.booleans(),
    listed=st.booleans(),
)
def test_the_table_is_a_setting(
    fatal: frozenset[int], code: int | None, established: bool, listed: bool
) -> None:
    """Whatever the setting lists ends a subscription, and nothing else does."""
    if listed and code is not None and 1000 <= code <= 4999:
        fatal |= {code}
    codes = SubscriptionPolicy(fatal_close_codes=fatal).fatal_close_codes
    verdict = should_reconnect(loss_of(SocketClosed(code)), codes, established=established, renewable=False)
    assert verdict is (ReconnectDecision.FATAL if code in fatal else ReconnectDecision.AGAIN)


@given(code=st.none() | st.integers(0, 65535), reason=st.none() | st.text("abc é", max_size=20))
def test_the_error_of_a_close(code: int | None, reason: str | None) -> None:
    """Code and reason reach the caller; what is logged has the code, and never the server's words."""
    loss = loss_of(SocketClosed(code, reason))
    later = loss.error("h", "after 1 attempt", established=True)
    assert isinstance(later, SubscriptionClosedError)
    assert later.close_code == code
    assert later.close_reason
    assert not reason or later.close_reason == reason
    assert code is None or f"closed the connection with {code}{f' ({reason})' if reason else ''}," in str(
        later
    )
    first = loss.error("h", "after 1 attempt", established=False)
    assert type(first) is (TransportError if code is None else SubscriptionClosedError)
    said = "without a word" if code is None else f"with {code}"
    assert (loss.logged or loss.what) == f"closed the connection {said}"


@given(words=st.text("abc é", max_size=20))
def test_the_error_of_a_rejection(words: str) -> None:
    """The server's words are told to the caller, where there are any, and never logged."""
    loss = loss_of(RejectedError(words))
    error = loss.error("h", "after 1 attempt", established=False)
    assert f"h refused the connection{f' ({words})' if words else ''}," in str(error)
    assert loss.logged == "refused the connection"


@pytest.mark.parametrize("status", range(300, 400))
def test_a_redirect_of_an_upgrade(status: int) -> None:
    """Is told as one, with its target's host and nothing else of it."""
    loss = loss_of(UpgradeRefusedError(status, {"Location": "https://user:s3cr3t@other/x?s3cr3t"}))
    assert loss.what.endswith(", a redirect to other that is not followed")
    assert loss.final


def test_the_cause_of_a_loss() -> None:
    """What really happened stays below the error, at first and later."""
    refused = ConnectionRefusedError()
    for established in (False, True):
        assert loss_of(refused).error("h", "", established=established).__cause__ is refused


positive = st.floats(0, 1e6, allow_nan=False)


@given(
    numbers=st.tuples(positive, positive).map(sorted),
    floors=st.lists(st.just(0.0) | st.floats(0, 1e9), min_size=1, max_size=45),
    seed=st.integers(),
)
def test_waits_stay_within_their_bounds(numbers: list[float], floors: list[float], seed: int) -> None:
    """A wait lies between nothing and a cap that doubles up to wait_max.

    What the server asks for comes on top, and even so no wait is longer than wait_max. Once all is well it
    begins anew.
    """
    initial, longest = numbers
    random.seed(seed)
    backoff = ReconnectBackoff(SubscriptionPolicy(wait_initial=initial, wait_max=longest))
    caps = [min(longest, initial * 2**n) for n in range(len(floors))]
    assert caps == sorted(caps)
    for floor, cap in zip(floors, caps, strict=True):
        wait = backoff.wait(floor)
        assert min(floor, longest) <= wait <= min(floor + cap, longest)
    backoff.forget()
    assert backoff.wait() <= initial


def test_waits_use_all_of_their_bounds() -> None:
    """Full jitter: each wait is drawn from all between nothing and its cap, and the caps do double."""
    random.seed(8)
    caps = [1, 2, 4, 8, 16, 20, 20, 20]
    rounds = []
    for _ in range(500):
        backoff = ReconnectBackoff(SubscriptionPolicy(wait_initial=1, wait_max=20))
        rounds.append([backoff.wait() for _ in caps])
    for cap, waits in zip(caps, zip(*rounds, strict=True), strict=True):
        assert min(waits) < 0.05 * cap
        assert 0.95 * cap < max(waits) <= cap
