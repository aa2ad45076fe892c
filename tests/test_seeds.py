"""The two programs that the API grew from, as they were written."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.remote.tests.far_end import far_end
from plugins.remote.tests.test_openai import ANSWER
from tests.workspace import python

CLIENT = """
import llmos
client = llmos.Client()                        # embedded kernel; Client("http://host:port", token=…) is remote
model = client.load_model("gpt-3")             # a name or an alias; what it maps to is configuration
print(model.generate_text("The quick brown fox jumps over the lazy dog."))
"""
SYSTEM = """
import llmos
os = llmos.LLMOS()
model = llmos.load_model("gpt3")
def summarize_text(text):
    return model.generate_text(text, max_length=100)
os.submit_task(summarize_text, "This is a long article about LLMs.")
print(os.get_result())
"""


@pytest.mark.parametrize(("program", "alias"), [(CLIENT, "gpt-3"), (SYSTEM, "gpt3")])
def test_seed(program: str, alias: str, tmp_path: Path) -> None:
    """It prints generated text, ends well although it closes nothing, and says once what the alias stands for."""
    done = python(program, cwd=tmp_path, settings={"PYTHONWARNINGS": "error", "OPENAI_API_KEY": ""})

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 1
    assert 1 == done.stderr.count("is an alias")
    assert f'"{alias}"' in done.stderr


def test_two_loads_are_one_note(tmp_path: Path) -> None:
    """A program that loads the alias again is not told again."""
    again = CLIENT + '\nclient.load_model("gpt-3")\nllmos.load_model("gpt-3")\n'

    assert 1 == python(again, cwd=tmp_path, settings={"OPENAI_API_KEY": ""}).stderr.count("is an alias")


@pytest.mark.parametrize(("program", "alias"), [(CLIENT, "gpt-3"), (SYSTEM, "gpt3")])
def test_seed_with_a_key(program: str, alias: str, tmp_path: Path) -> None:
    """With a key for OpenAI the same programs ask OpenAI, here a stand-in on this machine, and say so once."""
    with far_end() as server:
        server.always = ANSWER
        options = f'base_url = "{server.url}"\napi_key = {{ env = "OPENAI_API_KEY" }}'
        (tmp_path / "llmos.toml").write_text(f'[options."backend:openai"]\n{options}\n', "utf-8")
        done = python(program, cwd=tmp_path, settings={"PYTHONWARNINGS": "error", "OPENAI_API_KEY": "sk-1"})

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "One two three"
    assert 1 == done.stderr.count("is an alias")
    assert f'"{alias}"' in done.stderr
    assert [one.body["model"] for one in server.asked] == ["gpt-3.5-turbo"]
