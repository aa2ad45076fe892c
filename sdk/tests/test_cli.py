"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmos.testing import EchoBackend
from llmos.cli.export import show_progress
from llmos_kernel import Handle
from llmos_kernel.errors import KernelBug, OutOfMemory, PluginFailed
from sdk.tests.cli import SETTINGS, CommandLine


@pytest.fixture
def llmos(echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line."""
    return CommandLine(echo, monkeypatch, capsys)


def test_help_names_every_command_and_exit_code(llmos: CommandLine) -> None:
    """A newcomer sees what there is."""
    done = llmos("--help")

    assert (0, "") == (done.code, done.err)
    for word in ("generate", "chat", "export", "models", "plugins", "doctor", "version", "Exit codes", "130"):
        assert word in done.out


def announce(folder: Path, distribution: str, text: bytes) -> None:
    """Let *folder* hold a distribution's entry points."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_bytes(text)


def test_help_lists_what_plugins_announce(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without importing it; broken metadata is passed over, and a built-in command keeps its place."""
    good = (
        b"[console_scripts]\nx = y:z\n\n[llmos.command]\n# none\nfly = absent.module\nchat = absent\n\n[more]\nx = y\n"
    )
    announce(tmp_path, "some_plugin", good)
    announce(tmp_path, "broken", b"[llmos.command]\nswim = \xff")
    announce(tmp_path / "later", "shadowed", b"[llmos.command]\nfly = other")
    for folder in (tmp_path / "later", tmp_path):
        monkeypatch.syspath_prepend(str(folder))
    done = llmos("--help")

    assert 0 == done.code
    assert "fly         From some-plugin." in done.out
    assert "chat        Talk with a model." in done.out
    assert not {"swim", "none", "broken"} & set(done.out.split())


@pytest.mark.parametrize("name", ["generate", "chat", "export", "models", "plugins", "doctor", "version", "completion"])
def test_every_command_has_help(llmos: CommandLine, name: str) -> None:
    """And says in it what it does."""
    done = llmos(name, "--help")

    assert (0, "") == (done.code, done.err)
    assert "Usage: llmos" in done.out


def test_a_missing_argument_is_named(llmos: CommandLine) -> None:
    """As its usage spells it."""
    done = llmos("models", "show")

    assert (2, True) == (done.code, "error: Missing argument 'NAME'." in done.err)


def test_a_wrong_value_is_named_with_its_option(llmos: CommandLine) -> None:
    """And what would be right."""
    done = llmos("generate", "a", "--max-tokens", "many")

    assert 2 == done.code
    assert "'--max-tokens': 'many' is not a valid integer" in done.err


def test_generate_prints_the_answer(llmos: CommandLine) -> None:
    """And nothing else."""
    done = llmos("generate", "the quick brown fox", "--max-tokens", "3")

    assert (0, "the quick brown\n", "") == (done.code, done.out, done.err)


@pytest.mark.parametrize("args", [(), ("-",)])
def test_generate_reads_standard_input(llmos: CommandLine, args: tuple[str, ...]) -> None:
    """A prompt can be piped."""
    assert "the fox\n" == llmos("generate", *args, stdin=b"the fox").out


def test_generate_json(llmos: CommandLine) -> None:
    """A program reads text, finish and usage."""
    facts = json.loads(llmos("generate", "a b c", "--json", "--max-tokens", "2").out)

    assert ("a b", "length", "echo", 2) == (facts["text"], facts["finish"], facts["model"], facts["usage"]["generated"])


def test_generate_many(llmos: CommandLine) -> None:
    """Several answers are separated, or a list."""
    assert "a b\n---\na b\n" == llmos("generate", "a b", "-n", "2").out
    assert ["a b"] * 2 == [facts["text"] for facts in json.loads(llmos("generate", "a b", "-n", "2", "--json").out)]


def test_every_option_reaches_the_backend(llmos: CommandLine, echo: EchoBackend) -> None:
    """As the kind of value that it is."""
    llmos(
        "generate", "a", "-t", "0.5", "--top-k", "3", "--seed", "7", "--stop", "x", "--stop", "y", "-o", "min-p=0.5",
        "--priority", "3",
    )  # fmt: skip
    task = echo.executors[0].tasks[0]

    assert {"temperature": 0.5, "top_k": 3, "seed": 7, "stop": ("x", "y"), "min_p": 0.5} == dict(task.params)
    assert 3 == task.priority


def test_forms_of_the_answer(llmos: CommandLine, echo: EchoBackend, tmp_path: Path) -> None:
    """A schema and a grammar are files, a regular expression is an argument; an empty schema is one too."""
    schema, grammar, empty = (tmp_path / name for name in ("schema.json", "grammar.lark", "empty.json"))
    schema.write_text('{"type": "integer"}')
    grammar.write_text('start: "ü"', encoding="utf-8")
    empty.write_text("{}")
    for args in (["--schema", str(schema)], ["--schema", str(empty)], ["--regex", "a+"], ["--grammar", str(grammar)]):
        assert 0 == llmos("generate", "a", *args).code
    given = [dict(task.params) for executor in echo.executors for task in executor.tasks]

    assert [{"schema": {"type": "integer"}}, {"schema": {}}, {"regex": "a+"}, {"grammar": 'start: "ü"'}] == given


@pytest.mark.parametrize("option", ["--schema", "--grammar"])
def test_forms_that_cannot_be_read(llmos: CommandLine, option: str, tmp_path: Path) -> None:
    """A file that is missing, or that is no text, is named."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\xff{")
    for name in ("missing", str(broken)):
        done = llmos("generate", "a", option, name)

        assert 2 == done.code
        assert name in done.err


def test_schema_that_is_no_json(llmos: CommandLine, tmp_path: Path) -> None:
    """It is told with the place of the mistake."""
    file = tmp_path / "schema.json"
    file.write_text('{"type": }')
    done = llmos("generate", "a", "--schema", str(file))

    assert (2, True) == (done.code, "column 10" in done.err)


def test_a_demonstration_model_says_so(llmos: CommandLine) -> None:
    """Once, beside the answer, and not where a program reads."""
    shown, quiet = llmos("generate", "-m", "toy", "a"), llmos("generate", "-m", "toy", "a", "--json")

    assert ("a\n", 1) == (shown.out, shown.err.count("demonstration model"))
    assert "" == quiet.err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["genrate"], 2, ["No such command 'genrate'", "did you mean generate?"]),
        (["generate", "a", "--temprature", "1"], 2, ["No such option", "did you mean --temperature?"]),
        (["models", "lst"], 2, ["lst"]),
        (["generate", "a", "-n", "x"], 2, ["x"]),
        (["generate", "a", "-o", "x"], 2, ["KEY=VALUE"]),
        (["generate", "-m", "ecko", "a"], 1, ["nearest: echo", "llmos models list"]),
        (["generate", ""], 1, ["prompt is empty"]),
        (["generate", "a", "--max-tokens", "0"], 1, ["max_tokens"]),
        (["generate", "a", "--max-tokens", "1000000000"], 1, ["context"]),
        (["generate", "a", "-t", "nan"], 1, ["temperature"]),
        (["generate", "a", "-o", "warmth=3"], 1, ["warmth"]),
        (["generate", "a", "--priority", "5000"], 1, ["priority"]),
        (["generate", "-m", "./nowhere", "a"], 4, ["llmos.json"]),
        (["generate", "a", "--post", "nobody"], 3, ["nobody", "llmos plugins list"]),
        (["models", "show", "ecko"], 1, ["nearest: echo", "llmos models list"]),
        (["models", "remove", "echo"], 1, ["not among your own"]),
        (["models", "add", "nowhere"], 4, ["llmos.json"]),
        (["export", "nowhere", "target"], 1, ["SOURCE nowhere is no folder"]),
        (["export", ".", "."], 1, ["exists already"]),
        (["export", ".", "target"], 3, ["native"]),
        (["--config", "missing.toml", "models", "list"], 2, ["missing.toml"]),
    ],
)
def test_mistakes(llmos: CommandLine, args: list[str], code: int, says: list[str]) -> None:
    """Each is one line that names it, and a next step where there is one; never a traceback."""
    done = llmos(*args)

    assert (code, "") == (done.code, done.out)
    assert [] == [word for word in says if word not in done.err]
    assert done.err.startswith("error: ")
    assert all(line.startswith(("error: ", "next:  ")) for line in done.err.splitlines())


