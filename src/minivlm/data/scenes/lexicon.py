"""The Chinese words of the drawn world: what the grammar says and what the parser understands.

Each fact has one way to be recognised: no word here belongs to two skies, grounds, kinds or colours. Words that merely
look like one ("浪花" holds the word for flower) are listed as `NEUTRAL`, so that the longest match passes over them.
"""

from __future__ import annotations

from dataclasses import dataclass

DIGITS: dict[int, str] = {1: "一", 2: "两", 3: "三", 4: "四"}
COLOUR_WORDS: dict[str, str] = {
    "red": "红色",
    "yellow": "黄色",
    "blue": "蓝色",
    "green": "绿色",
    "white": "白色",
    "purple": "紫色",
}


@dataclass(frozen=True)
class KindWords:
    """How one kind is spoken of. `at` says what it does and where, `bare` the same without the place.

    In `at`, {ground} is the ground ("草地"), {on} a place on it ("草地上"), {over} the air above it ("草地上空").
    """

    measure: str
    nouns: tuple[str, ...]
    at: tuple[str, ...]
    bare: tuple[str, ...]
    exist: tuple[str, ...]  # follows a place: "草地上" + "停着" + "两辆红色的汽车"


KIND_WORDS: dict[str, KindWords] = {
    "bird": KindWords(
        "只", ("鸟", "小鸟", "飞鸟"), ("飞过{ground}", "在{over}飞翔", "在{over}盘旋"), ("在空中飞翔", "展翅飞翔"), ("飞着",)
    ),
    "cloud": KindWords("朵", ("云", "云彩"), ("飘在{over}", "浮在{over}"), ("飘在空中", "浮在天上"), ("飘着", "浮着")),
    "balloon": KindWords("个", ("热气球",), ("飘在{over}", "悬在{over}"), ("飘在空中", "悬在空中"), ("飘着", "悬着")),
    "kite": KindWords(
        "只", ("风筝",), ("飞在{over}", "在{over}飞舞"), ("在空中飞舞", "飞在天上"), ("飞着", "飘着")
    ),
    "mountain": KindWords(
        "座", ("山", "山峰"), ("矗立在{ground}尽头", "耸立在{ground}远处"), ("矗立在远处", "耸立在远方"), ("矗立着", "耸立着")
    ),
    "boat": KindWords(
        "艘", ("帆船", "小帆船"), ("航行在{on}", "漂在{on}", "停在{on}"), ("漂在水上", "停在水面"), ("漂着", "停着")
    ),
    "house": KindWords("座", ("房子", "小屋", "房屋"), ("坐落在{on}", "立在{on}"), ("静静地立着",), ("坐落着", "立着")),
    "tree": KindWords("棵", ("树", "小树"), ("长在{on}", "立在{on}"), ("静静地立着",), ("长着", "立着")),
    "car": KindWords("辆", ("汽车", "小汽车", "轿车"), ("停在{on}",), ("静静地停着",), ("停着",)),
    "flower": KindWords("朵", ("花", "小花", "鲜花"), ("开在{on}", "盛开在{on}"), ("正在开放",), ("开着", "盛开着")),
    "umbrella": KindWords("把", ("遮阳伞", "太阳伞"), ("立在{on}", "撑在{on}"), ("静静地撑着",), ("立着", "撑着")),
}


@dataclass(frozen=True)
class SkyWords:
    """`opening` begins a sentence, `before` goes before "的" and a place, `mood` ends a description."""

    opening: tuple[str, ...]
    before: tuple[str, ...]
    mood: tuple[str, ...]
    answers: tuple[str, ...]  # to "what is the sky like?"


SKY_WORDS: dict[str, SkyWords] = {
    "sunset": SkyWords(
        ("日落时分", "夕阳下", "傍晚", "黄昏时分", "落日余晖中"),
        ("日落时", "夕阳下", "傍晚", "黄昏"),
        ("夕阳的余晖让画面温暖而宁静", "晚霞映照，气氛温馨而安详", "落日的光线柔和，令人陶醉"),
        ("现在是日落时分。", "是傍晚，夕阳正在落下。", "天空中是日落的景象。"),
    ),
    "day": SkyWords(
        ("晴空下", "蓝天下", "晴天里", "阳光明媚", "晴朗的白天"),
        ("晴空下", "蓝天下", "晴天", "阳光下"),
        ("阳光明媚，画面明亮而清新", "天气晴朗，让人心情愉快", "阳光洒下来，充满活力"),
        ("现在是晴朗的白天。", "是晴天，阳光明媚。", "天空晴朗。"),
    ),
    "night": SkyWords(
        ("夜晚", "夜空下", "星空下", "夜色中", "夜里"),
        ("夜晚", "夜空下", "星空下", "夜色中"),
        ("星光点点，显得格外安静", "月光柔和，气氛神秘而宁静", "夜色深沉，给人安宁的感觉"),
        ("现在是夜晚。", "是晚上，天上有星星和月亮。", "天空中是夜空。"),
    ),
    "overcast": SkyWords(
        ("阴天里", "阴沉的天空下", "灰蒙蒙的天空下", "阴天"),
        ("阴天", "阴天里", "阴沉的天空下"),
        ("天空灰蒙蒙的，气氛有些沉静", "光线阴沉，画面显得素雅而安静", "天色阴沉，给人朴素的感觉"),
        ("现在是阴天。", "天空灰蒙蒙的，是阴天。", "天空很阴沉。"),
    ),
    "rain": SkyWords(
        ("雨天里", "雨中", "下雨天", "细雨中", "雨天"),
        ("雨天", "雨中", "细雨中"),
        ("细雨飘落，画面清冷而湿润", "雨丝落下，气氛安静而清凉", "雨水打湿了一切，别有韵味"),
        ("正在下雨。", "现在是雨天。", "天空阴暗，正下着雨。"),
    ),
}


