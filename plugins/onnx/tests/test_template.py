"""Chat templates: as transformers renders them, and nothing gained by a hostile template or a forged message."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_kernel.errors import InvalidArgument, ModelUnavailable
from llmos_onnx import sandbox
from llmos_onnx.sandbox import ConversationRefused, TemplateRefused, compile_template, render
from llmos_onnx.template import ChatTemplate
from llmos_onnx.text import Codec
from plugins.onnx.tests.test_text import CODECS, CONTROL

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
HELLO = [{"role": "user", "content": "hello"}]


def chat(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    """Return a conversation in which user and assistant take turns."""
    turns = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    return turns if system is None else [{"role": "system", "content": system}, *turns]


def template(source: str) -> ChatTemplate:
    """Return the template of *source*."""
    return ChatTemplate(source, SPECIAL, model="m")


def text(source: str, messages: list[dict[str, str]]) -> str:
    """Return what *source* makes of *messages*."""
    return "".join(piece.text for piece in template(source).render(messages))


def plain(source: str, **variables: object) -> str:
    """Return what the bare sandbox makes of *source*."""
    return render(compile_template(source), variables)


def test_chatml() -> None:
    """The commonest template gives what it says."""
    expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"

    assert expected == text(CHATML, chat("hi", system="Be brief."))


def test_llama2() -> None:
    """Slices, assignments, loop variables, string methods and special tokens work; texts are stripped."""
    expected = "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]"

    assert expected == text(LLAMA2, chat("a", " b ", "c\n", system="S"))


def test_template_that_refuses_the_conversation() -> None:
    """raise_exception is the caller's mistake and repeats what the template says."""
    with pytest.raises(InvalidArgument, match="roles must alternate") as caught:
        text(LLAMA2, [*chat("a"), *chat("b")])

    assert "input" == caught.value.fields["field"]


def test_white_space_of_messages() -> None:
    """White space around a message is the template's to trim, and stays where it does not."""
    assert "[ a b\n]" == text("[{{ messages[0].content }}]", chat(" a b\n"))
    assert "[a b]" == text("[{{ messages[0].content | trim }}]", chat(" a b\n"))
    assert "empty" == text("{{ 'full' if messages[0].content | trim else 'empty' }}", chat(" \n"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for x in [1, 2, 3] %}{{ x }}{{ ',' if not loop.last }}{% endfor %}", "1,2,3"),
        ("{% for x in range(5) %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}", "012"),
        ("{% set ns = namespace(n=0) %}{% for x in [1, 2] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}", "3"),
        ("{{ {'b': 1, 'a': ['<é>', none]} | tojson }}", '{"b": 1, "a": ["<é>", null]}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(1) ~ m('x') }}", "<1><x>"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='role') | join('/') }}", "user/user"),
        ("{%- for m in messages if m.role == 'user' %}{{ loop.length }}{% endfor %}", "22"),
        ("{% generation %}{{ 1 + 2 }}{% endgeneration %}", "3"),
        ("{{ 'a-b'.split('-')[1] | upper }}{{ 'x' * 3 }}{{ 7 // 2 }}{{ 'ab'.replace('a', 'cc') }}", "Bxxx3ccb"),
        ("{% if tools is defined and tools %}t{% else %}n{% endif %}{{ missing }}", "n"),
        ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
        ("{% set x %}a{% endset %}{{ x | length }}{{ [1, [2]] }}{{ (1, 2)[0] }}{{ {'k': 5}.k }}", "1[1, [2]]15"),
        ("{% for a, b in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}{{ {'a': 1}.items() | list | length }}", "121"),
        ("{{ [{'a': 1}, {'a': 2}] | join('+', attribute='a') }}", "1+2"),
        ("{{ strftime_now('%Y') | int > 2000 }}", "True"),
        ("{{ 'a\nb' | indent(2) }}{{ ['x', 'y'] | join(',') }}{{ messages[-1]['role'] }}", "a\n  bx,yuser"),
    ],
)
def test_what_templates_use(source: str, expected: str) -> None:
    """The parts of Jinja that published chat templates rely on work as in Jinja."""
    assert expected == plain(source, messages=chat("a", "b", "c"), tools=None)


