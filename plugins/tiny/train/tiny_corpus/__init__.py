"""The synthetic corpus of the bundled model: simple English and simple Chinese, made from a seed, nothing downloaded."""

from .example import ASSISTANT, BOS, CHAT_TEMPLATE, END, SPECIALS, SYSTEM, USER, Example
from .mix import TASKS, held_out, training
from .split import Draw, Split, is_held
from .stories import is_grammatical

__all__ = [
    "ASSISTANT",
    "BOS",
    "CHAT_TEMPLATE",
    "END",
    "SPECIALS",
    "SYSTEM",
    "TASKS",
    "USER",
    "Draw",
    "Example",
    "Split",
    "held_out",
    "is_grammatical",
    "is_held",
    "training",
]
