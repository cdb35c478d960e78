"""Whether to send a call to an upstream that is ill: a pure decision, and its odds."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from clocks import Hand
from hypothesis import given
from hypothesis import strategies as st

from graphql_prod import AdmissionPolicy, AdmissionRejectedError, ConfigurationError, ProductionConfig, clock
from graphql_prod.admission.admission import Admission
from graphql_prod.admission.decision import Health, admits, closes, is_quiet, opens, rejection

ON = AdmissionPolicy(mode="adaptive")

counts = st.integers(0, 10_000)
healths = st.builds(
    Health,
    offered=counts,
    sent=counts,
    ok=counts,
    streak=st.integers(0, 50),
    since=st.floats(0, 1e6),
    open=st.booleans(),
)
policies = st.builds(
    AdmissionPolicy,
    mode=st.just("adaptive"),
    k=st.floats(1, 10),
    window=st.floats(0.1, 120),
    min_requests=st.integers(1, 1000),
    max_rejection=st.floats(0.01, 1),
    probe_interval=st.floats(0.1, 60),
)


@given(policy=policies, health=healths, draw=st.floats(0, 1, exclude_max=True))
def test_the_decision(policy: AdmissionPolicy, health: Health, draw: float) -> None:
    """A probability within its bounds; never a rejection while closed, nor after the interval of probes."""
    odds = rejection(policy, health)
    assert 0 <= odds <= policy.max_rejection
    admitted = admits(policy, health, draw)
    if not health.open or health.since >= policy.probe_interval:
        assert admitted
    elif is_quiet(policy, health):
        assert not admitted
    else:
        assert admitted is (draw >= odds)
    assert not (opens(policy, health) and health.open)
    assert not closes(policy, health, success=False)
    assert not closes(policy, replace(health, open=False), success=True)


def test_the_formula() -> None:
    """max(0, (sent - k * ok) / (sent + 1)), over what was sent, and 0.9 at most."""
    assert rejection(ON, Health(sent=100, ok=50)) == 0
    assert rejection(ON, Health(sent=100, ok=25)) == pytest.approx(50 / 101)
    assert rejection(ON, Health(sent=1000, ok=0)) == 0.9
    assert rejection(ON, Health(sent=3, ok=0, open=True)) == 0.9


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 1000.0])
def test_an_outage(rate: float) -> None:
    """From 10 s into it, the larger of 15 % and one call a probe interval; then all of them within 10 s."""
    random.seed(1)
    hand = Hand(1000.0)
    with clock.using(hand):
        admission = Admission(ON, "here", None)

        def call(good: bool) -> bool:
            if not admission.admits():
                return False
            admission.sent()
            if good:
                admission.succeeded()
            else:
                admission.failed(first=True)
            return True

        sent = 0
        for good, seconds in ((True, 60.0), (False, 120.0), (True, 30.0)):
            begun = hand.now
            while hand.now < begun + seconds:
                hand.now += 1 / rate
                admitted = call(good)
                if not good and hand.now >= begun + max(10.0, 7 / rate):
                    sent += admitted
                if good and begun > 1001 and hand.now >= begun + 10 + 1 / rate:
                    assert admitted
        watched = 120 - max(10.0, 7 / rate)
        assert sent <= max(0.15 * rate, 1 / ON.probe_interval) * watched * 1.1 + 3
        assert admission.state == "closed"


def test_failures_that_are_few() -> None:
    """A tenth of failures at any rate holds nobody back."""
    random.seed(1)
    hand = Hand(1000.0)
    with clock.using(hand):
        admission = Admission(ON, "here", None)
        for number in range(5000):
            hand.now += 0.01
            assert admission.admits()
            admission.sent()
            if number % 10:
                admission.succeeded()
            else:
                admission.failed(first=True)


def test_rejections_do_not_feed_themselves() -> None:
    """Calls that were not sent count neither as sent nor as failed."""
    hand = Hand(1000.0)
    with clock.using(hand):
        admission = Admission(ON, "here", None)
        for _ in range(30):
            admission.admits()
            admission.sent()
            admission.failed(first=True)
        before = admission.health(hand.now)
        for _ in range(1000):
            admission.admits()
        after = admission.health(hand.now)
        assert (before.sent, before.streak) == (after.sent, after.streak)
        assert admission.rejected > 800


def test_a_clock_that_jumps() -> None:
    """Back and forth, by any number of windows: it forgets, and goes on."""
    hand = Hand(1000.0)
    with clock.using(hand):
        admission = Admission(ON, "here", None)
        for jump in (1e6, -1e6, 3.0, -2.0, 1e9):
            for _ in range(30):
                admission.admits()
                admission.sent()
                admission.failed(first=True)
            hand.now = max(0.0, hand.now + jump)
            assert admission.health(hand.now).sent <= 60
            admission.admits()


def test_by_hand() -> None:
    """Isolated it sends nothing, whatever its mode; restored it sends all, and has forgotten."""
    told: list[str] = []
    admission = Admission(AdmissionPolicy(), "here", told.append)
    assert not admission.on
    admission.isolate(" the database is being moved\n")
    assert admission.on
    assert not admission.admits()
    error = admission.error("It was not sent.")
    assert isinstance(error, AdmissionRejectedError)
    assert error.state == "isolated"
    assert "the database is being moved" in str(error)
    admission.restore()
    admission.restore()
    assert not admission.on
    assert told == ["admission isolated", "admission closed"]
    for nothing in ("", "  ", None, 3):
        with pytest.raises(ConfigurationError, match="reason"):
            admission.isolate(nothing)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"mode": "off", "k": 3}, "mode, k"),
        ({"mode": "adaptive", "window": 0}, "window"),
        ({"mode": "adaptive", "k": 0.5}, "k"),
        ({"mode": "adaptive", "max_rejection": 0}, "max_rejection"),
        ({"mode": "adaptive", "max_rejection": 1.1}, "max_rejection"),
        ({"mode": "adaptive", "min_requests": 0}, "min_requests"),
        ({"mode": "adaptive", "probe_interval": -1}, "probe_interval"),
        ({"mode": "on"}, "mode"),
    ],
)
def test_what_cannot_work(given: dict[str, object], names: str) -> None:
    """Named at construction."""
    with pytest.raises(ConfigurationError) as caught:
        ProductionConfig(admission=given)
    assert names in str(caught.value)


def test_thousands_of_clients() -> None:
    """What a client counts is small, whatever its traffic."""
    hand = Hand(0.0)
    with clock.using(hand):
        many = [Admission(ON, "here", None) for _ in range(5000)]
        for admission in many:
            for _ in range(10):
                admission.admits()
                admission.sent()
                admission.failed(first=True)
        assert all(admission.state == "open" for admission in many)
