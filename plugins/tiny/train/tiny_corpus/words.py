"""The words of simple English and simple Chinese, with what each needs to stand in a sentence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """A noun in both languages; `kind` says which verbs it goes with."""

    en: str
    zh: str
    kind: str
    counter: str = "个"


@dataclass(frozen=True)
class Verb:
    """A verb in both languages: base form, third person, past, Chinese."""

    en: str
    third: str
    past: str
    zh: str
    objects: tuple[str, ...]


def _nouns(kind: str, counter: str, text: str) -> tuple[Noun, ...]:
    return tuple(Noun(en, zh, kind, counter) for en, zh in (pair.split("/") for pair in text.split()))


ANIMALS = _nouns(
    "animal",
    "只",
    "cat/猫 dog/狗 fox/狐狸 bird/鸟 rabbit/兔子 bear/熊 mouse/老鼠 duck/鸭子 monkey/猴子 tiger/老虎 "
    "sheep/羊 frog/青蛙 lion/狮子 pig/猪 wolf/狼",
)
PEOPLE = _nouns("person", "个", "boy/男孩 girl/女孩 teacher/老师 doctor/医生 farmer/农民 student/学生")
FOODS = _nouns("food", "个", "apple/苹果 cake/蛋糕 egg/鸡蛋 banana/香蕉 pear/梨 orange/橙子")
THINGS = (
    *_nouns("thing", "个", "ball/球 box/盒子 bag/包 cup/杯子"),
    *_nouns("thing", "本", "book/书"),
    *_nouns("thing", "朵", "flower/花"),
    *_nouns("thing", "顶", "hat/帽子"),
    *_nouns("thing", "把", "key/钥匙 umbrella/雨伞"),
    *_nouns("thing", "辆", "car/汽车"),
)
NOUNS = (*ANIMALS, *PEOPLE, *FOODS, *THINGS)

PLACES = _nouns(
    "place",
    "个",
    "garden/花园 park/公园 school/学校 house/房子 kitchen/厨房 forest/森林 shop/商店 library/图书馆 "
    "hospital/医院 office/办公室 station/车站 museum/博物馆",
)

_ALL = ("animal", "person", "food", "thing")
_ALIVE = ("animal", "person")
_DEAD = ("food", "thing")
VERBS = (
    Verb("see", "sees", "saw", "看见", _ALL),
    Verb("like", "likes", "liked", "喜欢", _ALL),
    Verb("find", "finds", "found", "找到", _ALL),
    Verb("want", "wants", "wanted", "想要", _DEAD),
    Verb("need", "needs", "needed", "需要", _ALL),
    Verb("help", "helps", "helped", "帮助", _ALIVE),
    Verb("follow", "follows", "followed", "跟着", _ALIVE),
    Verb("love", "loves", "loved", "爱", _ALIVE),
    Verb("know", "knows", "knew", "认识", _ALIVE),
    Verb("buy", "buys", "bought", "买", _DEAD),
    Verb("carry", "carries", "carried", "拿着", _DEAD),
    Verb("eat", "eats", "ate", "吃", ("food",)),
)


@dataclass(frozen=True)
class Adjective:
    """An adjective in both languages, before a noun and (Chinese) as what is said of it."""

    en: str
    before: str
    said: str


def _adjectives(text: str) -> tuple[Adjective, ...]:
    return tuple(Adjective(*word.split("/")) for word in text.split())


COLOURS = _adjectives(
    "red/红色的/是红色的 blue/蓝色的/是蓝色的 green/绿色的/是绿色的 yellow/黄色的/是黄色的 "
    "white/白色的/是白色的 black/黑色的/是黑色的 brown/棕色的/是棕色的"
)
QUALITIES = _adjectives(
    "big/大/很大 small/小/很小 old/老/很老 happy/快乐的/很快乐 tired/疲倦的/很疲倦 hungry/饥饿的/很饥饿 "
    "clever/聪明的/很聪明 lazy/懒惰的/很懒惰 quick/敏捷的/很敏捷 beautiful/美丽的/很美丽"
)
DEAD_QUALITIES = ("big", "small", "old", "beautiful")
ADJECTIVES = (*COLOURS, *QUALITIES)

HE = ("Tom", "Ben", "Jack", "Sam", "Leo", "Max", "Paul", "David", "Peter", "Adam")
SHE = ("Anna", "Mia", "Lucy", "Emma", "Kate", "Lily", "Rose", "Sara", "Nina", "Mary")
NAMES = (*HE, *SHE)
HE_ZH = ("王明", "张伟", "陈军", "刘洋", "吴强", "林涛")
SHE_ZH = ("李红", "周丽", "孙芳", "赵静", "郭敏", "何雪")
NAMES_ZH = (*HE_ZH, *SHE_ZH)

GAMES = (("football", "足球"), ("tennis", "网球"), ("basketball", "篮球"), ("chess", "象棋"), ("cards", "纸牌"))
PLURALS = {
    "cat": "cats", "dog": "dogs", "bird": "birds", "rabbit": "rabbits", "duck": "ducks", "monkey": "monkeys",
    "tiger": "tigers", "frog": "frogs", "apple": "apples", "cake": "cakes", "egg": "eggs", "banana": "bananas",
    "pear": "pears", "orange": "oranges", "book": "books", "flower": "flowers", "hat": "hats", "car": "cars",
}  # fmt: skip


def article(word: str) -> str:
    """Put *a* or *an* before an English word."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def pronoun(name: str) -> str:
    """The pronoun of a first name, in the name's language."""
    if name in NAMES:
        return "he" if name in HE else "she"
    return "他" if name in HE_ZH else "她"
