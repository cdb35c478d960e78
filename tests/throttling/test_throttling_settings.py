"""Settings of throttling: names of presets, and contradictions that are named."""

from __future__ import annotations

from typing import Any

import pytest

from graphql_prod import ConfigurationError, ProductionClient, ProductionConfig, ThrottlingPolicy

URL = "http://127.0.0.1:9/"


@pytest.mark.parametrize("name", ["github", "shopify", "linear", "monday", "hasura", "appsync", "GitHub"])
def test_a_preset_is_a_name(name: str) -> None:
    """``throttling="github"`` is the preset with mode retry; a mode that is named stays."""
    policy = ProductionConfig(throttling=name).throttling  # type: ignore[arg-type]
    assert (policy.preset, policy.mode) == (name.lower(), "retry")
    assert ThrottlingPolicy(preset=name.lower(), mode="pace").mode == "pace"  # type: ignore[arg-type]


def test_a_mode_is_a_name_too() -> None:
    """``throttling="pace"`` is that mode."""
    assert ProductionConfig(throttling="pace").throttling == ThrottlingPolicy(mode="pace")
    assert ProductionConfig().throttling.mode == "off"


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable may name the preset, or single settings."""
    monkeypatch.setenv("GRAPHQL_PROD_ENDPOINT", URL)
    monkeypatch.setenv("GRAPHQL_PROD_THROTTLING", "shopify")
    assert ProductionClient.from_config().config.throttling == ThrottlingPolicy(preset="shopify")
    monkeypatch.delenv("GRAPHQL_PROD_THROTTLING")
    monkeypatch.setenv("GRAPHQL_PROD_THROTTLING__MODE", "pace")
    monkeypatch.setenv("GRAPHQL_PROD_THROTTLING__RATE", "12.5")
    monkeypatch.setenv("GRAPHQL_PROD_THROTTLING__CODES", "SLOW,SLOWER")
    monkeypatch.setenv("GRAPHQL_PROD_THROTTLING__IDENTITY_HEADERS", "X-Tenant, Authorization")
    policy = ProductionClient.from_config().config.throttling
    assert (policy.mode, policy.rate, policy.codes) == ("pace", 12.5, frozenset({"SLOW", "SLOWER"}))
    assert policy.identity_headers == ("x-tenant", "authorization")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"rate": 3}, "mode, rate"),
        ({"mode": "off", "rate": 3}, "mode, rate"),
        ({"mode": "off", "preset": "github"}, "mode, preset"),
        ({"mode": "retry", "burst": 3}, "burst"),
        ({"mode": "retry", "wait_initial": 9, "wait_max": 3}, "wait_initial, wait_max"),
        ({"mode": "retry", "rate": 0}, "rate"),
        ({"mode": "retry", "rate": -1}, "rate"),
        ({"mode": "retry", "statuses": {200}}, "statuses"),
        ({"mode": "sometimes"}, "mode"),
        ({"preset": "gitlab"}, "preset"),
        ("gitlab", "throttling"),
    ],
)
def test_what_cannot_work(given: Any, names: str) -> None:
    """Named at construction, all of it."""
    with pytest.raises(ConfigurationError) as caught:
        ProductionConfig(throttling=given)
    assert names in str(caught.value)


async def _coroutine(*_: object) -> None: ...


@pytest.mark.parametrize(
    ("mode", "reader"),
    [("retry", 3), ("retry", _coroutine), ("off", lambda *_: None)],
    ids=["a number", "a coroutine function", "off"],
)
def test_readers_that_cannot_work(mode: Any, reader: Any) -> None:
    """A reader that nobody could ask, or that nobody asks."""
    with pytest.raises(ConfigurationError, match="throttle_reader"):
        ProductionClient(URL, config=ProductionConfig(throttling={"mode": mode}), throttle_reader=reader)
