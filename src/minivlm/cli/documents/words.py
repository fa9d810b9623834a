"""The words of generated results, in the two languages of the READMEs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from minivlm.data.scenes.lexicon import COLOUR_WORDS, GROUND_WORDS, KIND_WORDS, NUMBER_WORDS, SKY_WORDS
from minivlm.evaluation.page.captions import mistake_in_words


@dataclass(frozen=True)
class Words:
    """One language. Fields in braces are filled in; `figures`: name in metrics.json → heading and digits."""

    language: str
    captions: tuple[str, str, str, str]  # headings of the pictures: picture, what it shows, both stages
    wrong: str  # opens the list of what is wrong with the failure, below a picture without fault
    alone: str  # the same where there is no such picture
    colon: str
    semicolon: str
    right: str  # how many pictures each stage describes without a mistake
    sides: str  # of the sides that captions of sft name, how many are right
    fold: str
    splits: Mapping[str, str]
    score_heads: tuple[str, str]
    figures: Mapping[str, tuple[str, int]]
    gap: str
    note: str
    loss_heads: tuple[str, ...]
    mistake: Callable[[Mapping[str, Any]], str]  # one of captions.json, in words

    def shows(self, scene: Mapping[str, Any]) -> str:
        """What a drawn picture shows: its truth, not what a model says."""
        groups = [self.group(group) for group in scene["groups"]]
        if self.language == "zh":
            place = SKY_WORDS[scene["sky"]].of[0] + GROUND_WORDS[scene["ground"]].names[0]
            return f"{place}：{'、'.join(groups)}"
        return f"{scene['sky']}, {scene['ground']}: {', '.join(groups)}"

    def group(self, group: Mapping[str, Any]) -> str:
        """`2 yellow houses`; 两座黄色的房子."""
        kind, number, colour = group["kind"], group["number"], group["colour"]
        if self.language == "zh":
            words = KIND_WORDS[kind]
            return f"{NUMBER_WORDS[number]}{words.measure}{COLOUR_WORDS[colour]}色的{words.nouns[0]}"
        return f"{number} {colour} {kind}{'s' if number > 1 else ''}"


def mistake_in_chinese(mistake: Mapping[str, Any]) -> str:
    """`山的数量应为一座，说成了两座`."""
    attribute, true, stated = mistake["attribute"], mistake["true"], mistake["stated"]
    of = KIND_WORDS[mistake["of"]] if mistake.get("of") else None

    def value(value: Any) -> str:
        if attribute == "sky":
            return SKY_WORDS[value].when[0]
        if attribute == "ground":
            return GROUND_WORDS[value].names[0]
        if attribute == "kind":
            return KIND_WORDS[value].nouns[0]
        measure = of.measure if of else ""
        return f"{NUMBER_WORDS[value]}{measure}" if attribute == "number" else f"{COLOUR_WORDS[value]}色"

    name = {"sky": "天空", "ground": "地面", "kind": "物体", "number": "数量", "colour": "颜色"}[attribute]
    if of and attribute != "kind":
        name = f"{of.nouns[0]}的{name}"
    if true is None:
        return f"凭空说出{name}“{value(stated)}”"
    if stated is None:
        return f"没有说出{name}“{value(true)}”"
    return f"{name}应为{value(true)}，说成了{value(stated)}"


ENGLISH = Words(
    language="en",
    captions=("picture", "what is drawn", "after pretrain", "after sft"),
    wrong="The second picture is a failure; what is wrong is bold:",
    alone="The picture is a failure; what is wrong is bold:",
    colon=": ",
    semicolon="; ",
    right="Of {all} pictures (`data/eval_images`) pretrain has all of sky, ground, things, numbers and "
    "colours right in {pretrain}, sft in {sft}.",
    sides="No score counts on which side things stand: of the {all} sides that sft names here {right} are right.",
    fold="All {all} pictures, and the losses",
    splits={"heldout": "new pictures", "compositional": "combinations never seen"},
    score_heads=("held-out rows", "model"),
    figures={
        "attribute_recall": ("recall", 3),
        "attribute_precision": ("precision", 3),
        "exact_scene": ("exact scene", 3),
        "hallucination_rate": ("hallucination", 3),
        "cider": ("CIDEr", 3),
        "bleu": ("BLEU", 1),
        "chrf": ("chrF", 1),
    },
    gap="image gap (nats)",
    note="In brackets: the same score with the pictures exchanged, which is what guessing earns.",
    loss_heads=("stage", "steps", "tokens", "training loss (mean of the last tenth)", "validation loss"),
    mistake=mistake_in_words,
)
CHINESE = Words(
    language="zh",
    captions=("图片", "画的是什么", "pretrain 之后", "sft 之后"),
    wrong="第二张是失败的例子，说错的地方用粗体标出：",
    alone="这是失败的例子，说错的地方用粗体标出：",
    colon="：",
    semicolon="；",
    right="`data/eval_images` 里共 {all} 张图片，天空、地面、物体、数量、颜色全部说对的，"
    "pretrain 有 {pretrain} 张，sft 有 {sft} 张。",
    sides="东西在左边还是右边不计入任何得分：这里 sft 一共说了 {all} 处方位，对了 {right} 处。",
    fold="全部 {all} 张图片和损失",
    splits={"heldout": "新图片", "compositional": "从未见过的组合"},
    score_heads=("留出数据", "模型"),
    figures={
        "attribute_recall": ("召回率", 3),
        "attribute_precision": ("精确率", 3),
        "exact_scene": ("整幅全对", 3),
        "hallucination_rate": ("幻觉率", 3),
        "cider": ("CIDEr", 3),
        "bleu": ("BLEU", 1),
        "chrf": ("chrF", 1),
    },
    gap="图像增益（nats）",
    note="括号里是把图片互换后的得分，也就是随机猜能得的分。",
    loss_heads=("阶段", "步数", "token 数", "训练损失（最后十分之一的均值）", "验证损失"),
    mistake=mistake_in_chinese,
)
