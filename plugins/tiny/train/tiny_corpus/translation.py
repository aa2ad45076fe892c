"""Short translations between English and Chinese within a small vocabulary and a regular grammar."""

from __future__ import annotations

from . import words as w
from .example import Example
from .split import Draw, wordings

TO_ZH = wordings(
    """
    (Translate|Translate this|Please translate) (to|into) Chinese: {}
    (Say|Write) (this|it) in Chinese: {}
    How do (you|I) say this in Chinese? {}
    In Chinese(, please|): {}
    (翻译成中文|翻译为中文|用中文说|中文怎么说)：{}
    """,
    """
    What is this in Chinese? {}
    Give me the Chinese for this: {}
    Can you translate this into Chinese? {}
    请把这句话翻译成中文：{}
    """,
)
TO_EN = wordings(
    """
    (Translate|Translate this|Please translate) (to|into) English: {}
    (Say|Write) (this|it) in English: {}
    How do (you|I) say this in English? {}
    In English(, please|): {}
    (翻译成英文|翻译为英文|用英文说|英文怎么说)：{}
    """,
    """
    What is this in English? {}
    Give me the English for this: {}
    Can you translate this into English? {}
    请把这句话翻译成英文：{}
    """,
)
PRONOUNS = (("I", "我"), ("you", "你"), ("we", "我们"), ("they", "他们"), ("he", "他"), ("she", "她"))
OBJECTS = (("me", "我"), ("you", "你"), ("us", "我们"), ("them", "他们"), ("him", "他"), ("her", "她"))
OWNERS = (("my", "我的"), ("your", "你的"), ("our", "我们的"), ("their", "他们的"), ("his", "他的"), ("her", "她的"))
PHRASES = tuple(
    tuple(line.split("/"))
    for line in (
        "Good morning./早上好。|Good evening./晚上好。|Good night./晚安。|Hello./你好。|Goodbye./再见。|Thank you./谢谢你。|"
        "How are you?/你好吗？|I am fine./我很好。|I love you./我爱你。|I am sorry./对不起。|You are welcome./不客气。|"
        "See you tomorrow./明天见。|What is your name?/你叫什么名字？|Where are you?/你在哪里？|Happy birthday./生日快乐。|"
        "The weather is nice today./今天天气很好。|I do not know./我不知道。|Nice to meet you./很高兴认识你。"
    ).split("|")
)
NOUNS = {n.en: n for n in w.NOUNS}
VERBS = {v.en: v for v in w.VERBS}
FORMS = ("plain", "plain", "plain", "not", "place", "question", "past", "did not", "will", "can", "want", "daily")


def _phrase(draw: Draw, noun: w.Noun, *, counted: bool) -> tuple[str, str]:
    """A noun with what stands before it: article, owner or number, and perhaps an adjective."""
    adjective = draw.one(w.adjectives_for(noun)) if draw.chance(0.35) else w.Adjective("", "", "")
    en, zh = f"{adjective.en} {noun.en}".strip(), adjective.before + noun.zh
    if draw.chance(0.2):
        owner, owner_zh = draw.one(OWNERS)
        return f"{owner} {en}", owner_zh + zh
    if counted and draw.chance(0.2):
        return w.article(en), f"一{noun.counter}{zh}"
    if counted and draw.chance(0.15):
        number, number_zh = draw.one(w.NUMBERS)
        return f"{number} {adjective.en} {noun.plural}".replace("  ", " "), f"{number_zh}{noun.counter}{zh}"
    return f"the {en}", zh


def _triple(draw: Draw) -> tuple[str, w.Verb, w.Noun]:
    """A subject (a noun or a pronoun), a verb and an object that the split allows."""

    def make() -> tuple[str, ...]:
        subject = draw.one(PRONOUNS)[0] if draw.chance(0.35) else draw.one((*w.ANIMALS, *w.PEOPLE)).en
        verb = draw.one(w.VERBS)
        fitting = [n for n in w.NOUNS if (n.kind in verb.objects or n.en in verb.objects) and n.en != subject]
        return subject, verb.en, draw.one(fitting).en

    subject, verb, noun = draw.combination(make)
    return subject, VERBS[verb], NOUNS[noun]


def _subject(draw: Draw, word: str) -> tuple[str, str, bool]:
    """The subject in both languages, and whether its verb takes an s."""
    if word not in NOUNS:
        return word, dict(PRONOUNS)[word], word in ("he", "she")
    en, zh = _phrase(draw, NOUNS[word], counted=False)
    if not draw.chance(0.1):
        return en, zh, True
    other = draw.one([n for n in (*w.ANIMALS, *w.PEOPLE) if n.en != word])
    return f"{en} and the {other.en}", f"{zh}和{other.zh}", False