def test_errors_are_json_where_a_program_reads(llmos: CommandLine) -> None:
    """With the class and the fields."""
    done = llmos("generate", "--json", "-m", "ecko", "a")
    error = json.loads(done.out)

    assert (1, "NotFound", "ecko") == (done.code, error["error"], error["fields"]["value"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PluginFailed("broken", plugin="x"), 3),
        (OutOfMemory("full"), 4),
        (KernelBug("odd"), 5),
        (ZeroDivisionError(), 3),
    ],
)
def test_exit_codes_say_who_must_act(llmos: CommandLine, echo: EchoBackend, error: Exception, code: int) -> None:
    """A plugin's author, whoever runs the machine, or the authors of llmos."""
    echo.faults.prepare = error

    assert code == llmos("generate", "a").code


def test_traceback_on_demand(llmos: CommandLine) -> None:
    """Who looks for a bug sees where it is."""
    assert "Traceback" in llmos("--traceback", "generate", "-m", "ecko", "a").err


def test_text_that_is_none(llmos: CommandLine) -> None:
    """Input that is not UTF-8 is refused by its first wrong byte."""
    done = llmos("generate", stdin=b"ab\xff")

    assert (1, True) == (done.code, "byte 2" in done.err)


def test_models_list_shows_replicas(llmos: CommandLine, tmp_path: Path) -> None:
    """``llmos models list`` has how many there may be beside the name, for people and for programs."""
    file = tmp_path / "replicas.toml"
    file.write_text(SETTINGS + "[replicas.echo]\nmost = 2\n", "utf-8")
    told = json.loads(llmos("--config", str(file), "models", "list", "--json").out)

    assert "echo (×1–2)" in llmos("--config", str(file), "models", "list").out
    assert [{"least": 1, "most": 2}, None] == [facts.get("replicas") for facts in told]


