"""The words and sentence patterns of the stories."""

from __future__ import annotations

from . import openings
from . import words as w
from .split import Wordings, lines, wordings

CHARACTERS = (
    *(n.en for n in (*w.ANIMALS, *w.PEOPLE)),
    *(
        "king queen prince princess wizard dragon horse cow elephant snake fish whale goat hen man woman child baby robot "
        "ghost knight pirate cook driver nurse painter singer soldier giant witch deer owl eagle crow turtle bee ant "
        "spider squirrel hedgehog camel zebra panda penguin seal crab goose swan donkey kitten puppy"
    ).split(),
)
ADJECTIVES = (
    *{a.en: None for a in (*w.COLOURS, *w.QUALITIES) if a.goes_with != "dead"},
    *(
        "young kind funny sad brave shy friendly strange loud quiet fat thin tall short strong weak wise silly angry "
        "little good poor rich grey"
    ).split(),
)
FEELINGS = [f.replace("_", " ") for f in "happy sad tired hungry angry surprised very_happy not_happy afraid".split()]
QUALITIES = (*(c.en for c in w.COLOURS), "big", "small", "old", "new", "little", "beautiful", "strange", "good")
PLACES = (
    *(p.en for p in w.PLACES),
    "river",
    "sea",
    "field",
    "village",
    "town",
    "mountain",
    "lake",
    "hill",
    "city",
    "farm",
)
FOODS = (*(f.en for f in w.FOODS), "carrot", "fish", "nut", "pie")
THINGS = (*(t.en for t in w.THINGS), "stone", "boat", "bike", "door", "tree", "toy", "lamp", "chair")
LINES = (
    "Hello", "Good morning", "Let us play", "Come with me", "I am hungry", "Let us be friends", "Do not be afraid",
    "I am tired", "You are very fast", "What a nice day", "I have a plan", "Please help me", "Follow me", "Look at this", "I like your house", "Where do you live", "It is late", "Listen to me",
    "Can you help me", "I know a nice place", "Stay with me", "I am so happy", "You are so brave",
)  # fmt: skip
REPLIES = (
    "Yes",
    "Yes, let us go",
    "That is a good idea",
    "Of course",
    "I will help you",
    "Thank you",
    "I like you",
    "All right",
    "I would like that",
    "Why not",
    "You are very kind",
    "I do not know",
    "With pleasure",
)

