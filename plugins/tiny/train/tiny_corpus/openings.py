"""More beginnings of stories, for the second phase of the training: put together from times, places and verbs."""

from __future__ import annotations

_TIME = (
    "(|||||one day |today |every day |one morning |one evening |in the morning |at night |on a sunny day |on a cold day |"
    "in winter |in summer |long ago |after lunch |one fine day |on Monday |early in the morning |late in the evening )"
)
_WHO = "(the|the|the|a|a|one) (|{x} |{x} |{x} {z} )"
_OTHER = "(the|the|a) (|{y} |{y} )"
_MEETS = (
    "(<see>|<meet>|<follow>|<help>|<love>|<like>|<watch>|<chase>|<visit>|<call>|<greet>|<teach>|<invite>|<push>|<kiss>|"
    "<hear>|<need>|<want>|<thank>|<bring>|<take>|<carry>|<forget>|<catch>|<hate>|<know>|<feed>|<pull>|<wash>|<paint>|"
    "<draw>|<touch>|<miss>|<trust>|<hug>|<lead>|<save>)"
)
_TOWARDS = (
    "(<jump> over|<run> after|<look> at|<walk> with|<sit> near|<sleep> near|<talk> to|<play> with|<dance> with|<sing> for|"
    "<smile> at|<laugh> at|<listen> to|<stand> behind|<hide> behind|<lie> near|<fly> over|<swim> to|<come> to|<think> of|"
    "<dream> of|<look> for|<cook> for|<write> to|<speak> to|<shout> at|<work> with|<work> for|<live> with|<run> from|"
    "<run> to|<eat> with|<travel> with|<play> near|<go> to|<walk> behind|<stop> near|<turn> to|<climb> over|<stand> before|"
    "<care> for|<fall> over|<be> afraid of|<be> near|<be> the friend of|<be> with)"
)
_WHERE = "(|||| in the {P}| near the {P}| at the {P}| behind the {P}| not far from the {P}| in front of the {P})"
_GOES = (
    "(<go>|<run>|<come>|<travel>|<swim>|<fly>|<climb>|<hurry>|<drive>|<ride>|<return>|<come> back|<go> back|<want> to go|"
    "<move>|<run> away|<jump>)"
)
_STAYS = (
    "(<live>|<play>|<sleep>|<work>|<sing>|<dance>|<hide>|<stand>|<lie>|<wait>|<eat>|<stay>|<rest>|<laugh>|<read>|<cook>|"
    "<jump>|<run>|<swim>|<be> alone|<be> lost|<be> {f}|<talk>|<dream>|<look> around|<wake> up|<be> at work)"
)
_AT = "(in|near|behind|at|beside|outside|not far from|in front of) the {P}"
_BOTH = "([play]|[sleep]|[work]|[sing]|[dance]|[hide]|[stand]|[eat]|[stay]|[laugh]|[run]|[swim]|[talk]|[be] lost|[be]|[meet])"

