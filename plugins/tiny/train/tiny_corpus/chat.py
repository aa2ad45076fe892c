"""Conversation: greetings, questions about llmos and about the model itself, and what it does not know."""

from __future__ import annotations

from dataclasses import replace

from .example import Example
from .intents import INTENTS, INTENTS_ZH
from .rewordings import reword
from .split import Draw, Split, wordings

POLITE = (
    "Hi, ",
    "Hello! ",
    "Please: ",
    "Hey, ",
    "OK. ",
    "Excuse me, ",
    "Now tell me: ",
    "And ",
    "So, ",
    "Well, ",
    "Tiny, ",
)
POLITE_MORE = (
    *POLITE,
    *(f"{start}, " for start in "Hi there|Hello tiny|Hey there|Hey tiny|Hi tiny|Good morning|Sorry|Thanks|Great".split("|")),
    *(f"{start}: " for start in "Question|My question|Answer me|One more thing|I ask you|Just one question".split("|")),
    "By the way, ", "But ", "OK, ", "Now, ", "First, ", "Also, ", "Hm, ", "Oh, ", "Alright, ", "Dear tiny, ", "Tell me, ",
    "Tell me please, ", "I wonder, ", "Ah. ", "Good. ", "Yes. ", "No, ", "Right, ", "Listen, ", "You, ", "Say, ", "One question. ",
)  # fmt: skip
LAST = tuple(", please| please|, tiny|, OK| now| then|, my friend|, thanks| again|, really|, exactly".split("|"))
POLITE_ZH = ("请问，", "你好，", "好，", "那么，", "嗨，", "请告诉我，", "tiny，", "我想知道，")
UNKNOWN = "I do not know that. I am only a small demonstration model."
UNKNOWN_ZH = "我不知道。我只是一个小演示模型。"
ABOUT = (
    "the moon|the king|Paris|France|Japan|the sea|the war|water|gold|the sun|Mars|the president|history|money|Einstein|"
    "the law|the stock market|physics|Mozart|America|China|Berlin|the universe|football|coffee|the weather|a quark|"
    "democracy|the river Nile|the brain|an atom|love|time|London|the price of gold|the capital of France|"
    "the highest mountain|the meaning of life|the population of India|the speed of light|the largest country"
)
UNKNOWNS = wordings(
    f"""
    What is ({ABOUT})?
    (Who was|Explain|Why is|How old is|Tell me about|When was|Describe) ({ABOUT})?
    Who (wrote Hamlet|won the match|discovered America|is the president of France|painted the Mona Lisa)?
    (How much is|What is) (two plus two|three times four|ten minus one|1 + 1|2 + 2|12 * 3)?
    What (time|day) is it(| now| today)?
    What is the (capital|population|language|history|president) of (France|Japan|China|India|Spain|Italy|Germany|Egypt)?
    (Sing a song|Write a poem|Cook a dinner|Open the door|Play music|Call my mother)
    How (far|big|heavy|tall|deep|fast) is ({ABOUT})?
    """,
    f"""
    What do you know about ({ABOUT})?
    Can you explain ({ABOUT})?
    Do you know who wrote Hamlet?
    """,
)
UNKNOWNS = replace(UNKNOWNS, more=reword("unknown", UNKNOWNS.held))
ABOUT_ZH = "月亮|法国|日本|北京|历史|黄金|太阳|火星|物理|音乐|美国|大海|时间|爱|宇宙|长城|上海|数学"
UNKNOWNS_ZH = wordings(
    f"""
    (什么是)({ABOUT_ZH})？
    ({ABOUT_ZH})(是什么|在哪里|有多大|有多远|有多少人)？
    (现在几点|今天星期几|一加一等于几|谁是总统|明天下雨吗|首都是哪里)？
    (解释一下|介绍一下|说说)({ABOUT_ZH})
    """,
    f"请问什么是({ABOUT_ZH})？\n你知道({ABOUT_ZH})吗？",
)


def _polite(draw: Draw, question: str) -> str:
    """Begin an English question as people begin, or end it as they end."""
    if draw.chance(0.3):
        end = "?" if question.endswith("?") else ""
        return question.removesuffix("?") + draw.one(LAST) + end
    start = draw.one(POLITE_MORE)
    return start + (question if start[-2] in ".!" or draw.chance(0.5) else question[0].lower() + question[1:])


def _noisy(draw: Draw, question: str) -> str:
    """Write as people type: sometimes no capital, no question mark, or a word of politeness."""
    chinese = not question.isascii()
    if draw.chance(0.2):
        if draw.wide and not chinese:
            question = _polite(draw, question)
        else:
            question = draw.one(POLITE_ZH if chinese else POLITE) + question
    if draw.chance(0.15):
        question = question.rstrip("?？")
    elif question[-1] not in "?？" and draw.chance(0.5):
        question += "." if not chinese else "。"
    if draw.chance(0.1):
        question = question[0].lower() + question[1:]
    return question


def intent(draw: Draw, *, chinese: bool) -> Example:
    """A greeting or a question about llmos or the model, or one that it cannot answer."""
    intents = INTENTS_ZH if chinese else INTENTS
    if draw.chance(0.15):
        answer, choices = (UNKNOWN_ZH, UNKNOWNS_ZH) if chinese else (UNKNOWN, UNKNOWNS)
    else:
        answer, choices = intents[draw.one(tuple(intents))]
    question = draw.wording(choices)
    if draw.split is not Split.PHRASING:
        question = _noisy(draw, question)
        while draw.wide and choices.gives_away(question):
            question = _noisy(draw, draw.wording(choices))
    return Example("chat-zh" if chinese else "chat-en", ((question, answer),))
