"""The demo, run as a user runs it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest

from graphql_prod.demo import stage, words
from graphql_prod.demo.events import Events
from graphql_prod.demo.process import Work
from graphql_prod.demo.scenes import SCENES, Scene, login_page, mutation, orderly, restart, sigterm, unbroken
from graphql_prod.demo.screen import Screen
from graphql_prod.demo.show import show
from graphql_prod.subscriptions.policy import SubscriptionPolicy
from graphql_prod.testing import Answer
from graphql_prod.testing.waiting import no_waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphql_prod.sessions.policy import Backend
    from graphql_prod.testing import ScriptedServer

# On one worker: the two whole runs that most tests look at are made once.
pytestmark = pytest.mark.xdist_group("demo")

MODULE = [sys.executable, "-W", "error::ResourceWarning", "-m", "graphql_prod"]
NO_RICH = """
import runpy, sys

class NoRich:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "rich":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoRich())
sys.argv = ["graphql_prod", "demo"]
runpy.run_module("graphql_prod", run_name="__main__")
"""


class Run(NamedTuple):
    status: int
    out: str
    err: str
    seconds: float


def run(*arguments: str, **environment: str) -> Run:
    began = time.monotonic()
    done = subprocess.run(
        [*MODULE, *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, **environment},
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def on_terminal(*arguments: str, **environment: str) -> str:
    """What a terminal would be sent."""
    ours, theirs = os.openpty()
    env = {**os.environ, "TERM": "xterm-256color", **environment}
    process = subprocess.Popen([*MODULE, *arguments], stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    chunks = []
    try:
        while chunk := os.read(ours, 65536):
            chunks.append(chunk)
    except OSError:
        pass  # Linux' way of saying that the other end is closed
    finally:
        process.wait()
        os.close(ours)
    return b"".join(chunks).decode()


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """A whole run into a pipe for each backend, side by side."""
    backends = ("aiohttp", "httpx")
    with ThreadPoolExecutor() as threads:
        done = threads.map(lambda backend: run("demo", "--backend", backend, FORCE_COLOR="1"), backends)
        return dict(zip(backends, done, strict=True))


@pytest.fixture
def whole(runs: dict[str, Run], backend: Backend) -> Run:
    """What a user of this backend sees."""
    return runs[backend]


@pytest.fixture
def refusing() -> Iterator[str]:
    """The host and port of nobody."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def test_every_scene_ends_as_promised_within_its_time(whole: Run) -> None:
    """Exit status 0, nothing on stderr (no leaked socket, no task's exception), within half a minute."""
    assert (whole.status, whole.err) == (0, "")
    assert whole.seconds < 30
    assert whole.out.count("  as promised: ") == len(SCENES)
    assert f"graphql_prod: {len(SCENES)} of {len(SCENES)} scenes ended as promised." in whole.out


def test_both_clients_play_every_scene(whole: Run) -> None:
    """The stock client goes through the same table, and the summary has a row for each."""
    for number, scene in enumerate(SCENES, 1):
        assert whole.out.count(f"Scene {number}: {scene.title}\n") == 2
        assert re.search(rf"^{number} {re.escape(scene.title[:12])}.* ours ", whole.out, re.MULTILINE)
    assert len(re.findall("^ +stock ", whole.out, re.MULTILINE)) == len(SCENES)


def test_each_attempt_is_a_line_with_its_wait(whole: Run) -> None:
    """Time, scene, attempt, what happened on the wire, what the client does about it."""
    line = r"^ +\d\.\d\d s +1 +1 +reached server: 503 Service Unavailable +waits 1\.00 s, tries again"
    assert re.search(line, whole.out, re.MULTILINE)
    assert re.search(r"4 +3 +never arrived: could not connect +waits", whole.out)
    assert re.search(r"5 +1 +ran on server: connection lost +raises TransportError,", whole.out)


