"""Several upstreams in one process: what is meant for one of them never goes to another."""

from __future__ import annotations

import asyncio
import inspect
import os
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import tenacity

from graphql_prod import (
    INTERACTIVE,
    STANDARD,
    ConfigurationError,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.__main__ import main
from graphql_prod.config import plain
from graphql_prod.sources import load
from graphql_prod.urls import same_upstream

if TYPE_CHECKING:
    from pathlib import Path

    from graphql_prod.testing import ScriptedServer

A = "https://a.example.com/graphql"
B = "https://b.example.com/graphql"
SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream A's, as a deployment sets it."""
    for name in [name for name in os.environ if name.upper().startswith(("GRAPHQL_PROD_", "B_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRAPHQL_PROD_ENDPOINT", A.replace("://", f"://user:{SECRET}@"))
    monkeypatch.setenv("GRAPHQL_PROD_HEADERS__X_TOKEN", SECRET)


class NoIO:
    """Tests that only make values: the check for things left behind would cost more than they do."""

    @pytest.fixture(autouse=True)
    def nothing_left_behind(self) -> None:
        """Nothing to leave."""


class TestCode(NoIO):
    @pytest.mark.parametrize("as_config", [False, True])
    @pytest.mark.parametrize(
        ("name", "value", "key"),
        [
            (None, "", "headers.x-token"),
            ("GRAPHQL_PROD_PROXY", f"http://u:{SECRET}@p:3128", "proxy"),
            ("GRAPHQL_PROD_TLS__CA_FILE", "/no/such/file", "tls.ca_file"),
            ("graphql_prod_headers__x_api_key", SECRET, "headers.x-api-key"),
        ],
    )
    def test_another_endpoint(
        self, monkeypatch: pytest.MonkeyPatch, as_config: bool, name: str | None, value: str, key: str
    ) -> None:
        """Code names B, the environment A and what is A's: refused, with both and the way out."""
        if name is not None:
            monkeypatch.delenv("GRAPHQL_PROD_HEADERS__X_TOKEN")
            monkeypatch.setenv(name, value)
        endpoint = B.replace("://", f"://b:{SECRET}@") + f"?key={SECRET}"
        source: Any = ProductionConfig(endpoint=endpoint) if as_config else {"endpoint": endpoint}
        with pytest.raises(ConfigurationError) as caught:
            ProductionClient.from_config(source)
        text = str(caught.value)
        for said in (A, B, "GRAPHQL_PROD_ENDPOINT", "env_prefix", key):
            assert said in text
        assert SECRET not in text
        assert ProductionClient.from_config(source, env_prefix=None).config.headers == {}

    def test_a_config_of_another_endpoint(self, caplog: pytest.LogCaptureFixture) -> None:
        """The constructor's endpoint wins; one warning says what of the config goes there, and no value."""
        endpoint = A.replace("://", f"://user:{SECRET}@")
        proxy = f"http://u:{SECRET}@p:3128"
        config = ProductionConfig(endpoint=endpoint, headers={"X-Token": SECRET, "X-B": SECRET}, proxy=proxy)
        client = ProductionClient(B, {"x-b": "own"}, config=config)
        assert client.endpoint == B
        (record,) = caplog.records
        for said in (f"{A} of the config", B, "headers.X-Token, proxy."):
            assert said in record.getMessage()
        assert SECRET not in record.getMessage()
        assert "X-B" not in record.getMessage()

    @pytest.mark.parametrize("config", [{}, {"endpoint": A}, {"headers": {"X": "1"}}])
    def test_a_config_for_any_endpoint(self, config: Any, caplog: pytest.LogCaptureFixture) -> None:
        """What names no other endpoint, or nothing that is meant for it, may be used for several."""
        for endpoint in (A, B):
            ProductionClient(endpoint, config=ProductionConfig(**config))
        ProductionClient(A + "/", config=ProductionConfig(endpoint=A, headers={"X": "1"}))
        assert not caplog.records

    @pytest.mark.parametrize(
        "same",
        [
            A,
            "HTTPS://A.example.com:443/graphql/",
            "wss://a.example.com/graphql",
            f"https://other:{SECRET}@a.example.com./graphql",
        ],
    )
    def test_the_same_endpoint(self, same: str) -> None:
        """Another spelling is no other upstream."""
        assert plain(load({"endpoint": same}).config.headers) == {"x-token": SECRET}

    @pytest.mark.parametrize(
        "other",
        [
            "http://a.example.com/graphql",
            "https://a.example.com:8443/graphql",
            "https://a.example.com/other",
            "https://a.example.com/graphql?tenant=2",
            "https://a.example.com.evil.example/graphql",
        ],
    )
    def test_nearly_the_same(self, other: str) -> None:
        """Another scheme, port, path or query is another upstream."""
        with pytest.raises(ConfigurationError, match="env_prefix"):
            load({"endpoint": other})

    def test_nothing_of_the_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where code replaces every header, nothing would be sent that is A's; limits are nobody's secret."""
        monkeypatch.setenv("GRAPHQL_PROD_TIMEOUT", "interactive")
        config = load({"endpoint": B, "headers": {"X-Token": "mine"}}).config
        assert list(plain(config.headers).values()) == ["mine"]
        assert config.timeout == INTERACTIVE

    def test_only_one_endpoint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Endpoint in code, token in the environment: one upstream."""
        monkeypatch.delenv("GRAPHQL_PROD_ENDPOINT")
        assert plain(load({"endpoint": B}).config.headers) == {"x-token": SECRET}

    def test_with_other_problems(self) -> None:
        """It is told together with whatever else is wrong."""
        with pytest.raises(ConfigurationError) as caught:
            load({"endpoint": B, "method": "put"})
        assert {problem.key for problem in caught.value.problems} == {"endpoint", "method"}


class TestFile(NoIO):
    def test_replaced(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The environment wins over a file; a warning says what of the file goes to another endpoint."""
        file = tmp_path / "b.toml"
        file.write_text(f'endpoint = "{B}?key={SECRET}"\n[headers]\nX-Api-Key = "{SECRET}"')
        assert load(file).config.endpoint == A.replace("://", f"://user:{SECRET}@")
        (record,) = (r for r in caplog.records if (r.name, r.levelname) == ("graphql_prod", "WARNING"))
        for said in (A, B, str(file), "GRAPHQL_PROD_ENDPOINT", "headers.X-Api-Key", "env_prefix"):
            assert said in record.getMessage()
        assert SECRET not in str(vars(record))

    def test_the_same(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """No warning where both name one upstream, or where nothing is read from the environment."""
        file = tmp_path / "b.toml"
        file.write_text(f'endpoint = "{A}/"')
        load(file)
        file.write_text(f'endpoint = "{B}"')
        assert load(file, env_prefix=None).config == ProductionConfig(endpoint=B)
        assert not caplog.records


class TestPrefix(NoIO):
    def test_of_its_own(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """With a prefix of its own a client reads its own variables and none of the other's."""
        monkeypatch.setenv("B_HEADERS__X_API_KEY", "b")
        monkeypatch.setenv("b_operations__FindAll__TIMEOUT", "interactive")
        file = tmp_path / "b.toml"
        file.write_text(f'endpoint = "{B}"')
        for source in (file, {"endpoint": B}, ProductionConfig(endpoint=B)):
            client = ProductionClient.from_config(source, env_prefix="B_")
            assert client.endpoint == B
            assert plain(client.config.headers) == {"x-api-key": "b"}
            assert client.config.operations["FindAll"].timeout == INTERACTIVE

    def test_in_texts(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """Problems and warnings name the variables of that prefix."""
        monkeypatch.setenv("B_RETRY__ATTEMPTS", "0")
        monkeypatch.setenv("B_ENDPIONT", B)
        with pytest.raises(ConfigurationError) as caught:
            ProductionClient.from_config(env_prefix="B_")
        assert "set B_ENDPOINT" in str(caught.value)
        assert "B_RETRY__ATTEMPTS" in str(caught.value)
        assert "did you mean B_ENDPOINT?" in caplog.text
        with pytest.raises(ConfigurationError) as caught:
            ProductionClient.from_config(env_prefix=None)
        assert "is missing; name it in the settings" in str(caught.value)

    @pytest.mark.parametrize("prefix", ["", " ", 5, b"B_"])
    def test_that_is_none(self, prefix: Any) -> None:
        """An empty prefix would make every variable a setting."""
        with pytest.raises(ConfigurationError, match="env_prefix must be"):
            load(env_prefix=prefix)

    def test_of_a_command(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """``--env-prefix`` in the command that prints the settings."""
        monkeypatch.setenv("B_ENDPOINT", B)
        assert main(["config", "--env-prefix", "B_"]) == 0
        out = capsys.readouterr().out
        assert f"{B}" in out
        assert "# B_ENDPOINT" in out
        assert A not in out
        assert main(["config", "--env-prefix", ""]) == 2

    @pytest.mark.parametrize("command", ["check", "schema"])
    async def test_of_a_command_that_asks(
        self, monkeypatch: pytest.MonkeyPatch, server: ScriptedServer, command: str
    ) -> None:
        """And in those that ask the server."""
        monkeypatch.setenv("B_ENDPOINT", server.url)
        monkeypatch.setenv("B_HEADERS__X_KEY", "b")
        assert await asyncio.to_thread(main, [command, "--env-prefix", "B_"]) == 0
        (request,) = server.requests
        assert request.headers["X-Key"] == "b"
        assert "X-Token" not in request.headers


class TestObjects:
    async def test_reach_the_constructor(self, server: ScriptedServer) -> None:
        """Each argument beside settings is the constructor's."""
        async with aiohttp.ClientSession() as session:
            client = ProductionClient.from_config(
                {"endpoint": server.url, "timeout": "batch", "retry": {"attempts": 7, "statuses": [503]}},
                env_prefix=None,
                session=session,
                timeout=2.5,
                retry=tenacity.AsyncRetrying(),
                method="get",
                headers={"X-A": "1"},
                headers_provider=lambda: {"X-B": "2"},
                validate=False,
            )
            async with client:
                await client.query("{ hello }")
            assert not session.closed
        (request,) = server.requests
        assert (request.method, request.headers["X-A"], request.headers["X-B"]) == ("GET", "1", "2")
        assert client.config.timeout == TimeoutPolicy(total=2.5)

    def test_are_named(self) -> None:
        """Every argument of the constructor has a name and a type in ``from_config`` too."""
        made = inspect.signature(ProductionClient.from_config).parameters
        constructor = set(inspect.signature(ProductionClient).parameters) - {"endpoint", "config"}
        assert constructor <= set(made)
        assert not [name for name, parameter in made.items() if parameter.annotation in ("Any", "object")]
        unknown: Any = {"sesion": None}
        with pytest.raises(TypeError, match="sesion"):
            ProductionClient.from_config({"endpoint": B}, env_prefix=None, **unknown)

    def test_subclass(self) -> None:
        """A subclass may take more than we do, or less."""

        class More(ProductionClient):
            def __init__(self, endpoint: str, *, tenant: str = "", **others: Any) -> None:
                super().__init__(endpoint, **others)
                self.tenant = tenant

        class Less(ProductionClient):
            def __init__(self, endpoint: str, *, config: ProductionConfig) -> None:
                super().__init__(endpoint, config=config)

        own: Any = {"tenant": "t"}
        assert More.from_config({"endpoint": B}, env_prefix=None, **own).tenant == "t"
        assert Less.from_config({"endpoint": B}, env_prefix=None).endpoint == B


class TestConstructor(NoIO):
    def test_replaces_a_group(self) -> None:
        """``timeout=`` and ``retry=`` of the constructor stand in place of the config's groups."""
        config = ProductionConfig(
            timeout={"total": 9, "connect": 0.5},
            retry={"attempts": 7, "statuses": [503]},
            pool={"requests": 3},
        )
        client = ProductionClient(B, config=config, timeout=2.0, retry=RetryPolicy(attempts=2))
        assert client.config.timeout == TimeoutPolicy(total=2.0)
        assert client.config.retry == RetryPolicy(attempts=2)
        assert client.config.pool.requests == 3
        assert ProductionClient(B, config=config, timeout="standard").config.timeout == STANDARD
        assert ProductionClient(B, timeout=TimeoutPolicy(read=3)).config.timeout == TimeoutPolicy(read=3)
        assert ProductionClient(B, config=config).config.timeout.total == 9

    @pytest.mark.parametrize(
        ("given", "key"),
        [
            ({"timeout": -1}, "timeout.total"),
            ({"timeout": True}, "timeout"),
            ({"timeout": "soon"}, "timeout"),
            ({"retry": 3}, "retry"),
        ],
    )
    def test_wrong(self, given: dict[str, Any], key: str) -> None:
        """What cannot work is told by its key, with whatever else is wrong."""
        with pytest.raises(ConfigurationError) as caught:
            ProductionClient(B, method="put", **given)
        assert {problem.key for problem in caught.value.problems} == {key, "method"}


def test_upstreams_that_cannot_be_read() -> None:
    """Endpoints that are none are compared as they are."""
    assert same_upstream("http://[x", "http://[x ")
    assert not same_upstream("http://[x", A)