TWO = f"""
{_TIME}{_WHO}{{A}} {_MEETS} {_OTHER}{{B}}{_WHERE}.
{_TIME}{_WHO}{{A}} {_MEETS} {_OTHER}{{B}}.
{_TIME}{_WHO}{{A}} {_TOWARDS} {_OTHER}{{B}}.
{_TIME}{_WHO}{{A}} {_TOWARDS} {_OTHER}{{B}}{_WHERE}.
(behind|at|not far from|outside|in front of) the {{P}} {_WHO}{{A}} {_MEETS} {_OTHER}{{B}}.
{_TIME}{_WHO}{{A}} and {_OTHER}{{B}} {_BOTH} {_AT}.
{_TIME}{_WHO}{{A}} and {_OTHER}{{B}} ([be] good friends|[be] old friends|[eat] together|[go] to the {{P}}|[run] home|[dance] together|[look] for a {{T}}|[find] a {{q}} {{T}}|[have] a {{q}} {{T}}|[share] a {{O}}|[live] together).
{_WHO}{{A}} <have> (a friend, {_OTHER}{{B}}|{_OTHER}{{B}} as a friend|a {{y}} friend, a {{B}}).
{_WHO}{{A}} <give> {_OTHER}{{B}} a (|{{q}} )({{O}}|{{T}}).
{_WHO}{{A}} <say> (hello|good morning|goodbye) to {_OTHER}{{B}}.
"{{L}}," <say> {_WHO}{{A}} to {_OTHER}{{B}}.
this <be> the story of {_WHO}{{A}} and {_OTHER}{{B}}.
(there <be>|once there <be>|once upon a time there <be>) a {{x}} {{A}} and a {{y}} {{B}}(| in the {{P}}).
in the {{P}} (there |)[live] a {{x}} {{A}} and a {{y}} {{B}}.
"""
ONE = f"""
{_TIME}{_WHO}{{A}} {_GOES} (to|from|through|into|towards) the {{P}}.
{_TIME}{_WHO}{{A}} {_STAYS} {_AT}.
{_TIME}{_WHO}{{A}} <be> (very |so |a little |)({{f}}|{{x}}).
{_TIME}{_WHO}{{A}} (<eat>|<find>|<carry>|<have>|<see>|<buy>|<lose>|<bring>|<take>|<want>|<need>|<hide>|<share>|<paint>|<break>|<look> for|<play> with|<ask> for|<dream> of) a (|{{q}} |{{q}} )({{O}}|{{T}}){_WHERE}.
(there|here|once there|in this story there|once upon a time there) <be> a (|{{x}} |{{x}} {{z}} ){{A}}(|| {_AT}| who <live> {_AT}| with a {{q}} {{T}}).
(behind|at|not far from|outside|in front of|beside|in) the {{P}} (there <be>|<live>|there <live>|<stand>|<sleep>|<work>|<play>) a (|{{x}} ){{A}}.
(once upon a time|long ago|one day|many years ago|once) a (|{{x}} ){{A}} ({_GOES[1:-1]}) (to|from|into) the {{P}}.
once upon a time a {{x}} {{A}} (<live>|<work>|<sleep>) {_AT}.
(in|behind|beside|outside) the {{P}} a (|{{x}} ){{A}} (<sleep>|<play>|<sing>|<dance>|<work>|<live>|<wake> up).
(this|here) <be> (the story of a|a story about a|a) {{x}} {{A}}.
(do you know|listen to|I know|I remember) the (story of the |)(|{{x}} ){{A}}.
{_WHO}{{A}} ({_GOES[1:-1]}) home.
{_WHO}{{A}} <be> (not |never |always |often )({{f}}|{{x}}).
nobody <like> the {{x}} {{A}}.
everybody (<know>|<love>|<like>) the {{x}} {{A}}.
my {{A}} <be> (very |){{x}}.
"{{L}}," <say> {_WHO}{{A}}.
it <be> (a cold day|a warm day|late|night|winter|summer|early morning), and {_WHO}{{A}} <be> ({{f}}|{_AT}).
"""
NAMED = """
(|one day |today |yesterday |in the morning |one evening )(|little |young |old ){N} (<go>|<run>|<come>|<travel>|<want> to go|<drive>|<swim>) (to|from|into|through) the {P}.
(|one day |today |at night |in summer ){N} (<play>|<work>|<sleep>|<be>|<sing>|<stay>|<read>|<live>) (in|near|behind|at) the {P}.
(|one day |today |one morning ){N} (<see>|<meet>|<love>|<like>|<help>|<follow>|<hear>|<visit>|<feed>|<catch>|<buy>|<want>|<watch>) a (|{x} ){B}(|| in the {P}| near the {P}).
{N} <have> (a|one) (|{x} ){B}(| called {M}).
{N} and {M} ([play]|[sleep]|[work]|[meet]|[run]|[talk]|[sing]|[live]) (in|near|at|behind) the {P}.
{N} <be> (a {x} {child}|a {x} child|very {f}|{f}).
(there <be>|once there <be>|once upon a time there <be>|one day there <be>) a (|{x} ){child} (named|called) {N}.
(this|here) <be> (a story about|the story of) {N}.
my friend {N} (<live>|<work>|<play>) in the {P}.
{N} (<give>|<show>) the (|{x} ){B} a {T}.
"""
REQUEST = """
(Tell me|Write|Tell|Write me|Give me|Tell us|Make up|Invent|I would like|Please tell me|Please write|Let me hear|Could you tell me|Will you tell me) (a story|a short story|a little story|a nice story|another story|a small story|one story) (about|of|with) a {A}(.|, please.| and a {B}.| and a {B}, please.)
(Tell me|Write|Please write|Give me|Let me hear|I would like|I'd like|Could you tell me|Will you tell me|Make up) (a story|a short story|a nice story|another story|some story|a small story)(.|, please.| now.)
(Tell|Write|Tell me|Give me) (a|the) (tale|story) of a {A}.
(Story|A story|Once more a story|A short story)(| about a {A}|, please|: the {A})(.|)
"""
ZH_TWO = """
(|||有一天，|今天，|早上，|晚上，|一天早上，|下午，|昨天，)(|一只|一只{x}|{x}|{x}){A}(看见|遇见|听见|看到|遇到|帮助|认识|爱上|想念|叫醒|找|记得|喜欢|感谢)(|了)(|一只|一只{y}|{y}|{y}){B}。
(|||有一天，|今天，|早上，|晚上，)(|一只|一只{x}|{x}|{x}){A}(跟着|看着|追着|等着|害怕|相信|寻找)(|一只|一只{y}|{y}|{y}){B}。
(||有一天，|今天，|晚上，)(|一只|{x}|{x}){A}(和|跟)(|一只|{y}|{y}){B}(一起玩|是好朋友|一起去{P}|说话|跳舞|一起跑到{P}|见面了|一起在{P}玩|都很{f}|一起吃{O}|在一起|一起回家|是朋友|住在一起|一起睡觉)。
(||有一天，|今天，|早上，|一天晚上，)(|一只|{x}){A}在{P}里(看见|遇见|听见|等|帮助|遇到|看到|认识)(|了)(|一只|{y}|一只{y}){B}。
(|在{P}里，)(|一只|{x}|{x}){A}(跳过|跑向|走向|飞过|看着|跟着|靠近)(|一只|{y}|{y}){B}。
{x}{A}(给|送给|带给)(|了){y}{B}一个{O}。
从前有一只{x}{A}和一只{y}{B}。
{P}里有一只{x}{A}和一只{y}{B}。
{A}对{B}说：“{L}”。
这是{A}和{B}的故事。
"""
ZH_ONE = """
(|||有一天，|今天，|早上，|晚上，|下午，|昨天，|一天早上，)(|一只|一只{x}|{x}|{x}){A}(去|来到|跑到|走到|回到|走进|跑进|想去|到)(|了){P}。
(||今天，|晚上，|早上，)(|一只|{x}|{x}|一只{x}){A}(住在|在|睡在|坐在)(|一个){P}(|里)。
(|||今天，|晚上，|有一天，)(|一只|{x}|{x}){A}(很{f}|非常{f}|饿了|累了|不高兴|在睡觉|在唱歌|醒了|在玩|回家了|不见了|下了床|想吃{O}|在吃{O}|有一个{O}|吃了一个{O}|买了一个{O}|找到了一个{O})。
(从前|以前|有一天|有一次|那天|今天|在很远的地方)(|，)有(一只|一只{x}|一只{x}){A}。
(从前|以前|那时候)(|，){P}里有(一只|一只{x}){A}。
(在|从前在|有一天，在){P}(里有|里睡着|旁边有|里来了|外面有)一只{x}{A}。
{P}(里来了|里有|旁边有|里睡着)一只(|{x}){A}。
(这是|我想说|请听)(一只|一只{x}){A}的故事。
(我有|我看见|我认识|我家有)一只{x}{A}。
(天黑了|下雨了|天气很好|太阳出来了|天很冷|下雪了)，(|{x}|一只{x}){A}(在{P}里|很{f}|回家了|去了{P})。
“{L}”，{A}说。
"""
PLACES = tuple(
    "castle beach island cave bridge tower valley desert jungle barn palace playground cottage street road wood shore camp church square".split()
)
CHARACTERS = (
    "lamb bunny parrot raccoon beaver otter dinosaur unicorn mermaid fairy elf dwarf troll kangaroo dolphin shark octopus "
    "butterfly snail worm pony bull swallow peacock leopard gorilla grandmother grandfather mother father brother sister uncle aunt "
    "hunter baker captain sailor thief judge clown dancer tailor shepherd neighbour stranger hero monk"
).split()
ADJECTIVES = (
    "curious careful gentle polite proud lonely sleepy busy dirty clean lucky grumpy noisy cheerful gloomy nervous calm smart famous "
    "golden purple orange wild tame fast slow hairy cold warm wet blind deaf lost free honest mean sweet old-fashioned"
).split()
WORDS = {"A": CHARACTERS, "P": PLACES, "x": ADJECTIVES, "y": ADJECTIVES}
"""More words for the slots of a beginning; what follows has none of them but the character that it goes on with."""
