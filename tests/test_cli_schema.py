"""``python -m graphql_prod schema``: the upstream's schema as SDL, to look at or to keep."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import graphql
import pytest
from aiographql.client import GraphQLClientValidationException
from schema_world import CHANGED, HELLO, HELLO_DATA, INTROSPECTION, SECRET, WRONG, asked, client_of

from graphql_prod.__main__ import main
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.schema import SDL

if TYPE_CHECKING:
    from collections.abc import Callable

# What keeps a schema from being saved.
TROUBLE: dict[str, Answer] = {
    "a 503 page": Answer.page(503, SECRET),
    "a 403 page": Answer.page(403, SECRET),
    "a 401 page": Answer.page(401, SECRET),
    "a login page": Answer.login_page(),
    "a refusal": Answer.graphql(400, errors=[{"message": "introspection is off"}]),
    "a refusal in several lines": Answer.graphql(errors=["introspection\nis\noff"]),
    "no schema": Answer.graphql(data={}),
    "half a schema": Answer.graphql(
        data={"__schema": {"queryType": {"name": "Q"}, "types": [], "directives": []}}
    ),
    "a reset": Answer.reset("before"),
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's settings, one attempt, for this process and for those it starts."""
    for name in [name for name in os.environ if name.upper().startswith("GRAPHQL_PROD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("GRAPHQL_PROD_RETRY__ATTEMPTS", "1")
    monkeypatch.setenv("GRAPHQL_PROD_HEADERS__X_OTHER", SECRET)


class InProcess:
    """The command in a thread: no interpreter to start."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    async def __call__(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        with self._monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(f"GRAPHQL_PROD_{name}", value)
            status = await asyncio.to_thread(main, ["schema", *arguments])
        return status, *self._capsys.readouterr()


@pytest.fixture
def schema(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Runs the command here."""
    return InProcess(capsys, monkeypatch)


def canonical(sdl: str) -> str:
    """The same for the same schema, descriptions and all."""
    return graphql.print_schema(graphql.lexicographic_sort_schema(graphql.build_schema(sdl)))


async def test_to_standard_output(server: ScriptedServer, schema: InProcess) -> None:
    """The whole schema with its descriptions and nothing beside it, after one introspection."""
    status, out, err = await schema(ENDPOINT=server.url)
    assert (status, err) == (0, "")
    assert canonical(out) == canonical(SDL)
    assert "A nullable field that fails" in out
    assert (asked(server), len(server.requests)) == (1, 1)


async def test_in_a_process_of_its_own(server: ScriptedServer, tmp_path: Path) -> None:
    """Settings come from a file or the environment; no warning is left over."""
    config = tmp_path / "client.toml"
    config.write_text(f'endpoint = "{server.url}"\n[headers]\nX-Key = "{SECRET}"\n', encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "graphql_prod", "schema", "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (0, b"")
    assert canonical(out.decode()) == canonical(SDL)
    assert server.requests[0].headers["X-Key"] == SECRET


@pytest.mark.parametrize(
    "variables",
    [{"SCHEMA__MODE": "off"}, {"SCHEMA__FILE": "gone.graphql"}, {"SCHEMA__MODE": "strict"}],
    ids=str,
)
async def test_whatever_the_policy_says(
    server: ScriptedServer, schema: InProcess, variables: dict[str, str]
) -> None:
    """It is the upstream that is asked: what else could the file be compared with."""
    status, out, _ = await schema(ENDPOINT=server.url, **variables)
    assert status == 0
    assert canonical(out) == canonical(SDL)
    assert asked(server) == 1


async def test_a_round_trip(server: ScriptedServer, schema: InProcess, tmp_path: Path) -> None:
    """What it saves is what ``schema.file`` reads."""
    file = tmp_path / "schema.graphql"
    status, out, _ = await schema("-o", str(file), ENDPOINT=server.url)
    assert (status, out) == (0, "")
    assert canonical(file.read_text("utf-8")) == canonical(SDL)
    assert os.listdir(tmp_path) == [file.name]
    async with client_of(server.url, file=file) as client:
        assert (await client.query(HELLO)).data == HELLO_DATA
        with pytest.raises(GraphQLClientValidationException):
            await client.query(WRONG)
    assert asked(server) == 1


async def test_texts_of_all_kinds(server: ScriptedServer, schema: InProcess, tmp_path: Path) -> None:
    """Descriptions in any script come out as they are, in UTF-8."""
    server.sdl = (
        f'"""Grüße, 世界, a \\d "quoted" text"""\ntype Extra {{ id: ID @deprecated(reason: "öde") }}\n{SDL}'
    )
    file = tmp_path / "schema.graphql"
    assert (await schema("-o", str(file), ENDPOINT=server.url))[0] == 0
    assert "Grüße, 世界" in file.read_bytes().decode("utf-8")
    assert canonical(file.read_text("utf-8")) == canonical(server.sdl)


async def test_over_an_older_file(server: ScriptedServer, schema: InProcess, tmp_path: Path) -> None:
    """It is replaced as a whole: who has it open reads on in the old one; its rights stay."""
    file = tmp_path / "schema.graphql"
    file.write_text(SDL, "utf-8")
    file.chmod(0o640)
    server.sdl = CHANGED
    with file.open(encoding="utf-8") as reader:
        assert (await schema("-o", str(file), ENDPOINT=server.url))[0] == 0
        assert reader.read() == SDL
    assert canonical(file.read_text("utf-8")) == canonical(CHANGED)
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == [file.name]


async def test_planted_links(server: ScriptedServer, schema: InProcess, tmp_path: Path) -> None:
    """Who may write to the folder cannot have another file overwritten, by the draft or by a link."""
    victim = tmp_path / "victim"
    victim.write_text("precious", "utf-8")
    (tmp_path / f".graphql_prod.{os.getpid()}").symlink_to(victim)
    file = tmp_path / "schema.graphql"
    assert (await schema("-o", str(file), ENDPOINT=server.url))[0] == 0
    assert not file.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    for target in (victim, tmp_path / "gone"):
        link = tmp_path / f"link to {target.name}"
        link.symlink_to(target)
        status, _, err = await schema("-o", str(link), ENDPOINT=server.url)
        assert status == 1
        assert str(link) in one_line(err)
    assert victim.read_text("utf-8") == "precious"
    assert not (tmp_path / "gone").exists()


async def test_a_pipe(server: ScriptedServer, schema: InProcess, tmp_path: Path) -> None:
    """What is there and is no file is written to."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
    assert (await schema("-o", str(pipe), ENDPOINT=server.url))[0] == 0
    assert canonical((await reading).decode()) == canonical(SDL)


async def test_misspelt_variable(
    server: ScriptedServer, schema: InProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """It is warned of, as by every command."""
    assert (await schema(ENDPOINT=server.url, ENDPIONT="x"))[0] == 0
    assert "did you mean GRAPHQL_PROD_ENDPOINT?" in caplog.text


def one_line(err: str) -> str:
    """The only line of it, with nothing secret."""
    (line,) = err.splitlines()
    assert SECRET not in line
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_no_schema(server: ScriptedServer, schema: InProcess, tmp_path: Path, trouble: str) -> None:
    """Status 1 and one line that says why; the older file stays as it is, and nothing is left beside it."""
    server.always(TROUBLE[trouble], INTROSPECTION)
    file = tmp_path / "schema.graphql"
    file.write_text("# older", "utf-8")
    for arguments in (["-o", str(file)], []):
        status, out, err = await schema(*arguments, ENDPOINT=server.url)
        assert (status, out) == (1, "")
        assert f"127.0.0.1:{server.port}" in one_line(err)
    assert file.read_text("utf-8") == "# older"
    assert os.listdir(tmp_path) == [file.name]


async def test_nobody_there(schema: InProcess) -> None:
    """So too for a port where nobody listens; no credentials of the URL are shown."""
    async with ScriptedServer() as gone:
        pass
    endpoint = gone.url.replace("://", f"://user:{SECRET}@") + f"?token={SECRET}"
    status, out, err = await schema(ENDPOINT=endpoint)
    assert (status, out) == (1, "")
    assert "could not be reached" in one_line(err)


# Settings and targets that cannot work; what they are called is in the message.
WRONGS: dict[str, tuple[Callable[[Path], list[str]], dict[str, str], str]] = {
    "no endpoint": (lambda _: [], {"ENDPOINT": ""}, "endpoint"),
    "no file of settings": (lambda folder: ["--config", str(folder / "gone.toml")], {}, r"gone.toml"),
    "settings": (lambda _: [], {"SCHEMA__MODE": "never"}, "SCHEMA__MODE"),
    "no folder": (lambda folder: ["-o", str(folder / "gone" / "s.graphql")], {}, "gone/s.graphql'"),
    "a folder": (lambda folder: ["-o", str(folder)], {}, "director"),
}


@pytest.mark.parametrize("wrong", WRONGS)
async def test_what_cannot_work(
    server: ScriptedServer, schema: InProcess, tmp_path: Path, wrong: str
) -> None:
    """Status 1 and the reason, no traceback."""
    arguments, variables, said = WRONGS[wrong]
    status, out, err = await schema(*arguments(tmp_path), **{"ENDPOINT": server.url, **variables})
    assert (status, out) == (1, "")
    assert said in err
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []
