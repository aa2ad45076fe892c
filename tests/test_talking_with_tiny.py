"""The bundled model in conversation, as a user has it: installed plugins, default settings."""

from __future__ import annotations

import pytest

from llmos import Client, Model, Text

SYSTEM = "You are a helpful assistant."
QUESTIONS = ("Hello! Who are you?", "What is llmos?", "Tell me a story about a fox.")


def plainly(model: Model) -> list[Text]:
    """Return the answers of a chat that keeps nothing between its turns."""
    said, answers = [], []
    for question in QUESTIONS:
        said.append({"role": "user", "content": question})
        answers.append(model.chat(said, system=SYSTEM, max_tokens=40, seed=1))
        said.append({"role": "assistant", "content": str(answers[-1])})
    return answers


def talked(model: Model) -> list[Text]:
    """Return the answers of a conversation."""
    with model.conversation(system=SYSTEM) as talk:
        return [talk.say(question, max_tokens=40, seed=1) for question in QUESTIONS]


@pytest.mark.usefixtures("bare")
def test_a_conversation_spares_its_past_and_says_the_same() -> None:
    """Each later turn finds the prompt of the one before it; tokens are those of a chat without; all is paid."""
    with Client() as client, client.load_model("tiny") as model:
        found = talked(model)
        charged = client.process._seat.account.nbytes
    with Client() as client, client.load_model("tiny") as model:
        expected = plainly(model)

    assert [answer.tokens for answer in expected] == [answer.tokens for answer in found]
    assert 0 == found[0].usage.cached
    assert [answer.usage.prompt for answer in found[:2]] == [answer.usage.cached for answer in found[1:]]
    assert 0 == charged


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the developer's."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    monkeypatch.chdir(folder)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    "wanted",
    ["The fox is there.", "\u72d0\u72f8\u5728\u90a3\u91cc\u3002", "a \U0001f98a and \U0001f469\u200d\U0001f680!"],
)
def test_bytes_of_all_tokens_are_the_answer(wanted: str) -> None:
    """Joined, the bytes of the tokens are the answer in UTF-8, whichever characters it has and however it ends."""
    with Client() as client, client.load_model("tiny") as model:
        answer = model.generate_text("Say it.", grammar=f'start: "{wanted}"', max_tokens=120, logprobs=2, seed=1)
    told = [(entry["token"], bytes(entry["bytes"])) for entry in answer.logprobs]
    texts = [(text, data) for text, data in told if data]

    assert wanted == str(answer)
    assert wanted.encode() == b"".join(data for _, data in told)
    assert [text for text, _ in texts] == [data.decode("utf-8", "backslashreplace") for _, data in texts]
    assert not any("\u0120" in other["token"] for entry in answer.logprobs for other in entry["top"])


@pytest.mark.usefixtures("bare")
def test_a_free_answer_is_its_tokens_bytes() -> None:
    """What the model says by itself is the bytes of its tokens too; the token that ends it has none."""
    with Client() as client, client.load_model("tiny") as model:
        answer = model.chat("Tell me a story about a fox.", max_tokens=200, logprobs=0, seed=1)

    assert str(answer).encode() == b"".join(bytes(entry["bytes"]) for entry in answer.logprobs)
    assert any(entry["token"].startswith(" ") for entry in answer.logprobs)
