"""The words of simple English and simple Chinese, with what each needs to stand in a sentence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """A noun in both languages; `kind` says which verbs it goes with, `counter` how Chinese counts it."""

    en: str
    zh: str
    kind: str
    counter: str = "个"

    @property
    def alive(self) -> bool:
        """Whether it is an animal or a person."""
        return self.kind in ("animal", "person")

    @property
    def plural(self) -> str:
        """The English plural."""
        return plural(self.en)


@dataclass(frozen=True)
class Verb:
    """A verb in both languages; `objects` are the kinds of noun, or the nouns, that it goes with."""

    en: str
    third: str
    past: str
    zh: str
    objects: tuple[str, ...]

    @property
    def happens(self) -> bool:
        """Whether it is an event, which Chinese marks as past with one syllable."""
        return self.en not in _STATES and not self.zh.endswith("着")


@dataclass(frozen=True)
class Adjective:
    """An adjective in both languages, before a noun and (Chinese) as what is said of it."""

    en: str
    before: str
    said: str
    goes_with: str = "all"


_PLURALS = {
    "mouse": "mice", "sheep": "sheep", "wolf": "wolves", "goose": "geese", "fish": "fish", "deer": "deer", "man": "men",
    "woman": "women", "child": "children", "knife": "knives", "baby": "babies", "tomato": "tomatoes",
    "potato": "potatoes", "boy": "boys", "key": "keys", "toy": "toys", "monkey": "monkeys",
}  # fmt: skip


def plural(word: str) -> str:
    """The plural of an English noun."""
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith("y"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("x", "ch", "s", "sh")) else "s")


def _nouns(kind: str, text: str, counter: str = "个") -> tuple[Noun, ...]:
    parts = (item.split("/") for item in text.split())
    return tuple(Noun(part[0], part[1], kind, part[2] if len(part) > 2 else counter) for part in parts)


ANIMALS = _nouns(
    "animal",
    "cat/猫 dog/狗 fox/狐狸 bird/鸟 rabbit/兔子 bear/熊 mouse/老鼠 duck/鸭子 monkey/猴子 tiger/老虎 sheep/羊 frog/青蛙 "
    "lion/狮子 pig/猪/头 wolf/狼 horse/马/匹 cow/牛/头 elephant/大象/头 fish/鱼/条 snake/蛇/条 chicken/鸡 panda/熊猫 "
    "deer/鹿 goose/鹅",
    "只",
)
PEOPLE = _nouns(
    "person",
    "boy/男孩 girl/女孩 teacher/老师 doctor/医生 farmer/农民 student/学生 man/男人 woman/女人 child/孩子 friend/朋友 "
    "driver/司机 cook/厨师 singer/歌手 king/国王 queen/王后 nurse/护士 writer/作家 worker/工人 soldier/士兵 baby/婴儿",
)
JOBS = tuple(
    n for n in PEOPLE if n.en in "teacher doctor farmer student driver cook singer nurse writer worker soldier"
)
FOODS = _nouns(
    "food",
    "apple/苹果 cake/蛋糕 egg/鸡蛋 banana/香蕉 pear/梨 orange/橙子 tomato/西红柿 potato/土豆 pizza/披萨 peach/桃子 "
    "cookie/饼干 carrot/胡萝卜 melon/西瓜 lemon/柠檬 sandwich/三明治",
)
THINGS = _nouns(
    "thing",
    "ball/球 box/盒子 bag/包 cup/杯子 book/书/本 flower/花/朵 hat/帽子/顶 key/钥匙/把 umbrella/雨伞/把 car/汽车/辆 "
    "table/桌子/张 chair/椅子/把 bed/床/张 phone/手机/部 computer/电脑/台 pen/笔/支 clock/钟 door/门/扇 window/窗户/扇 "
    "bike/自行车/辆 boat/船/条 picture/照片/张 letter/信/封 map/地图/张 toy/玩具 lamp/灯/盏 knife/刀/把 shirt/衬衫/件 "
    "coat/外套/件 newspaper/报纸/张 guitar/吉他/把 camera/相机/台 ring/戒指",
)
NOUNS = (*ANIMALS, *PEOPLE, *FOODS, *THINGS)
PLACES = _nouns(
    "place",
    "garden/花园 park/公园 school/学校 house/房子 kitchen/厨房 forest/森林 shop/商店 library/图书馆 hospital/医院 "
    "office/办公室 station/车站 museum/博物馆 restaurant/餐厅 hotel/酒店 city/城市 village/村庄 room/房间 bank/银行 "
    "market/市场 zoo/动物园 airport/机场 farm/农场 factory/工厂 theater/剧院",
)
CITIES = tuple(
    tuple(pair.split("/"))
    for pair in "London/伦敦 Paris/巴黎 Berlin/柏林 Rome/罗马 Tokyo/东京 Beijing/北京 Shanghai/上海 Madrid/马德里".split()
)

_ALL = ("animal", "person", "food", "thing")
_ALIVE = ("animal", "person")
_DEAD = ("food", "thing")
_READ = ("book", "letter", "newspaper", "map")
_STATES = "like want need love know hate remember miss believe".split()
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
    Verb("look at", "looks at", "looked at", "看着", _ALL),
    Verb("look for", "looks for", "looked for", "寻找", _ALL),
    Verb("wait for", "waits for", "waited for", "等", _ALIVE),
    Verb("hear", "hears", "heard", "听见", _ALIVE),
    Verb("meet", "meets", "met", "遇见", _ALIVE),
    Verb("thank", "thanks", "thanked", "感谢", ("person",)),
    Verb("visit", "visits", "visited", "拜访", ("person",)),
    Verb("believe", "believes", "believed", "相信", ("person",)),
    Verb("miss", "misses", "missed", "想念", _ALIVE),
    Verb("hate", "hates", "hated", "讨厌", _ALL),
    Verb("remember", "remembers", "remembered", "记得", _ALL),
    Verb("forget", "forgets", "forgot", "忘记", _ALL),
    Verb("draw", "draws", "drew", "画", _ALL),
    Verb("sell", "sells", "sold", "卖", _DEAD),
    Verb("wash", "washes", "washed", "洗", _DEAD),
    Verb("use", "uses", "used", "用", ("thing",)),
    Verb("open", "opens", "opened", "打开", ("box", "bag", "door", "window", "letter", "book", "umbrella")),
    Verb("read", "reads", "read", "读", _READ),
    Verb("bring", "brings", "brought", "带来", _DEAD),
    Verb("choose", "chooses", "chose", "选择", _DEAD),
    Verb("touch", "touches", "touched", "摸", _ALL),
)


def _adjectives(text: str, goes_with: str = "all") -> tuple[Adjective, ...]:
    return tuple(Adjective(en, zh, said, goes_with) for en, zh, said in (word.split("/") for word in text.split()))


COLOURS = _adjectives(
    "red/红色的/是红色的 blue/蓝色的/是蓝色的 green/绿色的/是绿色的 yellow/黄色的/是黄色的 white/白色的/是白色的 "
    "black/黑色的/是黑色的 brown/棕色的/是棕色的 pink/粉色的/是粉色的 grey/灰色的/是灰色的",
    "coloured",
)
QUALITIES = (
    *_adjectives("big/大/很大 small/小/很小 beautiful/美丽的/很美丽"),
    *_adjectives(
        "old/老/很老 young/年轻的/很年轻 happy/快乐的/很快乐 tired/疲倦的/很疲倦 hungry/饥饿的/很饥饿 clever/聪明的/很聪明 "
        "lazy/懒惰的/很懒惰 quick/敏捷的/很敏捷 sad/难过的/很难过 angry/生气的/很生气 brave/勇敢的/很勇敢 kind/善良的/很善良 "
        "strong/强壮的/很强壮 friendly/友好的/很友好 quiet/安静的/很安静",
        "alive",
    ),
    *_adjectives("old/旧/很旧 new/新/很新 cheap/便宜的/很便宜 clean/干净的/很干净 dirty/脏/很脏", "dead"),
)
ADJECTIVES = (*COLOURS, *QUALITIES)


def adjectives_for(noun: Noun) -> list[Adjective]:
    """The adjectives that may stand before *noun*; people have no colour."""
    fitting = {"all", "alive" if noun.alive else "dead", "person" if noun.kind == "person" else "coloured"}
    return [a for a in ADJECTIVES if a.goes_with in fitting]


HE = tuple("Tom Ben Jack Sam Leo Max Paul David Peter Adam Mark John Nick Oscar Henry".split())
SHE = tuple("Anna Mia Lucy Emma Kate Lily Rose Sara Nina Mary Alice Julia Ella Clara Grace".split())
NAMES = (*HE, *SHE)
HE_ZH = tuple("王明 张伟 陈军 刘洋 吴强 林涛 马超 朱鹏 胡斌".split())
SHE_ZH = tuple("李红 周丽 孙芳 赵静 郭敏 何雪 高燕 罗兰 梁玉".split())
NAMES_ZH = (*HE_ZH, *SHE_ZH)

GAMES = (("football", "足球"), ("tennis", "网球"), ("basketball", "篮球"), ("chess", "象棋"), ("cards", "纸牌"))
NUMBERS = tuple(
    tuple(pair.split("/")) for pair in "two/两 three/三 four/四 five/五 six/六 seven/七 eight/八 nine/九 ten/十".split()
)


def article(word: str) -> str:
    """Put *a* or *an* before an English word."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def pronoun(name: str) -> str:
    """The pronoun of a first name, in the name's language."""
    if name in NAMES:
        return "he" if name in HE else "she"
    return "他" if name in HE_ZH else "她"