def test_the_summary_names_what_the_stock_client_does(whole: Run) -> None:
    """Its errors and its silent empty data, as measured."""
    summary = whole.out.partition("as measured just now")[2]
    assert "GraphQLRequestException: Request" in summary
    assert "GraphQLTransportException" in summary
    assert "SILENT EMPTY DATA" in summary
    assert re.search(r"stock client: .*\b7 x error\b.*, 1 x silent empty data", summary)


def test_a_subscription_outlives_the_server_only_with_ours(whole: Run) -> None:
    """Each loss is a line with its wait; the stock client's is no error at all."""
    assert re.search(r"\* the server stops for 0\.3 s", whole.out)
    assert re.search(r"11 +1 +reached server: connection lost +waits 0\.\d\d s, tries again", whole.out)
    assert re.search(r"11 +\d+ +reached server: answered +ends: events 0 to 9, 1 gap told", whole.out)
    assert re.search(r"11 +1 +reached server: connection lost +ends silently: events 0 to \d", whole.out)
    summary = whole.out.partition("as measured just now")[2]
    assert re.search(r"stock +SILENT END: events 0 to \d of 10", summary)
    assert re.search(r"stock client: .*\b1 x silent end\b", summary)


def test_sigterm_in_the_middle_of_work_costs_nothing_only_with_ours(whole: Run) -> None:
    """The report is printed as it is, and the exit status shown; the stock client's work is lost."""
    assert re.search(r"\* SIGTERM to a program: 4 calls and \d+ +\n +events wait", whole.out)
    assert "* the server answers its calls" in whole.out
    printed = " ".join(whole.out.split())
    assert re.search(r"shutdown of 127\.0\.0\.1:\d+: clean in \d\.\d\d s; requests: 4 completed, 0", printed)
    assert re.search(r"12 - reached server: answered exits with status 0: 4 of 4 calls, (\d+) of \1", printed)
    assert re.search(r"12 - reached server: connection lost killed by SIGTERM: 0 of 4 calls, \d+ of", printed)
    summary = whole.out.partition("as measured just now")[2]
    assert re.search(r"stock +WORK LOST: 0 of 4 calls, \d+ of", summary)
    assert re.search(r"stock client: .*\b1 x work lost\b", " ".join(summary.split()))


def test_a_pipe_gets_plain_text_of_100_columns(whole: Run) -> None:
    """No escape codes, FORCE_COLOR or not."""
    assert "\x1b" not in whole.out
    assert max(map(len, whole.out.splitlines())) <= 100