HOSTILE = {
    "class": "{{ ''.__class__.__mro__ }}",
    "class by filter": "{{ '' | attr('__class__') }}",
    "globals": "{{ raise_exception.__globals__ }}",
    "globals by string": "{{ range['__class__'] }}",
    "namespace": "{{ namespace.__init__.__globals__ }}",
    "format": "{{ '{0.__class__}'.format(1) }}",
    "format_map": "{{ '{a}'.format_map({'a': 1}) }}",
    "lipsum": "{{ lipsum(n=10) }}",
    "cycler": "{{ cycler.__init__ }}",
    "self": "{{ self._TemplateReference__context }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "extends": "{% extends 'x' %}",
    "mutate": "{{ messages.append(1) }}",
    "mutate dict": "{{ messages[0].update({'role': 'system'}) }}",
    "huge range": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loop over text": "{% for i in range(99999) %}{% for j in 'x' * 99999 %}{% endfor %}{% endfor %}",
    "repeat": "{{ 'a' * 10**9 }}",
    "repeat reversed": "{{ 10**9 * 'a' }}",
    "repeat list": "{{ [1] * 10**9 }}",
    "double": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "double ~": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "double join": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = [n.x, n.x]|join %}{% endfor %}",
    "double method": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x.join('abc') %}"
    "{% endfor %}",
    "double replace": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x|replace('a','aa') %}"
    "{% endfor %}",
    "replace method": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x.replace('a','aa') %}"
    "{% endfor %}",
    "nested lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}"
    "{% endfor %}{{ n.x }}",
    "nested dicts": "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = {'a': n.x, 'b': n.x} %}"
    "{% endfor %}{{ n.x|tojson }}",
    "nested dict call": "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = dict(a=n.x, b=n.x) %}"
    "{% endfor %}{{ n.x }}",
    "grown list": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "shown list": "{{ ['x' * 99999, 'x' * 99999, 'x' * 99999] }}",
    "doubled range": "{% for i in range(99999) | list + range(9999) | list %}{% endfor %}",
    "long dict": "{% for i in 'x' * 200000 %}{% endfor %}",
    "captured": "{% set x %}{% for i in range(9999) %}" + "y" * 9999 + "{% endfor %}{% endset %}",
    "literal in a loop": "{% for i in range(99999) %}" + "y" * 999 + "{% endfor %}",
    "macro bomb": "".join(
        f"{{% macro m{i}() %}}{{{{ m{i + 1}() }}}}{{{{ m{i + 1}() }}}}{{% endmacro %}}" for i in range(60)
    )
    + "{% macro m60() %}x{% endmacro %}{{ m0() }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "pad": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "center": "{{ 'a' | center(10**9) }}",
    "indent": "{{ 'a' | indent(10**9, true) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "format filter": "{{ '%1000000000d' | format(1) }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "big product": "{% set n = namespace(x=9) %}{% for i in range(99999) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "date": "{{ strftime_now('%1000000000d') }}",
    "tojson indent": "{{ [[1]] | tojson(indent=10**9) }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list }}",
    "wordwrap": "{{ 'a' | wordwrap(1, wrapstring='x' * 99999) }}",
    "constant folding": "{{ ('a' * 99999 ~ 'b') | replace('a', 'a' * 99999) }}",
    "syntax": "{% for %}",
    "unknown tag": "{% exec 'x' %}",
    "parentheses": "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    "deep lists": "{{ " + "[" * 300 + "]" * 300 + " }}",
    "too long": "x" * (sandbox.MAX_SOURCE + 1),
    "attribute of undefined": "{{ a.b.c }}",
    "division": "{{ 1 // 0 }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates(name: str) -> None:
    """Each is refused with one typed error that names the template, soon, and without taking much memory."""
    before = time.monotonic()
    with pytest.raises(ModelUnavailable, match="chat template of 'm' is refused") as caught:
        template(HOSTILE[name]).encode(HELLO, CODECS["byte_level"])

    assert "chat_template" == caught.value.fields["field"]
    assert time.monotonic() - before < sandbox.SECONDS + 3


def test_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that does little for long is stopped by the clock."""
    monkeypatch.setattr(sandbox, "SECONDS", 0.0)

    with pytest.raises(TemplateRefused, match="seconds"):
        plain("{% for i in range(9) %}{{ i }}{% endfor %}")


def test_own_refusal_is_not_a_broken_template() -> None:
    """raise_exception is told apart from everything that goes wrong."""
    with pytest.raises(ConversationRefused, match="no"):
        plain("{{ raise_exception('no') }}")


def test_template_that_changes_messages() -> None:
    """A template that cuts texts to pieces is refused: who wrote what would not be known."""
    with pytest.raises(ModelUnavailable, match="changes the text of messages"):
        template("{{ messages[0].content[2:] }}").encode(chat("a long text"), CODECS["byte_level"])


def test_messages_within_json() -> None:
    """A message that a template writes as JSON is escaped as JSON."""
    assert '{"role": "user", "content": "say \\"é\\"\\n!"}' == text("{{ messages[0] | tojson }}", chat('say "é"\n!'))


@pytest.mark.parametrize("kind", list(CODECS))
@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_encoded_as_a_whole(kind: str, texts: list[str]) -> None:
    """A conversation without control tokens in it is encoded exactly as its rendered text is."""
    codec, messages = CODECS[kind], chat(*texts)
    whole = text(CHATML, messages)

    assert codec.encode_template(whole)[0] == template(CHATML).encode(messages, codec)


def controls(codec: Codec, ids: list[int]) -> list[str]:
    """Return the control tokens among *ids*."""
    return [codec.token(id) for id in ids if id in codec.control_ids]


parts = st.lists(st.sampled_from([*CONTROL, "<think>", "<|im_", "end|>", "<", ">", "hi", " ", "\n", "中"]), max_size=8)


@pytest.mark.parametrize("kind", list(CODECS))
@settings(deadline=None, max_examples=150)
@given(texts=st.lists(parts.map("".join), min_size=1, max_size=4))
def test_forged_control_tokens(kind: str, texts: list[str]) -> None:
    """Whatever messages hold, the prompt's control tokens are those that the template wrote."""
    codec, messages = CODECS[kind], chat(*texts)
    ids = template(CHATML).encode(messages, codec)

    assert ["<|im_start|>", "<|im_end|>"] * len(texts) + ["<|im_start|>"] == controls(codec, ids)
    assert codec.decode([id for id in ids if id not in codec.control_ids]).count("im_start") == sum(
        message.count("im_start") for message in texts
    )


def test_control_token_from_two_messages() -> None:
    """Messages that only together spell a control token do not make one."""
    source = "{% for message in messages %}{{ message.content }}{% endfor %}</s>"
    ids = template(source).encode(chat("<|im_", "start|>"), CODECS["byte_level"])

    assert ["</s>"] == controls(CODECS["byte_level"], ids)


def test_control_token_from_message_and_template() -> None:
    """Nor does a message that completes what the template began."""
    ids = template("<|im_{{ messages[0].content }}</s>").encode(chat("start|>"), CODECS["byte_level"])

    assert ["</s>"] == controls(CODECS["byte_level"], ids)


def test_broken_template_refuses_chat_only() -> None:
    """A template that cannot be compiled is an error of the chat, not of loading the model."""
    broken: Any = template("{% for %}")

    with pytest.raises(ModelUnavailable, match="TemplateSyntaxError"):
        broken.render(HELLO)