TWO = wordings(
    """
    the {x} {z} {A} <jump> over the {y} {B}.
    the {x} {A} (<jump> over|<run> after|<look> at|<walk> with|<sit> near|<sleep> near|<talk> to) the {y} {B}.
    the {A} (<see>|<meet>|<follow>|<help>|<love>|<like>|<find>|<watch>|<chase>|<visit>|<call>) the {B}.
    a {x} {A} (<see>|<meet>|<follow>|<help>|<find>|<watch>|<chase>) a {y} {B}.
    the {x} {A} (<see>|<meet>|<follow>|<help>|<love>|<like>|<find>|<watch>|<chase>|<visit>) the {y} {B}.
    a {x} {A} and a {y} {B} [live] in the {P}.
    the {A} and the {B} [be] in the {P}.
    one day a {A} <meet> a {B} in the {P}.
    """,
    """
    the {x} {A} <wait> for the {y} {B}.
    in the {P} a {x} {A} <find> a {y} {B}.
    the {A} and the {x} {B} [live] near the {P}.
    """,
    openings.TWO,
)
ONE = wordings(
    """
    there <be> a {x} {A} in the {P}.
    the {A} <be> {f}.
    the {x} {A} <go> to the {P}.
    a {x} {A} <live> in the {P}.
    the {x} {A} <run> to the {P}.
    the {A} <eat> a {q} {O}.
    the {x} {A} <carry> a {q} {T}.
    once upon a time there <be> a {x} {A}.
    the {x} {z} {A} <be> in the {P}.
    """,
    """
    near the {P} there <be> a {x} {A}.
    the {x} {A} <walk> to the {P}.
    a {A} <sit> in the {P}.
    """,
    openings.ONE,
)
NAMED = wordings(
    """
    {N} <go> to the {P}.
    {N} <have> a {x} {B}.
    {N} <see> a {x} {B} in the {P}.
    {N} <be> in the {P}.
    {N} <meet> a {x} {B}.
    {N} and {M} [go] to the {P}.
    """,
    "{N} <walk> to the {P}.\none day {N} <find> a {x} {B}.",
    openings.NAMED,
)
MEET = (
    "one day the {A} <meet> a {y} {B}.", "there the {A} <see> a {y} {B}.", "then a {y} {B} <come> to the {A}.",
    "the {A} <hear> a {y} {B}.",
)  # fmt: skip
REACT = (
    "the {B} <look> at the {A}.",
    "the {B} <be> {f}.",
    "the {B} <wake> up and <look> at the {A}.",
    "the {B} <stop> and <smile>.",
)
SPEAK = ('"{L}," <say> the {B}.', '"{L}," <say> the {A}.')
REPLY = ('"{R}," <say> the {A}.', '"{R}," <say> the {B}.')
MOVE = (
    "they [run] to the {P}.", "they [go] to the {P} together.", "together they [walk] to the {P}.",
    "the {A} and the {B} [go] to the {P}.",
)  # fmt: skip
FOUND_FOOD = ("there they [find] a {O}.", "there they [see] a big {O}.")
USE_FOOD = (
    "they [eat] it together.",
    "the {A} <give> it to the {B}.",
    "they [share] the {O}.",
    "the {B} <eat> the {O}.",
)
FOUND_THING = ("there they [find] a {T}.", "there they [see] a {q} {T}.")
USE_THING = ("they [play] with it.", "they [take] it home.", "the {A} <like> the {T} very much.", "the {B} <be> {f}.")
END = (
    "now the {A} and the {B} [be] good friends.", "in the evening they [go] home.", "then they [sleep] under a tree.",
    "they [be] very happy.", "they [laugh] and [dance] together.", "it <be> a good day.", "from that day the {A} and the {B} [live] together.",
    "the {A} never <forget> the {B}.",
)  # fmt: skip
PLOTS = (
    (
        ("but the {A} <be> afraid of the water.", "the {A} <want> to go over the river."),
        ("the {B} <help> the {A}.", "so the {B} <carry> the {A} over the river."),
        ('"Thank you," <say> the {A}.', "the {A} <be> very happy."),
    ),
    (
        ("the {A} <look> for a lost {T}.", "the {A} <be> sad about a lost {T}."),
        ("the {B} <find> the {T} under a tree.", "the {B} <find> the {T} near the {P}.", "they [look] everywhere."),
        ("the {A} <thank> the {B}.", "then the {A} <be> happy again."),
    ),
    (
        ("it <begin> to rain.", "soon it <begin> to snow.", "a cold wind <come>."),
        ("they [run] into an old house.", "they [wait] under a big tree.", "the {B} <open> a big umbrella."),
        ("after the rain they [go] out again.", "they [tell] stories and [wait].", "soon the sun <come> back."),
    ),
    (
        ("in the night the {A} <hear> a strange sound.", "suddenly they [hear] a loud sound."),
        ("the {B} <be> afraid.", "the {A} <look> out of the window.", "they [run] away."),
        ("it <be> only the wind.", "it <be> only a leaf.", "it <be> only an old door."),
    ),
    (
        ("the {B} <have> a big {O}.", "the {B} <bring> a {O}.", "the {A} <have> two {q} hats."),
        ("the {A} <be> hungry too.", "the {A} <think> about it.", "the {A} <smile>."),
        ("they [share] everything.", "the {B} <give> it to the {A}.", "they [sit] down and [eat]."),
    ),
)
NAMED_PARTS = (
    ("there {he} <meet> a {x} {B}.", "{he} <see> a {x} {B} there.", "the {B} <be> {f}.", "the {B} <look> at {N}."),
    (
        "{he} <give> it a {O}.",
        "{he} <play> with the {B}.",
        "{he} <talk> to the {B}.",
        "the {B} <follow> {N} to the {P}.",
    ),
    ("the {B} <be> {f}.", '"{L}," <say> {N}.', "{he} <find> a {q} {T} too.", "they [eat] a {O} together."),
    ("in the evening {he} <go> home.", "now {N} and the {B} [be] good friends.", "{he} <be> very happy."),
)
PATTERNS = (
    *MEET, *REACT, *SPEAK, *REPLY, *MOVE, *FOUND_FOOD, *USE_FOOD, *FOUND_THING, *USE_THING, *END,
    *(p for part in NAMED_PARTS for p in part), *(p for plot in PLOTS for part in plot for p in part),
)  # fmt: skip
LISTS = {
    "A": CHARACTERS, "B": CHARACTERS, "x": ADJECTIVES, "y": ADJECTIVES, "z": ADJECTIVES, "q": QUALITIES, "P": PLACES, "O": FOODS,
    "T": THINGS, "f": FEELINGS, "L": LINES, "R": REPLIES, "N": w.NAMES, "M": w.NAMES, "he": ("he", "she"),
}  # fmt: skip