def test_models_list(llmos: CommandLine) -> None:
    """People see names and aliases, programs see everything; no kernel is started for it."""
    assert "parrot" in llmos("models", "list").out
    assert ["echo", "toy"] == [facts["name"] for facts in json.loads(llmos("models", "list", "--json").out)]


def test_models_show(llmos: CommandLine) -> None:
    """What is known, and with ``--load`` what the executor says."""
    assert "repeats the prompt" in llmos("models", "show", "parrot").out
    assert "executor.provider" in llmos("models", "show", "echo", "--load").out
    assert "echo" == json.loads(llmos("models", "show", "parrot", "--json").out)["name"]


def test_models_of_ones_own(llmos: CommandLine) -> None:
    """Added, listed, not added twice, removed."""
    Path("folder").mkdir()
    Path("folder/llmos.json").write_text('{"name": "mine"}', "utf-8")
    added = llmos("models", "add", "folder", "--no-check", "--alias", "my-own")

    assert (0, "") == (added.code, added.err)
    assert "my-own" in llmos("models", "list").out
    assert "taken" in llmos("models", "add", "folder", "--no-check").err
    assert 0 == llmos("models", "remove", "mine").code
    assert "mine" not in llmos("models", "list").out


def test_models_add_asks_the_backend(llmos: CommandLine) -> None:
    """A folder whose backend is missing is not listed."""
    Path("folder").mkdir()
    Path("folder/llmos.json").write_text('{"name": "mine"}', "utf-8")

    assert 3 == llmos("models", "add", "folder").code
    assert "mine" not in llmos("models", "list").out


def test_export_tells_its_progress(llmos: CommandLine) -> None:
    """A line per tenth beside the output where nothing can be drawn, and what to do with the folder."""
    done = llmos("export", ".", "target", "--with", "writer", "--weights", "w8a8")

    assert (0, 10) == (done.code, len(done.err.splitlines()))
    assert "llmos models add target" in done.out
    assert Path("target").is_dir()


def test_export_json(llmos: CommandLine) -> None:
    """A program reads what the exporter returns, and nothing beside it."""
    done = llmos("export", ".", "target", "--with", "writer", "-o", "context=512", "--json")

    assert (0, "") == (done.code, done.err)
    assert {"context": 512} == json.loads(done.out)["options"]


def test_export_passes_formats_on(llmos: CommandLine) -> None:
    """Options of the weights' format reach the exporter where they were given, and only there."""
    done = llmos(
        *("export", ".", "target", "--with", "writer", "--json"),
        *("--format", "q4", "--block-size", "32", "--asymmetric", "--search"),
    )

    expected = {"weights": "q4", "block_size": 32, "asymmetric": True, "search": True}
    assert expected == json.loads(done.out)["options"]


def test_export_draws_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal there is one bar, whatever it works on."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with show_progress(quiet=False) as progress:
        progress("first", 1, 10)
        progress("second", 10, 10)

    assert "10/10" in capsys.readouterr().err


def test_plugins_list(llmos: CommandLine) -> None:
    """The objects of an embedding program are listed too."""
    found = json.loads(llmos("plugins", "list", "--kind", "backend", "--json").out)

    assert ["backend:echo"] == [record["key"] for record in found if not record["distribution"]]
    assert "scheduler:fifo" in llmos("plugins", "list").out


