"""A directory with one setting a file: mounted secrets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from graphql_prod import ConfigurationError, ProductionClient, ProductionConfig, RetryPolicy
from graphql_prod.__main__ import main
from graphql_prod.config import plain
from graphql_prod.settings.variables import PREFIX, Variables
from graphql_prod.sources import load

if TYPE_CHECKING:
    from pathlib import Path

A = "https://a.example.com/graphql"
B = "https://b.example.com/graphql"
SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's settings."""
    for name in [name for name in os.environ if name.upper().startswith("GRAPHQL_PROD_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Nothing to leave: these tests only make values."""


def mounted(folder: Path, **files: str) -> Path:
    """A directory of secrets as Kubernetes mounts one: links into a directory that is replaced as a whole."""
    version = folder / "..2026_07_01"
    version.mkdir(parents=True)
    (folder / "..data").symlink_to(version.name)
    for name, text in files.items():
        (version / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")
    return folder


def problems(**arguments: Any) -> dict[str, tuple[str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        load(**arguments)
    assert SECRET not in f"{caught.value} {caught.value!r}"
    return {problem.key: (problem.message, problem.source) for problem in caught.value.problems}


@pytest.mark.parametrize("by", ["argument", "variable", "command"])
def test_between_environment_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    """Files win over a settings file and lose to the environment; each setting knows its file."""
    folder = mounted(
        tmp_path / "secrets",
        graphql_prod_headers__authorization=f"Bearer {SECRET}\n",
        GRAPHQL_PROD_RETRY__ATTEMPTS="3\n",
        graphql_prod_retry__wait_max="5",
        graphql_prod_operations__Report__timeout="batch\n",
        another_programs=SECRET,
        graphql_prod_proxy="\n",
    )
    file = tmp_path / "client.toml"
    file.write_text(f'endpoint = "{A}"\n[retry]\nattempts = 2\nwait_max = 9\nwait_initial = 0.1')
    monkeypatch.setenv("GRAPHQL_PROD_RETRY__ATTEMPTS", "4")
    if by != "argument":
        monkeypatch.setenv("GRAPHQL_PROD_SECRETS_DIR", str(folder))
    if by == "command":
        assert main(["config", "--config", str(file)]) == 0
        out = capsys.readouterr().out
        assert str(folder / "graphql_prod_headers__authorization") in out
        assert SECRET not in out
        return
    loaded = load(file, secrets_dir=folder if by == "argument" else None)
    retry = loaded.config.retry
    assert isinstance(retry, RetryPolicy)
    assert (retry.attempts, retry.wait_max, retry.wait_initial) == (4, 5, 0.1)
    assert plain(loaded.config.headers) == {"authorization": f"Bearer {SECRET}"}
    assert list(loaded.config.operations) == ["Report"]
    assert loaded.config.proxy is None
    assert loaded.origin(("retry", "wait_max")) == str(folder / "graphql_prod_retry__wait_max")


def test_dashes(tmp_path: Path) -> None:
    """A file's name may spell a header as HTTP does."""
    folder = mounted(tmp_path / "s", **{"graphql_prod_headers__X-Api-Key": SECRET})
    loaded = load(secrets_dir=str(folder))
    assert plain(loaded.config.headers) == {"x-api-key": SECRET}
    assert loaded.origin(("headers", "x-api-key")) == str(folder / "graphql_prod_headers__X-Api-Key")


def test_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files go by the prefix of the variables; where none are read, by the usual one."""
    folder = mounted(tmp_path / "s", b_headers__x_key="b", graphql_prod_headers__x_key="a")
    assert plain(load(env_prefix="B_", secrets_dir=folder).config.headers) == {"x-key": "b"}
    assert plain(load(env_prefix=None, secrets_dir=folder).config.headers) == {"x-key": "a"}
    monkeypatch.setenv("B_SECRETS_DIR", str(folder))
    assert plain(load(env_prefix="B_").config.headers) == {"x-key": "b"}
    assert load(env_prefix=None).config == ProductionConfig()


def test_problems(tmp_path: Path) -> None:
    """A wrong value is told with its file, and not shown where it may be secret."""
    folder = mounted(
        tmp_path / "s", graphql_prod_retry__attempts="0", graphql_prod_endpoint=f"ftp://u:{SECRET}@h"
    )
    found = problems(secrets_dir=folder)
    assert found["retry.attempts"][1] == str(folder / "graphql_prod_retry__attempts")
    assert found["endpoint"][1] == str(folder / "graphql_prod_endpoint")


def test_misspelt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt file is warned of; another program's file is not."""
    folder = mounted(tmp_path / "s", graphql_prod_endpiont=SECRET, token=SECRET)
    assert load(secrets_dir=folder).config == ProductionConfig()
    (record,) = caplog.records
    assert str(folder / "graphql_prod_endpiont") in record.getMessage()
    assert "ENDPOINT?" in record.getMessage()
    assert SECRET not in str(vars(record))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (1024 * 1024 + 1)])
def test_no_text(tmp_path: Path, content: bytes) -> None:
    """What is no text, or far too long for one, is refused by its name."""
    (tmp_path / "graphql_prod_headers__x_key").write_bytes(content)
    ((_, source),) = problems(secrets_dir=tmp_path).values()
    assert source == str(tmp_path / "graphql_prod_headers__x_key")


@pytest.mark.parametrize("kind", ["missing", "a file", "a number"])
def test_no_directory(tmp_path: Path, kind: str) -> None:
    """A directory that cannot be read stops the start: without its secrets nothing would work."""
    folder: Any = {"missing": tmp_path / "gone", "a file": tmp_path / "f", "a number": 3}[kind]
    (tmp_path / "f").touch()
    with pytest.raises(ConfigurationError, match="secrets_dir"):
        load(secrets_dir=folder)


def test_of_another_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that the environment names is the environment's; one that code names is code's."""
    folder = mounted(tmp_path / "s", graphql_prod_headers__authorization=SECRET)
    monkeypatch.setenv("GRAPHQL_PROD_ENDPOINT", A)
    assert plain(load({"endpoint": B}, secrets_dir=folder).config.headers) == {"authorization": SECRET}
    monkeypatch.setenv("GRAPHQL_PROD_SECRETS_DIR", str(folder))
    assert "env_prefix" in problems(source={"endpoint": B})["endpoint"][0]
    monkeypatch.delenv("GRAPHQL_PROD_ENDPOINT")
    (folder / "graphql_prod_endpoint").write_text(A)
    assert "env_prefix" in problems(source={"endpoint": B})["endpoint"][0]
    assert "env_prefix" in problems(source={"endpoint": B}, secrets_dir=folder)["endpoint"][0]


class TestFileNames:
    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("HEADERS__AUTHORIZATION_FILE", "headers.authorization_file"),
            ("ENDPOINT_FILE", "endpoint_file"),
            ("endpoint_file", "endpoint_file"),
            ("RETRY__ATTEMPTS_FILE", "retry.attempts_file"),
            ("PROXY_FILE", "proxy_file"),
        ],
    )
    def test_refused(self, monkeypatch: pytest.MonkeyPatch, name: str, key: str) -> None:
        """Nothing is read from a file that a variable names; the error says what does it."""
        monkeypatch.setenv(f"GRAPHQL_PROD_{name}", f"/run/secrets/{SECRET}")
        message, source = problems()[key]
        assert source == f"GRAPHQL_PROD_{name}"
        for said in ("GRAPHQL_PROD_SECRETS_DIR", "secrets_dir=", f"graphql_prod_{name[:-5]}".lower()):
            assert said in message

    def test_in_a_directory(self, tmp_path: Path) -> None:
        """Nor from a file that a file names."""
        (tmp_path / "graphql_prod_headers__authorization_file").write_text(SECRET)
        message, _ = problems(secrets_dir=tmp_path)["headers.authorization_file"]
        assert "name it graphql_prod_headers__authorization:" in message

    def test_settings_that_are_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Settings whose names end so stay what they are."""
        monkeypatch.setenv("GRAPHQL_PROD_SCHEMA__FILE", "schema.graphql")
        monkeypatch.setenv("GRAPHQL_PROD_TLS__CA_FILE", "/no/such/file")
        assert set(problems()) == {"tls.ca_file"}
        monkeypatch.delenv("GRAPHQL_PROD_TLS__CA_FILE")
        assert str(load().config.schema.file) == "schema.graphql"


class TestNewline:
    @pytest.mark.parametrize("end", ["\n", "\r\n", ""])
    def test_one_is_dropped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
        """One newline at the end of a value of a file, a variable or a secret is no part of it."""
        monkeypatch.setenv("GRAPHQL_PROD_HEADERS__X_A", f"a{end}")
        monkeypatch.setenv("GRAPHQL_PROD_TIMEOUT", f"batch{end}")
        monkeypatch.setenv("GRAPHQL_PROD_ENDPOINT", f"{A}{end}")
        (tmp_path / "graphql_prod_headers__x_b").write_bytes(f"b{end}".encode())
        escaped = end.replace("\r", "\\r").replace("\n", "\\n")
        (tmp_path / "c.toml").write_text(f'[headers]\nX-C = "c{escaped}"\n')
        client = ProductionClient.from_config(tmp_path / "c.toml", secrets_dir=tmp_path)
        assert plain(client.config.headers) == {"x-a": "a", "x-b": "b", "X-C": "c"}
        assert client.endpoint == A
        assert client.config.timeout.total == 300

    def test_only_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is more than one is left, for the check of header values to refuse."""
        monkeypatch.setenv("GRAPHQL_PROD_HEADERS", '{"X-A": "a\\n\\n"}')
        monkeypatch.setenv("GRAPHQL_PROD_HEADERS__X_B", "b\n\n")
        found = Variables.of_environment(PREFIX).values([], {})
        assert found["headers"] == {"X-A": "a\n", "x-b": "b\n"}


def test_empty_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is as good as none, whatever the setting."""
    names = (
        "ENDPOINT",
        "PROXY",
        "TIMEOUT",
        "RETRY__ATTEMPTS",
        "TLS__CA_FILE",
        "BACKEND",
        "METHOD",
        "HEADERS",
    )
    for name in (*names, "HEADERS__AUTHORIZATION", "AUTH_ERROR_CODES", "SECRETS_DIR", "POOL", "ENDPIONT"):
        monkeypatch.setenv(f"GRAPHQL_PROD_{name}", "")
    monkeypatch.setenv("GRAPHQL_PROD_TIMEOUT__TOTAL", "3")
    loaded = load()
    assert loaded.config.model_fields_set == {"timeout"}
    assert {".".join(key) for key in loaded.origins} == {"timeout.total"}