def _clause(draw: Draw) -> tuple[str, str]:
    """A sentence with a verb: plain, negative, past, a wish, a question."""
    word, verb, thing = _triple(draw)
    subject, subject_zh, third = _subject(draw, word)
    obj, obj_zh = _phrase(draw, thing, counted=True)
    if thing.alive and word in NOUNS and draw.chance(0.08):
        obj, obj_zh = draw.one(OBJECTS)
    form = draw.one(FORMS)
    if form in ("past", "did not", "can", "want") and not verb.happens:
        form = "plain"
    does = "does" if third else "do"
    now = verb.third if third else verb.en
    place = draw.one(w.PLACES)
    return {
        "plain": (f"{subject} {now} {obj}.", f"{subject_zh}{verb.zh}{obj_zh}。"),
        "not": (f"{subject} {does} not {verb.en} {obj}.", f"{subject_zh}不{verb.zh}{obj_zh}。"),
        "place": (f"{subject} {now} {obj} in the {place.en}.", f"{subject_zh}在{place.zh}里{verb.zh}{obj_zh}。"),
        "question": (f"{does} {subject} {verb.en} {obj}?", f"{subject_zh}{verb.zh}{obj_zh}吗？"),
        "past": (f"{subject} {verb.past} {obj}.", f"{subject_zh}{verb.zh}了{obj_zh}。"),
        "did not": (f"{subject} did not {verb.en} {obj}.", f"{subject_zh}没有{verb.zh}{obj_zh}。"),
        "will": (f"{subject} will {verb.en} {obj}.", f"{subject_zh}会{verb.zh}{obj_zh}。"),
        "can": (f"{subject} can {verb.en} {obj}.", f"{subject_zh}能{verb.zh}{obj_zh}。"),
        "want": (f"{subject} {'wants' if third else 'want'} to {verb.en} {obj}.", f"{subject_zh}想{verb.zh}{obj_zh}。"),
        "daily": (f"{subject} {now} {obj} every day.", f"{subject_zh}每天{verb.zh}{obj_zh}。"),
    }[form]


def _there(draw: Draw) -> tuple[str, str]:
    """A sentence that says where something is."""
    word, place = draw.combination(lambda: (draw.one(w.NOUNS).en, draw.one(w.PLACES).en))
    noun, place_zh = NOUNS[word], next(p.zh for p in w.PLACES if p.en == place)
    if draw.chance(0.4):
        adjective = draw.one(w.adjectives_for(noun)) if draw.chance(0.4) else w.Adjective("", "", "")
        en = w.article(f"{adjective.en} {word}".strip())
        return f"there is {en} in the {place}.", f"{place_zh}里有一{noun.counter}{adjective.before}{noun.zh}。"
    subject, subject_zh = _phrase(draw, noun, counted=False)
    return f"{subject} is in the {place}.", f"{subject_zh}在{place_zh}里。"


def _is(draw: Draw) -> tuple[str, str]:
    """A sentence that says what something is, or what it is like."""

    def make() -> tuple[str, ...]:
        noun = draw.one(w.NOUNS)
        return noun.en, draw.one(w.adjectives_for(noun)).en

    word, quality = draw.combination(make)
    noun = NOUNS[word]
    adjective = next(a for a in w.adjectives_for(noun) if a.en == quality)
    if draw.chance(0.3):
        en = w.article(f"{quality} {word}")
        return f"this is {en}.", f"这是一{noun.counter}{adjective.before}{noun.zh}。"
    owner, owner_zh = draw.one((*OWNERS, *[("the", "")] * 6))
    return f"{owner} {word} is {quality}.", f"{owner_zh}{noun.zh}{adjective.said}。"


def pair(draw: Draw) -> tuple[str, str]:
    """An English sentence and its Chinese translation."""
    en, zh = (_clause if draw.chance(0.75) else _there if draw.chance(0.5) else _is)(draw)
    return en[0].upper() + en[1:], zh


def word_pair(draw: Draw) -> tuple[str, str]:
    """A single word, a noun with its adjective or a set phrase, in both languages (training only)."""
    if draw.chance(0.15):
        en, zh = draw.one(PHRASES)
        return en, zh
    if draw.chance(0.4):
        noun = draw.one((*w.NOUNS, *w.PLACES))
        return noun.en, noun.zh
    if draw.chance(0.25):
        adjective = draw.one([a for a in w.ADJECTIVES if a.en != "old"])
        return adjective.en, adjective.before
    if draw.chance(0.3):
        verb = draw.one(w.VERBS)
        return verb.en, verb.zh
    return _phrase(draw, draw.one(w.NOUNS), counted=True)


def to_zh(draw: Draw, *, word: bool = False) -> Example:
    """An example of translation into Chinese."""
    en, zh = word_pair(draw) if word else pair(draw)
    return Example("translate-en-zh", ((draw.wording(TO_ZH).format(en), zh),))


def to_en(draw: Draw, *, word: bool = False) -> Example:
    """An example of translation into English."""
    en, zh = word_pair(draw) if word else pair(draw)
    return Example("translate-zh-en", ((draw.wording(TO_EN).format(zh), en),))
