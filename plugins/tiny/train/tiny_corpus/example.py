"""What a training or test text is made of, and how it is laid out for the model."""

from __future__ import annotations

from dataclasses import dataclass

BOS, END, SYSTEM, USER, ASSISTANT = SPECIALS = ("<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] | trim) + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Example:
    """One text: turns of a conversation, or raw text when there is no question."""

    task: str
    turns: tuple[tuple[str, str], ...]
    """Pairs of question and answer. An empty question means raw text, which the answer continues."""

    system: str = ""
    opening: str = ""
    """Raw text only: a beginning that the model is given and need not predict."""

    @property
    def question(self) -> str:
        """The last question."""
        return self.turns[-1][0]

    @property
    def answer(self) -> str:
        """The last answer."""
        return self.turns[-1][1]

    def segments(self) -> list[tuple[str, bool]]:
        """Lay the text out: pieces in order, each with whether the model learns to write it."""
        if not self.turns[0][0]:
            return [(BOS + self.opening, False), (self.answer + END, True)]
        head = BOS + (SYSTEM + self.system + END if self.system else "")
        pieces: list[tuple[str, bool]] = []
        for question, answer in self.turns:
            pieces += [(f"{head}{USER}{question}{END}{ASSISTANT}", False), (answer + END, True)]
            head = ""
        return pieces

    def prompt(self) -> str:
        """Everything that comes before the last answer."""
        return "".join(text for text, _ in self.segments()[:-1])