@dataclass(frozen=True)
class GroundWords:
    """`names` in short captions, `rich` in descriptions, `on` what follows a name to say "on it"."""

    names: tuple[str, ...]
    rich: tuple[str, ...]
    on: str
    answers: tuple[str, ...]


GROUND_WORDS: dict[str, GroundWords] = {
    "sea": GroundWords(
        ("海面", "大海"), ("辽阔的大海", "宽广的海面", "起伏的海面"), "上", ("画面下方是大海。", "下方是一片海面。", "这里是大海。")
    ),
    "beach": GroundWords(
        ("沙滩", "海滩"), ("柔软的沙滩", "宽阔的海滩", "平坦的沙滩"), "上", ("画面下方是一片沙滩。", "下方是沙滩。", "这里是海滩。")
    ),
    "grass": GroundWords(
        ("草地", "草原"), ("开阔的草地", "起伏的草原", "柔软的草地"), "上", ("画面下方是一片草地。", "下方是草地。", "这里是草原。")
    ),
    "snow": GroundWords(
        ("雪地", "雪原"), ("白茫茫的雪地", "厚厚的雪地", "安静的雪原"), "上", ("画面下方是一片雪地。", "下方是雪地。", "这里是雪原。")
    ),
    "wheat": GroundWords(
        ("麦田",), ("成熟的麦田", "一望无际的麦田", "广阔的麦田"), "里", ("画面下方是一片麦田。", "下方是麦田。", "这里是麦田。")
    ),
}

# What the parser recognises, beyond the words above: what a language model may say in their place.
SKY_TERMS: dict[str, tuple[str, ...]] = {
    "sunset": ("日落", "夕阳", "傍晚", "黄昏", "落日", "晚霞", "余晖"),
    "day": ("晴空", "蓝天", "晴天", "晴朗", "阳光", "白天", "蓝色的天空", "蓝色天空", "晴"),
    "night": ("夜晚", "夜空", "星空", "夜色", "夜里", "夜间", "深夜", "黑夜", "星光", "月光", "晚上", "星星", "月亮", "夜"),
    "overcast": ("阴天", "阴沉", "灰蒙蒙", "乌云", "阴云", "多云", "灰色的天空", "灰色天空"),
    "rain": ("雨天", "雨中", "下雨", "下着雨", "细雨", "雨丝", "雨水", "雨"),
}
GROUND_TERMS: dict[str, tuple[str, ...]] = {
    "sea": ("海面", "大海", "海上", "海洋", "蓝色的大海", "蓝色的海面"),
    "beach": ("沙滩", "海滩", "沙地", "海边", "金色的沙滩", "金黄色的沙滩", "黄色的沙滩"),
    "grass": ("草地", "草原", "草坪", "草丛", "绿草", "青草", "绿色的草地", "绿色的草原", "绿草地"),
    "snow": ("雪地", "雪原", "积雪", "白雪", "白色的雪地", "白色的雪原"),
    "wheat": ("麦田", "麦地", "小麦", "麦浪", "金色的麦田", "金黄的麦田", "金黄色的麦田", "黄色的麦田"),
}
KIND_TERMS: dict[str, tuple[str, ...]] = {
    "bird": ("鸟", "小鸟", "飞鸟", "鸟儿", "海鸥"),
    "cloud": ("云", "云彩", "云朵"),
    "balloon": ("热气球", "气球"),
    "kite": ("风筝",),
    "mountain": ("山", "山峰", "雪山", "高山"),
    "boat": ("帆船", "小帆船", "小船", "船"),
    "house": ("房子", "小屋", "房屋", "木屋", "屋子"),
    "tree": ("树", "小树", "大树", "树木"),
    "car": ("汽车", "小汽车", "轿车", "小车", "车"),
    "flower": ("花", "小花", "鲜花", "花朵", "花儿"),
    "umbrella": ("遮阳伞", "太阳伞", "沙滩伞", "雨伞", "伞"),
}
COLOUR_TERMS: dict[str, tuple[str, ...]] = {key: (word, word[0]) for key, word in COLOUR_WORDS.items()}
MEASURES = "只艘条座栋幢间棵株朵个辆枝支把顶架"
NEUTRAL: tuple[str, ...] = (
    "浪花", "雪花", "花园", "花丛", "云层", "云雾", "云端", "山坡", "山脚", "火车", "车道", "树林", "树叶", "白茫茫", "雪白",
    "金黄色", "金黄", "橙红色", "橙红", "橙黄色", "太阳", "船帆", "花瓣", "红润",
)  # fmt: skip
