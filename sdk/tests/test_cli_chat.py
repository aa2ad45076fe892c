"""``llmos chat``: what can be done besides talking."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmos.cli.chat import HISTORY
from llmos.testing import EchoBackend
from sdk.tests.cli import CommandLine


@pytest.fixture
def llmos(echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line."""
    return CommandLine(echo, monkeypatch, capsys)


def heard(echo: EchoBackend, executor: int = 0) -> list[list[tuple[str, str]]]:
    """Return who had said what whenever the model was asked."""
    inputs: list[Any] = [task.input for task in echo.executors[executor].tasks]
    return [[(message["role"], message["content"]) for message in said] for said in inputs]


def test_a_text_of_several_lines(llmos: CommandLine, echo: EchoBackend) -> None:
    """Three quotation marks begin and end it, on lines of their own or not."""
    done = llmos.talk('"""one', "two", 'three"""', '"""', "four", '"""', '"""five"""')

    assert 0 == done.code
    assert ["one\ntwo\nthree", "four", "five"] == [said[-1][1] for said in heard(echo)]


def test_the_end_of_input_within_a_text_leaves(llmos: CommandLine, echo: EchoBackend) -> None:
    """What was not finished is not asked."""
    assert 0 == llmos.talk('"""one', "two").code
    assert [] == echo.executors[0].tasks


def test_another_model_goes_on(llmos: CommandLine, echo: EchoBackend) -> None:
    """It is told what was said; an unknown one changes nothing."""
    done = llmos.talk("one", "/model toi", "two", "/model toy", "three", "/model")

    assert 0 == done.code
    assert "there is no model 'toi'" in done.err
    assert ["toy answers.", "toy answers."] == [line for line in done.err.splitlines() if line.endswith("answers.")]
    assert ["one", "one", "two", "two", "three"] == [text for _, text in heard(echo, 1)[0]]


def test_a_new_beginning(llmos: CommandLine, echo: EchoBackend) -> None:
    """What the model is told first can be changed; what was said is forgotten with it."""
    llmos.talk("one", "/system be brief", "two", "/clear", "three", "/system", "four")

    assert [
        [("user", "one")],
        [("system", "be brief"), ("user", "two")],
        [("system", "be brief"), ("user", "three")],
        [("user", "four")],
    ] == heard(echo)