def test_scheduler_by_name(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line says which policy schedules, over the environment; of a wrong name it says the nearest."""
    monkeypatch.setenv("LLMOS_SCHEDULER", "nobody")
    done = llmos("--scheduler", "fifo", "generate", "hello")
    assert (0, "hello\n") == (done.code, done.out)

    done = llmos("--scheduler", "fifi", "generate", "hello")

    assert 3 == done.code
    assert "'fifi'" in done.err
    assert "fifo" in done.err


def test_version_and_completion(llmos: CommandLine) -> None:
    """Small commands."""
    assert "python" in json.loads(llmos("version", "--json").out)
    assert "_LLMOS_COMPLETE" in llmos("completion", "bash").out


def test_a_pipe_is_a_conversation(llmos: CommandLine, echo: EchoBackend) -> None:
    """Each line is a turn, and the model sees what was said before."""
    done = llmos("chat", "-s", "be brief", stdin=b"hello there\n\nand you\n/quit\nnever said\n")

    assert (0, "hello there\nand you\n") == (done.code, done.out)
    assert ["system", "user", "assistant", "user"] == [message["role"] for message in echo.executors[0].tasks[-1].input]


def test_chat_commands(llmos: CommandLine, echo: EchoBackend) -> None:
    """Help, a mistake, and forgetting."""
    done = llmos.talk("/help", "/hlep", "one", "/clear", "two", "/quit", "never said")

    assert 0 == done.code
    assert "There is no command /hlep" in done.out
    assert [1, 1] == [len(task.input) for task in echo.executors[0].tasks]


def test_chat_survives_mistakes(llmos: CommandLine, echo: EchoBackend) -> None:
    """An answer that fails is reported, is not part of the conversation, and the next one is asked."""

    def break_down() -> str:
        echo.faults.row = (0, KernelBug("odd"))
        return "one"

    def recover() -> str:
        echo.faults.row = None
        return "two"

    done = llmos.talk(break_down, recover)

    assert (0, True, True) == (done.code, "error: odd" in done.err, "two\n" in done.out)
    assert 1 == len(echo.executors[0].tasks[-1].input)


@pytest.mark.parametrize(("kept", "kind"), [(10, int), (0, Handle)])
def test_chat_keeps_its_cache_where_the_model_can(llmos: CommandLine, echo: EchoBackend, kept: int, kind: type) -> None:
    """A model that keeps contexts is given one for the whole chat; another gets each turn as it is."""
    echo._limits["kept"] = kept
    done = llmos("chat", stdin=b"one\ntwo\n")
    targets = [task.target for task in echo.executors[0].tasks]

    assert (0, "one\ntwo\n") == (done.code, done.out)
    assert [True, True] == [isinstance(target, kind) for target in targets]
    assert targets[0] == targets[1]


@contextmanager
def ctrl_c(echo: EchoBackend) -> Iterator[None]:
    """Press Ctrl-C once a step stands at the gate.

    A signal that comes between Python's last look for signals and the beginning of a wait is noticed only after the
    wait.  A person presses again; so does this.  Where the tests run in the background, Ctrl-C is ignored until here.
    """
    me = threading.get_ident()
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press() -> None:
        echo.gate.wait_for_visitor()
        signal.pthread_kill(me, signal.SIGINT)
        while not echo.gate.wait_until_left(2.0):
            signal.pthread_kill(me, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    yield
    thread.join()
    signal.signal(signal.SIGINT, ignored)


def test_ctrl_c_stops_the_answer_and_not_the_chat(llmos: CommandLine, echo: EchoBackend) -> None:
    """What was said until then stays in the conversation."""
    echo.faults.on_step = lambda number, plan: echo.gate.shut() if number == 3 else None

    def go_on() -> str:
        echo.gate.open()
        return "again"

    with ctrl_c(echo):
        done = llmos.talk("one two three four", go_on)

    assert (0, True) == (done.code, "[stopped]" in done.out)
    assert "again\n" in done.out
    assert ["user", "assistant", "user"] == [message["role"] for message in echo.executors[0].tasks[-1].input]


def test_ctrl_c_at_the_prompt_does_not_leave(llmos: CommandLine) -> None:
    """It says how to leave."""

    def press() -> str:
        raise KeyboardInterrupt

    done = llmos.talk(press, "still here")

    assert (0, True, True) == (done.code, "Ctrl-D to leave" in done.out, "still here\n" in done.out)


def test_ctrl_c_ends_generate(llmos: CommandLine, echo: EchoBackend) -> None:
    """With the exit code that shells expect."""
    echo.gate.shut()
    with ctrl_c(echo):
        done = llmos("generate", "a b c")

    assert (130, True) == (done.code, "interrupted" in done.err)


def llmos_process(*args: str, **environ: str) -> subprocess.Popen[str]:
    """Start the program itself."""
    pipe = subprocess.PIPE
    argv = [sys.executable, "-m", "llmos", *args]
    return subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environ})


def test_a_reader_that_leaves_is_no_error() -> None:
    """The program ends quietly, with an exit code of its own."""
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "llmos", "version"]
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)

    assert (141, "") == (done.returncode, done.stderr)


def test_no_colour_where_none_is_wanted() -> None:
    """``NO_COLOR``, and any output that is no terminal."""
    with llmos_process("plugins", "list", NO_COLOR="1") as process:
        out, _ = process.communicate(timeout=60)

    assert (0, False) == (process.returncode, "\x1b" in out)
