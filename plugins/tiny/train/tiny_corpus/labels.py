"""Labels for a sentence (is it positive, what is it about) and repeating a text word for word."""

from __future__ import annotations

from . import words as w
from .example import Example
from .split import Draw, wordings

SENTIMENT = wordings(
    """
    (Positive or negative|Is this positive or negative)? {}
    (Sentiment|What is the sentiment|Give the sentiment): {}
    {} (Is this positive or negative?|What is the sentiment?)
    """,
    """
    Label the sentiment: {}
    Is this sentence positive or negative? {}
    """,
)
SENTIMENT_ZH = wordings(
    """
    (正面还是负面|这是正面还是负面)？{}
    (情感|判断情感)：{}
    {}(这是正面还是负面？|情感是什么？)
    """,
    """
    请判断情感：{}
    这句话是正面还是负面？{}
    """,
)
TOPIC = wordings(
    """
    (Topic|What is the topic|Give the topic): {}
    What is this about? {}
    {} (What is the topic?|What is this about?)
    """,
    """
    Label the topic: {}
    What is this sentence about? {}
    """,
)
TOPIC_ZH = wordings(
    """
    (主题|判断主题)：{}
    这是关于什么的？{}
    {}(主题是什么？|这是关于什么的？)
    """,
    """
    请判断主题：{}
    这句话是关于什么的？{}
    """,
)

OPINION_OF = (
    "film book song game food hotel story coffee cake car phone shop house city dinner party lesson trip picture show "
    "place job idea restaurant day"
).split()
OPINION_OF_ZH = "电影 书 歌 游戏 菜 酒店 故事 咖啡 蛋糕 汽车 手机 商店 城市 房子 节目 地方 主意 餐厅 聚会".split()
OPINIONS = {
    "positive": "great good wonderful excellent beautiful nice lovely perfect fantastic amazing brilliant".split(),
    "negative": "bad terrible boring awful ugly sad horrible stupid poor disappointing dreadful".split(),
}
OPINIONS_ZH = {
    "正面": "很好 很棒 很精彩 很美 很有意思 非常好 太好了 真不错 很完美".split(),
    "负面": "很差 很糟糕 很无聊 很难看 没意思 非常差 太差了 真糟糕 让人失望".split(),
}
FEEL = {"positive": "love like enjoy".split(), "negative": "hate dislike".split()}
FEEL_ZH = {"正面": "很喜欢 非常喜欢 爱".split(), "负面": "讨厌 不喜欢 很讨厌".split()}

TOPICS = {
    "sports": (("The team won the {}.", "We watched the {} on TV.", "He lost the {}."), "match game race final cup"),
    "food": (("We had {} for dinner.", "She cooks {}.", "I like to eat {}."), "soup rice noodles fish bread cheese"),
    "weather": (("There is a lot of {}.", "We had {} all day.", "The {} was very strong."), "rain snow wind sun fog"),
    "music": (("She plays the {} very well.", "He bought a {}.", "I heard a {}."), "piano guitar violin drum flute"),
    "travel": (("They took the {} to another city.", "We waited for the {}."), "train plane bus ship boat ferry"),
    "school": (("The teacher gave us a {}.", "The students had a {}."), "test lesson question class paper book"),
    "health": (("The doctor looked at my {}.", "My {} hurts."), "head arm leg back tooth hand"),
    "money": (("He paid the {} at the bank.", "The {} was too high."), "price bill rent tax loan"),
}
TOPIC_EXTRA = ("", " yesterday", " again", " this week", " on Monday", " in the evening")
TOPICS_ZH = {
    "体育": (("球队赢了{}。", "我们看了{}。"), "比赛 决赛 冠军赛 足球赛 篮球赛"),
    "美食": (("我们晚饭吃了{}。", "我喜欢吃{}。"), "米饭 面条 鱼 面包 汤 饺子"),
    "天气": (("外面有{}。", "有很多{}。"), "大雨 大雪 大风 太阳 云"),
    "音乐": (("她很会弹{}。", "他买了一架{}。"), "钢琴 吉他 古筝 琵琶 电子琴"),
    "旅行": (("他们坐{}去另一个城市。", "我们在等{}。"), "火车 飞机 汽车 船 高铁"),
    "学校": (("老师给了我们一次{}。", "学生们有一次{}。"), "考试 测验 作业 课 练习"),
    "健康": (("医生看了我的{}。", "我的{}很疼。"), "头 手 腿 背 牙"),
}


def sentiment(draw: Draw, *, chinese: bool) -> Example:
    """A sentence with an opinion, and which way it goes."""
    opinions, feel = (OPINIONS_ZH, FEEL_ZH) if chinese else (OPINIONS, FEEL)
    things = OPINION_OF_ZH if chinese else OPINION_OF

    def make() -> tuple[str, ...]:
        label = draw.one(tuple(opinions))
        return label, draw.one(things), draw.one((*opinions[label], *feel[label]))

    label, thing, word = draw.combination(make)
    if chinese:
        text = f"我{word}这个{thing}。" if word in feel[label] else f"{draw.one(('这个', '那个'))}{thing}{word}。"
    elif word in feel[label]:
        text = f"{draw.one(('I', 'We', 'They'))} {word} {draw.one(('this', 'that', 'the'))} {thing}."
    else:
        start = draw.one(("This {} is", "The {} was", "I think the {} is", "That {} was")).format(thing)
        text = f"{start} {draw.one(('', 'very ', 'really '))}{word}."
    question = draw.wording(SENTIMENT_ZH if chinese else SENTIMENT).format(text)
    return Example("label-zh" if chinese else "label-en", ((question, label),))


def topic(draw: Draw, *, chinese: bool) -> Example:
    """A sentence and the one word that says what it is about."""
    topics = TOPICS_ZH if chinese else TOPICS
    extras = ("", "昨天", "这个星期", "今天") if chinese else TOPIC_EXTRA

    def make() -> tuple[str, ...]:
        label = draw.one(tuple(topics))
        return label, draw.one(topics[label][1].split()), draw.one(extras)

    label, thing, extra = draw.combination(make)
    text = draw.one(topics[label][0]).format(thing)
    text = extra + text if chinese else text[:-1] + extra + "."
    question = draw.wording(TOPIC_ZH if chinese else TOPIC).format(text)
    return Example("label-zh" if chinese else "label-en", ((question, label),))


REPEAT = wordings(
    "(Repeat|Repeat this|Say|Say this|Copy): {}\n(重复|请重复|跟我说)：{}",
    "Please say this again: {}\n请再说一遍：{}",
)


def repeat(draw: Draw) -> Example:
    """Words in any order, to be said again."""
    pool = [*w.NAMES, *(n.en for n in (*w.NOUNS, *w.PLACES)), *{a.en: 0 for a in w.ADJECTIVES}]
    pool_zh = [*w.NAMES_ZH, *(n.zh for n in (*w.NOUNS, *w.PLACES))]
    count = draw.one((2, 3, 4, 5, 6))
    chinese = draw.chance(0.4)
    make = (lambda: tuple(draw.some(pool_zh, count))) if chinese else (lambda: tuple(draw.some(pool, count)))
    text = ("" if chinese else " ").join(draw.combination(make))
    return Example("repeat", ((draw.wording(REPEAT).format(text), text),))