KIND_OF_TEXT = ("article", "story", "text", "book", "letter", "report", "page", "poem")
HOW_LONG = ("long", "short", "new", "good", "interesting", "simple", "old", "little")
TOPICS = {
    ("LLMs", "language models", "large language models", "computers", "robots", "AI models", "machines"): (
        "can read and write text", "learn from many books", "help people every day", "can answer questions",
        "are useful", "make mistakes sometimes", "need a lot of data",
    ),
    ("cats", "dogs", "birds", "foxes", "animals", "horses", "rabbits", "bears"): (
        "live in the forest", "like to sleep", "are good friends", "can run very fast", "eat every day", "are clever",
    ),
    ("apples", "cakes", "pears", "bananas", "eggs", "oranges"): (
        "are good to eat", "are sweet", "are cheap", "are good for children", "are on every table",
    ),
    ("children", "friends", "teachers", "doctors", "people", "farmers"): (
        "work every day", "like to talk", "help other people", "need good food", "have many ideas", "like music",
    ),
}  # fmt: skip
OTHER_TOPICS = (
    "the sea|the moon|history|music|football|the weather|a king|a small town|science|art|war|love|money|space|travel|"
    "the city|a long day|nothing|a strange house|Python|Linux|the kernel|operating systems|software"
).split("|")
ARTICLE = wordings(
    """
    (This|That) is a {how} {text} about {topic}.
    Here is a {how} {text} about {topic}.
    I (read|have) a {how} {text} about {topic}.
    """,
    "There is a {how} {text} about {topic}.\nThis {text} is about {topic}.",
)
ARTICLE_PARTS = (
    ("It says that {topic} {fact}.", "The {text} says that {topic} {fact}."),
    ("It also says that {topic} {fact}.", "Many people know that {topic} {fact}."),
    ("I like this {text}.", "Many people read it.", "It is easy to read.", "It has many pages."),
    ("At the end it says that {topic} {fact}.", "At the end there is a nice picture.", "It is a good {text}."),
)
OTHER_PARTS = ("It says many things about {topic}.", "The {text} is about {topic}, and it is very good.")

ZH_TWO = Wordings(
    (
        "一只{x}{A}跳过一只{y}{B}。", "{x}{A}看见了{y}{B}。", "有一天，{A}遇见了{B}。", "{x}{A}和{y}{B}住在{P}里。",
        "{A}喜欢{B}。", "敏捷的棕色{A}跳过懒惰的{B}。", "{x}{A}跟着{B}。",
    ),
    ("{A}在{P}里找到了{y}{B}。", "一只{A}和一只{B}在{P}里。"),
    lines(openings.ZH_TWO),
)  # fmt: skip
ZH_ONE = Wordings(
    (
        "从前有一只{x}{A}。",
        "{P}里有一只{x}{A}。",
        "{A}去了{P}。",
        "{x}{A}住在{P}里。",
        "今天天气很好。",
        "你好，世界！",
    ),
    ("很久以前，有一只{x}{A}。", "在{P}里住着一只{x}{A}。"),
    lines(openings.ZH_ONE),
)
ZH_PARTS = (
    ("有一天，{A}遇见了一只{y}{B}。", "{A}在那里看见了一只{y}{B}。"),
    ("{B}看着{A}。", "{B}很{f}。", "{B}停下来，笑了。"),
    ("{B}说：“{L}”。", "{A}说：“{L}”。"),
    ("他们一起去了{P}。", "{A}和{B}跑到{P}。"),
    ("他们在那里找到了一个{O}。", "他们一起吃{O}。", "{A}给了{B}一个{O}。"),
    ("现在{A}和{B}是好朋友。", "晚上他们回家了。", "他们非常高兴。"),
)
ZH_PLOTS = (
    (
        ("天下雨了。", "天黑了。"),
        ("他们跑进一个房子。", "他们在一棵大树下等。"),
        ("不久，太阳出来了。", "他们一起讲故事。"),
    ),
    (
        ("{A}找不到帽子。", "{A}找不到钥匙。"),
        ("{B}帮助{A}。", "{B}在树下找到了它。"),
        ("{A}谢谢{B}。", "{A}又高兴了。"),
    ),
    (("{A}想过河。", "{A}怕水。"), ("{B}帮助{A}过河。",), ("{A}说：“谢谢你”。", "{A}非常高兴。")),
)
ZH_LISTS = {
    "A": [n.zh for n in w.ANIMALS], "B": [n.zh for n in w.ANIMALS], "x": [a.before for a in w.ADJECTIVES if a.goes_with != "dead"],
    "y": [a.before for a in w.ADJECTIVES if a.goes_with != "dead"], "P": [p.zh for p in w.PLACES],
    "O": [f.zh for f in w.FOODS], "f": ["高兴", "累", "饿", "害怕", "生气"],
    "L": ["早上好", "你住在哪里", "我有一个好主意", "请帮帮我", "你好", "我们一起玩吧", "跟我来", "我饿了", "我们做朋友吧", "谢谢你", "好的"],
}  # fmt: skip
