"""Files of settings that somebody wrote in haste, or to do harm: refused by place, without secrets."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from graphql_prod import ConfigurationError, ProductionConfig, RetryPolicy
from graphql_prod.config import plain
from graphql_prod.sources import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from graphql_prod.errors import Problem

    Written = Callable[..., Path]

URL = "http://api.example.com/graphql"
SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's settings."""
    for name in [name for name in os.environ if name.upper().startswith("GRAPHQL_PROD_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Nothing to leave: these tests only make values."""


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes a file of settings."""

    def write(text: str, kind: str = "yaml") -> Path:
        path = tmp_path / f"client.{kind}"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(source: Any) -> dict[str, Problem]:
    with pytest.raises(ConfigurationError) as caught:
        load(source)
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.problems}"
    return {problem.key: problem for problem in caught.value.problems}


class TestTwice:
    @pytest.mark.parametrize(
        ("kind", "text", "key"),
        [
            ("yaml", f"endpoint: {URL}\nendpoint: {URL}\n", "endpoint"),
            ("yaml", "retry:\n  budget: {ratio: 1, ratio: 1}\n", "retry.budget.ratio"),
            ("yaml", f'headers:\n  X-A: {SECRET}\n  "X-A": {SECRET}\n', "headers.X-A"),
            ("yaml", "pool: {requests: 1}\npool: {}\n", "pool"),
            ("json", f'{{"endpoint": "{URL}", "endpoint": "http://u:{SECRET}@h"}}', "endpoint"),
            ("json", '{"retry": {"budget": {"ratio": 1, "ratio": 1}}}', "retry.budget.ratio"),
            ("json", '{"timeout": {"total": 1}, "timeout": {"total": 1}}', "timeout"),
            ("toml", "[pool]\nrequests = 1\nrequests = 2\n", "the file"),
        ],
        ids=range(8),
    )
    def test_in_a_file(self, written: Written, kind: str, text: str, key: str) -> None:
        """A key that a table has twice is told by its path, whatever the two say."""
        file = written(text, kind)
        assert problems(file)[key].source == str(file)

    def test_beside_others(self, written: Written) -> None:
        """It is told together with whatever else is wrong."""
        assert set(problems(written("method: put\nmethod: get\nmethod: put\nbackend: curl\n"))) == {
            "method",
            "backend",
        }

    def test_in_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So in a group that a variable holds as JSON; a header's value is no JSON."""
        monkeypatch.setenv("GRAPHQL_PROD_POOL", '{"requests": 1, "requests": 2}')
        monkeypatch.setenv("GRAPHQL_PROD_HEADERS__X_A", '{"a": 1, "a": 2}')
        found = problems(None)
        assert {key: problem.source for key, problem in found.items()} == {
            "pool.requests": "GRAPHQL_PROD_POOL"
        }

    def test_what_is_not_twice(self, written: Written) -> None:
        """The same name in two tables, and what an alias or a merge repeats, is given once in each."""
        file = written(
            "operations:\n  A: &a {timeout: &t {total: 3}}\n  B: *a\n"
            "  C: {<<: *a, retry: {attempts: 1}}\ntimeout: {<<: *t, total: 4}\n"
        )
        config = load(file).config
        assert config.timeout.total == 4
        assert {name: own.timeout.total for name, own in config.operations.items() if own.timeout} == {
            "A": 3,
            "B": 3,
            "C": 3,
        }


class TestWords:
    def test_off(self, written: Written) -> None:
        """``off`` is a text in YAML, where a choice has that name, and no in YAML 1.1's other words."""
        config = load(
            written(
                "schema: {mode: off}\ntelemetry: {document: off, traces: off, metrics: no}\ntrust_env: yes\n"
            )
        ).config
        assert (config.schema.mode, config.telemetry.document) == ("off", "off")
        assert (config.telemetry.traces, config.telemetry.metrics, config.trust_env) == (False, False, True)

    def test_other_words(self, written: Written) -> None:
        """``true`` and ``false`` are what they say; headers keep every word."""
        config = load(
            written("trust_env: TRUE\ntelemetry: {traces: false}\nheaders: {X: on, Y: 'no'}")
        ).config
        assert (config.trust_env, config.telemetry.traces) == (True, False)
        assert plain(config.headers) == {"X": "on", "Y": "no"}

    @pytest.mark.parametrize("word", ["true", "false"])
    def test_no_choice(self, written: Written, word: str) -> None:
        """``false`` is not "off": it is refused with what is allowed."""
        assert "'off'" in problems(written(f"schema: {{mode: {word}}}"))["schema.mode"].message


BOMB = "\n".join(
    f"l{i}: &l{i} {{" + ", ".join(f"k{j}: *l{i - 1}" for j in range(9)) + "}" for i in range(1, 9)
)
LISTS = "\n".join(f"l{i}: &l{i} [" + ", ".join([f"*l{i - 1}"] * 9) + "]" for i in range(1, 9))


class TestHarm:
    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            ("yaml", f"l0: &l0 {{a: 1}}\n{BOMB}"),
            ("yaml", f"l0: &l0 [a]\n{LISTS}\nheaders: *l8"),
            ("yaml", "headers: &a\n  x: *a\n"),
            ("yaml", "retry: &a [*a]\n"),
            ("yaml", "[" * 5000),
            ("yaml", "a: " * 300),
            ("json", "[" * 100_000),
            ("json", '{"a":' * 200 + "1" + "}" * 200),
            ("toml", ".".join(["a"] * 5000) + " = 1"),
            ("toml", "a = " + "[" * 5000 + "]" * 5000),
            ("toml", "max_response_bytes = " + "9" * 5000),
            ("json", json.dumps({"headers": {f"X-{number}": "" for number in range(100_001)}})),
            ("toml", "#" * (5 * 1024 * 1024)),
        ],
        ids=range(13),
    )
    def test_too_much(self, written: Written, kind: str, text: str) -> None:
        """Bombs, what holds itself, what is too deep or too long: one problem, at once."""
        started = time.monotonic()
        (problem,) = problems(written(text, kind)).values()
        assert problem.key == "the file"
        assert time.monotonic() - started < 30

    @pytest.mark.parametrize(
        "value",
        [
            f"!!python/object/apply:os.system ['{SECRET}']",
            f"!!timestamp {SECRET}",
            f"!!float {SECRET}",
            "!!int ''",
            f"!!bool {SECRET}",
            "2024-13-45",
            f"!!binary {SECRET}é",
            f"!{SECRET} x",
            f"*{SECRET}",
        ],
        ids=range(9),
    )
    def test_odd_tags(self, written: Written, value: str) -> None:
        """A value that is not what its tag says, or whose tag nobody knows, is told by its place only."""
        (problem,) = problems(written(f"method: get\nendpoint: {value}\n")).values()
        assert "line 2" in problem.message

    def test_odd_keys(self, written: Written) -> None:
        """Keys that are no texts are unknown settings."""
        assert set(problems(written("1: 2\nnull: 4\n2024-01-01: 5\n"))) == {"1", "None", "2024-01-01"}

    def test_no_regular_file(self, tmp_path: Path) -> None:
        """A pipe would be waited for without end."""
        os.mkfifo(tmp_path / "client.toml")
        assert "regular" in problems(tmp_path / "client.toml")["the file"].message

    def test_a_mapping(self) -> None:
        """A mapping that holds itself, and a number that Python does not write."""
        own: dict[str, Any] = {}
        own["retry"] = own
        assert "deep" in problems(own)["the settings"].message
        assert set(problems({"pool": {"requests": -(10**5000)}})) == {"pool.requests"}

    def test_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """JSON in a variable that is too deep."""
        monkeypatch.setenv("GRAPHQL_PROD_POOL", '{"a":' * 200 + "1" + "}" * 200)
        assert "deep" in problems(None)["the settings"].message


PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"


class TestContentForAName:
    @pytest.mark.parametrize("setting", ["ca_file", "cert_file", "key_file"])
    @pytest.mark.parametrize("encoded", [False, True])
    def test_key(self, setting: str, encoded: bool) -> None:
        """A key in the place of its file's name is not shown, nor is it in base64."""
        text = base64.b64encode(PEM.encode()).decode() if encoded else PEM
        tls = {"cert_file": "/no/such.pem", setting: text}
        with pytest.raises(ConfigurationError) as caught:
            ProductionConfig(tls=tls)
        assert text[:20] not in str(caught.value)
        assert SECRET not in str(caught.value)
        assert "a name is wanted" in str(caught.value)

    def test_a_name(self) -> None:
        """A name that is wrong is shown."""
        with pytest.raises(ConfigurationError, match=r"/etc/tls/clent\.pem and /etc/tls/client\.key"):
            ProductionConfig(tls={"cert_file": "/etc/tls/clent.pem", "key_file": "/etc/tls/client.key"})

    def test_settings(self) -> None:
        """Nor are settings in the place of their file's name."""
        (problem,) = problems(f'endpoint = "{URL}"\n[headers]\nAuthorization = "{SECRET}"').values()
        assert "no file's name" in problem.source


def test_json_of_a_config() -> None:
    """As JSON a config shows no credential of a URL; as values it is whole."""
    url = f"https://user:{SECRET}@h/graphql?token={SECRET}"
    config = ProductionConfig(endpoint=url, proxy=f"http://u:{SECRET}@p:1", headers={"A": SECRET})
    assert SECRET not in config.model_dump_json()
    assert SECRET not in str(config.model_dump(mode="json"))
    dumped = json.loads(config.model_dump_json())
    assert (dumped["endpoint"], dumped["proxy"]) == ("https://h/graphql", "http://p:1")
    assert config.model_dump()["endpoint"] == url
    assert json.loads(ProductionConfig().model_dump_json())["proxy"] is None


@pytest.mark.parametrize("char", ["\x00", "\x07", "\x7f", "\u200b", "\u2028"])
def test_endpoint_with_a_control_character(char: str) -> None:
    """What no URL can hold is refused when the settings are made."""
    with pytest.raises(ConfigurationError, match="control character"):
        ProductionConfig(endpoint=f"http://h/a{char}b")


def test_retry_of_a_file(written: Written) -> None:
    """None of this gets in the way of a plain file."""
    retry = load(written("retry:\n  statuses: [502, 503]\n  attempts: 2\n")).config.retry
    assert retry == RetryPolicy(statuses={502, 503}, attempts=2)
