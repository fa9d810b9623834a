"""What the user asks: several phrasings for each kind of answer; the first of a list is the canonical one."""

IMAGE = "<image>\n"

SHORT_PROMPTS: tuple[str, ...] = tuple(
    IMAGE + text
    for text in (
        "请用一句话描述这张图片。",
        "用一句话说说图中的内容。",
        "请为这张图写一句简短的说明。",
        "简要概括一下这幅图。",
        "图片里有什么？请用一句话回答。",
        "请给这张图片配一句话。",
    )
)
LONG_PROMPTS: tuple[str, ...] = tuple(
    IMAGE + text
    for text in (
        "请详细描述这张图片。",
        "请仔细描述一下这幅图像的内容。",
        "你能详细说说这张图片吗？",
        "请具体介绍图片中的场景。",
        "这幅图像描绘了什么？请详细说明。",
        "请把你在图中看到的都告诉我。",
    )
)

SHORT_PROMPT = SHORT_PROMPTS[0]
LONG_PROMPT = LONG_PROMPTS[0]