async def test_a_broken_promise_is_named_and_changes_the_exit_status(
    backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the run leaves no socket, no task and no log handler behind."""
    logger = logging.getLogger("graphql_prod")
    before = list(logger.handlers)
    scenes = [
        Scene("kept", "it fails", mutation, lambda end: end.executions == 1),
        Scene("broken", "a miracle", login_page, lambda end: end.kind == "answer"),
    ]
    with no_waiting():
        assert await show(Screen(), backend, scenes) == 1
    out, err = capsys.readouterr()
    assert "scene 2 (broken) did not end as promised, which was: a miracle. It ended with Invalid" in err
    assert "1 of 2 scenes" in out
    assert "NOT AS PROMISED: a miracle" in out
    assert logger.handlers == before


def deaf(*_: object) -> None:
    """Hears of no gap."""


def from_the_start(_: object, variables: dict[str, int]) -> dict[str, int]:
    """Knows no cursor."""
    return variables


@pytest.mark.parametrize(
    ("target", "instead", "end"),
    [
        ("graphql_prod.demo.scenes.onward", from_the_start, r"answer: events 0(, \d)+, 0(, \d)+, 1 gap told"),
        ("graphql_prod.demo.events.Events.gap", deaf, "answer: events 0 to 9$"),
        (
            "graphql_prod.demo.stage.SUBSCRIPTIONS",
            SubscriptionPolicy(max_reconnects=0),
            "SubscriptionClosedError: ",
        ),
    ],
    ids=["doubled events", "a gap untold", "no reconnect"],
)
async def test_the_restart_can_break_its_promise(
    backend: Backend,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    instead: object,
    end: str,
) -> None:
    """Each part of what it promises is looked at."""
    monkeypatch.setattr(target, instead)
    scenes = [scene for scene in SCENES if scene.play is restart]
    assert await show(Screen(), backend, scenes) == 1
    assert re.search(f"It ended with {end}", capsys.readouterr().err.rstrip())


async def test_the_stock_client_does_not_keep_the_promise_of_the_restart(backend: Backend) -> None:
    """And the server is up again for the next scene, though nobody came back."""
    async with stage.staged("stock", backend) as staged:
        events = await restart(staged)
        assert staged.server.running
        assert len(staged.arrivals) == 1
    assert events.numbers == list(range(len(events.numbers)))
    assert (events.ended, unbroken(events)) == (False, False)


@pytest.mark.parametrize(
    ("numbers", "gaps", "good"),
    [
        ([0, 1, 2, 3], [2], True),
        ([0, 1, 3], [2], False),
        ([0, 1, 1, 2, 3], [2], False),
        ([0, 2, 1, 3], [2], False),
        ([0, 1, 2, 3], [], False),
        ([0, 1, 2, 3], [2, 3], False),
        ([0, 1, 2, 3], [0], False),
        ([0, 1, 2, 3], [4], False),
    ],
    ids=["whole", "missing", "doubled", "disordered", "untold", "told twice", "told early", "told late"],
)
def test_unbroken_is_each_event_once_and_one_gap_between(
    numbers: list[int], gaps: list[int], good: bool
) -> None:
    """The promise, in numbers."""
    events = Events(4)
    events.numbers, events.gaps = numbers, gaps
    assert unbroken(events) is good


@pytest.mark.parametrize(
    ("answered", "numbers", "report", "status", "good"),
    [
        (2, [0, 1, 2], "clean", 0, True),
        (1, [0, 1, 2], "clean", 0, False),
        (2, [0, 1], "clean", 0, False),
        (2, [0, 2, 1], "clean", 0, False),
        (2, [0, 1, 2], "", 0, False),
        (2, [0, 1, 2], "not clean", 1, False),
        (2, [0, 1, 2], "clean", -signal.SIGTERM, False),
    ],
    ids=["orderly", "call lost", "event lost", "disordered", "untold", "not clean", "killed"],
)
def test_orderly_is_all_done_and_told_and_status_0(
    answered: int, numbers: list[int], report: str, status: int, good: bool
) -> None:
    """The promise, in numbers."""
    work = Work(2)
    work.sent = 3
    for line in ["answered"] * answered + [f"event {number}" for number in numbers] + [f"report {report}"]:
        work.take(f"{line}\n")
    work.status = status
    assert orderly(work) is good


async def test_a_program_that_is_not_needed_is_gone_with_the_stage() -> None:
    """Whether it had time to get ready or not."""
    async with stage.staged("graphql_prod", "aiohttp") as staged:
        pid = staged.program.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_program_that_cannot_begin_breaks_the_promise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the demo does not wait for it."""
    monkeypatch.setattr("graphql_prod.demo.process.COMMAND", (sys.executable, "-c", "exit(3)"))
    scenes = [scene for scene in SCENES if scene.play is sigterm]
    assert await show(Screen(), "aiohttp", scenes) == 1
    assert re.search(
        "It ended with WORK LOST: 0 of 4 calls, 0 of 0 events; exits with status 3", capsys.readouterr().err
    )


async def test_a_real_server_is_asked_by_both(server: ScriptedServer, backend: Backend) -> None:
    """With timings and attempts; what failed on the way is shown as it happens."""
    server.script(Answer.page(503))
    done = await asyncio.to_thread(run, "demo", "--backend", backend, "--endpoint", server.url)
    assert (done.status, done.err) == (0, "")
    assert re.search(r"1 +1 +answered: 503 Service Unavailable +waits", done.out)
    assert re.search(r"^1 +ours +answer: __typename='Query' +yes +\d\.\d+ +2 *$", done.out, re.MULTILINE)
    assert re.search(r"^3 +stock +answer: __typename='Query' +yes ", done.out, re.MULTILINE)
    assert len(server.requests) == 7


async def test_credentials_in_the_url_are_used_but_never_printed(server: ScriptedServer) -> None:
    """Neither where it answers nor in an error."""
    url = server.url.replace("://", "://robert:s3cret@") + "?token=abcdef"
    server.script(Answer(), Answer.redirect(url.replace("graphql", "elsewhere")))
    done = await asyncio.to_thread(run, "demo", "--endpoint", url)
    assert server.requests[0].headers["Authorization"].startswith("Basic ")
    assert done.status == 1
    assert not re.search("robert|s3cret|abcdef", done.out + done.err)


def test_secrets_are_cut_out_of_any_text() -> None:
    """However an HTTP library quotes the URL in its own error."""
    clean = words.cleaner("https://robert:p%40ssword@api.example.com/graphql?key=a%20secret")
    text = clean("robert:p%40ssword@api, p@ssword, key=a%20secret, a secret; https://api.example.com/graphql")
    assert not re.search("robert|ssword|secret", text)
    assert "https://api.example.com/graphql" in text


async def test_a_server_that_is_not_graphql_is_not_ready(server: ScriptedServer) -> None:
    """The stock client beside ours takes the login page for an empty answer."""
    server.always(Answer.login_page())
    done = await asyncio.to_thread(run, "demo", "--endpoint", server.url)
    assert done.status == 1
    assert "is not ready: InvalidResponseError: " in done.err
    assert re.search("stock +SILENT EMPTY DATA", done.out)


def test_an_endpoint_that_refuses_gives_one_readable_line(refusing: str, backend: Backend) -> None:
    """Exit status 1."""
    done = run("demo", "--backend", backend, "--endpoint", f"http://{refusing}/graphql")
    assert done.status == 1
    start = f"graphql_prod demo: {refusing} is not ready: TransportError: {refusing} could not be reached,"
    assert done.err.startswith(f"{start} after 4 attempts in ")
    assert done.err.count("\n") == 1


def test_an_unusable_endpoint_is_a_usage_error() -> None:
    """Exit status 2, one line."""
    done = run("demo", "--endpoint", "ftp://example.com")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert "must begin with http://" in done.err


@pytest.mark.parametrize("password", ["pa/ssword", "pa#ssword", "pa?ssword", "pa[ssword"])
def test_a_password_that_breaks_the_url_is_not_printed(password: str) -> None:
    """Exit status 2, one line, which says what to do."""
    done = run("demo", "--endpoint", f"http://robert:{password}@example.com/")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert not re.search("robert|'pa|ssword@", done.err)
    assert "percent-encoded" in done.err


@pytest.mark.parametrize(
    ("arguments", "environment", "colors"),
    [([], {}, True), (["--no-color"], {}, False), ([], {"NO_COLOR": "1"}, False)],
    ids=["plain terminal", "--no-color", "NO_COLOR"],
)
def test_a_terminal_gets_colors_unless_told_otherwise(
    refusing: str, arguments: list[str], environment: dict[str, str], colors: bool
) -> None:
    """Not one escape code where they are not wanted: no bold either."""
    sent = on_terminal("demo", *arguments, "--endpoint", f"http://{refusing}/", **environment)
    assert "could not be reached" in sent
    assert ("\x1b" in sent) is colors


def test_without_rich_it_says_what_to_install() -> None:
    """Exit status 2, one line."""
    command = [sys.executable, "-c", NO_RICH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "graphql_prod demo: it needs rich: pip install 'graphql-prod[demo]'\n"


def test_only_the_demo_imports_rich() -> None:
    """The other commands work where it is not installed."""
    code = "import sys, graphql_prod.__main__, graphql_prod.testing; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_ctrl_c_ends_it_at_once_without_a_traceback() -> None:
    """Exit status 130, as shells have it."""
    process = subprocess.Popen(
        [*MODULE, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs, and all below them, with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "waits 1.00 s" in line:
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "")