def test_a_conversation_is_kept(
    llmos: CommandLine, echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What /save writes, /load and --resume read."""
    file = tmp_path / "kept.json"
    llmos.talk("one", f"/save {file}", f"/load {file}", "two")

    said = [("user", "one"), ("assistant", "one")]
    assert said == [(one["role"], one["content"]) for one in json.loads(file.read_text("utf-8"))["messages"]]
    assert [*said, ("user", "two")] == heard(echo)[-1]

    monkeypatch.setattr("llmos.cli.chat.on_terminal", lambda: False)
    done = llmos("chat", "--resume", str(file), stdin=b"three\n")
    assert (0, "three\n") == (done.code, done.out)
    assert "Going on with 2 messages" in done.err
    assert [*said, ("user", "three")] == heard(echo, 1)[-1]


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"model": "echo"}', '{"messages": 3}', '{"messages": [{"role": "user"}]}', "\x00", "[" * 9999]
)
def test_what_was_not_kept_cannot_be_resumed(llmos: CommandLine, tmp_path: Path, text: str) -> None:
    """One error, and the conversation that goes on stays as it was."""
    file = tmp_path / "kept.json"
    file.write_text(text, "utf-8")
    done = llmos.talk("one", f"/load {file}", "two")

    assert 0 == done.code
    assert 1 == done.err.count("error:")
    assert "two\n" in done.out
    assert 1 == llmos("chat", "--resume", str(file)).code


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/save", "/save needs a file"), ("/load", "/load needs a file"), ("/file", "/file needs a file"),
        ("/load absent", "No such file"), ("/save .", "Is a directory"), ("/file absent", "No such file"),
    ],
)  # fmt: skip
def test_mistakes(llmos: CommandLine, line: str, why: str) -> None:
    """Each is named, and one can go on."""
    done = llmos.talk(line, "two")

    assert (0, True, True) == (done.code, why in done.err, "two\n" in done.out)


def test_an_unknown_command_names_the_nearest(llmos: CommandLine) -> None:
    """Or says how to see them all."""
    done = llmos.talk("/hlep", "/xyzzy")

    assert "There is no command /hlep; did you mean '/help'" in done.out
    assert "There is no command /xyzzy; /help lists them" in done.out


def test_files_go_before_what_is_said_next(llmos: CommandLine, echo: EchoBackend, tmp_path: Path) -> None:
    """Once, under their names."""
    (tmp_path / "notes.txt").write_text("buy milk\n", "utf-8")
    llmos.talk(f"/file {tmp_path / 'notes.txt'}", "what to do?", "and then?")

    assert ["notes.txt:\nbuy milk\n\nwhat to do?", "and then?"] == [said[-1][1] for said in heard(echo)]


def test_files_go_before_a_prompt(llmos: CommandLine, tmp_path: Path) -> None:
    """Of ``llmos generate`` too, in the order in which they are named."""
    for name in "ab":
        (tmp_path / name).write_text(f"text of {name}\n", "utf-8")
    done = llmos("generate", "-a", str(tmp_path / "a"), "-a", str(tmp_path / "b"), "go")

    assert "a:\ntext of a\n\nb:\ntext of b\n\ngo\n" == done.out


def test_files_that_are_no_text(llmos: CommandLine, tmp_path: Path) -> None:
    """Named, with the byte that is wrong."""
    (tmp_path / "picture").write_bytes(b"ab\xff")
    done = llmos("generate", "-a", str(tmp_path / "picture"), "go")

    assert 1 == done.code
    assert "picture is not UTF-8 (byte 2)" in done.err


def test_files_that_are_too_long(llmos: CommandLine, tmp_path: Path) -> None:
    """Are not read at all."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**24 + 1)
    done = llmos("generate", "-a", str(tmp_path / "large"), "go")

    assert 1 == done.code
    assert "large has more than 16777216 bytes" in done.err


def test_what_is_typed_is_kept_for_the_next_time(
    llmos: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a file that only its owner can read; on request it is not."""
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    llmos.talk("one")

    assert 0o600 == (tmp_path / "home" / HISTORY).stat().st_mode & 0o777
    (tmp_path / "home" / HISTORY).unlink()
    monkeypatch.setattr("llmos.cli.chat.on_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: "/quit")
    llmos("chat", "--no-history")

    assert not (tmp_path / "home" / HISTORY).exists()


def test_by_a_task_file(llmos: CommandLine, echo: EchoBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model, system, prompt and parameters are the file's; what is typed wins."""
    Path("tutor.toml").write_text(
        'type = "chat"\nmodel = "toy"\nsystem = "be brief"\nprompt = "explain {{ word }}"\n'
        "[params]\nmax_tokens = 9\ntop_k = 3\n"
    )
    done = llmos("chat", "--task", "tutor.toml", "--top-k", "4", stdin=b"a\nb\n")
    task = echo.executors[0].tasks[-1]

    assert (0, "explain a\nexplain b\n") == (done.code, done.out)
    assert [("system", "be brief"), ("user", "explain a"), ("assistant", "explain a"), ("user", "explain b")] == heard(
        echo
    )[-1]
    assert {"max_tokens": 9, "top_k": 4} == dict(task.params)


def test_a_task_file_in_a_conversation(llmos: CommandLine, echo: EchoBackend) -> None:
    """/task begins anew with the file's system, prompt, model and parameters; a wrong file changes nothing."""
    Path("tutor.toml").write_text(
        'type = "chat"\nsystem = "be brief"\nprompt = "explain {{ input }}"\nmodel = "toy"\n[params]\nmax_tokens = 9\n'
    )
    Path("wrong.toml").write_text('type = "embed"')
    done = llmos.talk("a", "/task tutor.toml", "b", "/task wrong.toml", "/task", "c")

    assert 0 == done.code
    assert "toy answers as tutor.toml says." in done.err
    assert "wrong.toml: type must be chat" in done.err
    assert "/task needs a file" in done.err
    assert [[("user", "a")]] == heard(echo)
    assert [("system", "be brief"), ("user", "explain b"), ("assistant", "explain b"), ("user", "explain c")] == heard(
        echo, 1
    )[-1]
    assert {"max_tokens": 9} == dict(echo.executors[1].tasks[-1].params)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('type = "embed"', "a.toml: type must be chat, to talk by it, not 'embed'"),
        ('type = "chat"\nprompt = "{{ a }} {{ b }}"', "a.toml: prompt must be a text with one placeholder"),
        ('type = "chat"\nsistem = "a"', "a.toml: there is no key 'sistem'; did you mean 'system'?"),
    ],
)
def test_by_a_wrong_task_file(llmos: CommandLine, text: str, said: str) -> None:
    """It is one error before anything is asked."""
    Path("a.toml").write_text(text)
    done = llmos("chat", "-T", "a.toml", stdin=b"a\n")

    assert (2, "", True) == (done.code, done.out, said in done.err)


def test_without_colour(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """--no-color is what NO_COLOR is, for everything that draws."""
    monkeypatch.setenv("NO_COLOR", "")
    assert 0 == llmos("--no-color", "chat", stdin=b"a\n").code

    assert "1" == os.environ["NO_COLOR"]
