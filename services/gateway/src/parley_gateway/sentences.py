"""What the gateway itself says to users, one catalogue for each language.

Everything a user reads that neither the model wrote nor the formatter added stands here (a platform's own sentences
stand in its folder). Sentences are plain text and short enough for one message on every platform.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sentences:
    """One language."""

    help: str
    reset: str
    stopped: str
    stopped_mark: str
    """Ends an answer that the user stopped."""
    cut_mark: str
    """Ends an answer that the model's length limit cut."""
    failed: str
    filtered: str
    too_long: str
    expired: str
    unsupported: str
    empty: str
    """Said when the model answered nothing at all."""

    def notice(self, name: str, reference: str) -> str:
        """Return the sentence of a notice."""
        sentence = {"expired": self.expired, "unsupported": self.unsupported}[name]
        return sentence.format(reference=reference)


_EN = Sentences(
    help=(
        "Just write to me, I answer with the help of an AI model.\n"
        "/reset – forget this conversation\n"
        "/stop – stop the answer in progress\n"
        "/help – show this text"
    ),
    reset="Done. I have forgotten this conversation.",
    stopped="Stopped.",
    stopped_mark="(stopped)",
    cut_mark="(The answer was cut: it reached the model's length limit.)",
    failed="Sorry, I could not answer that. Please try again later. (Reference: {reference})",
    filtered="Sorry, I can't answer that: a content filter refused it. (Reference: {reference})",
    too_long="Sorry, that is too long for me. Please shorten it, or send /reset. (Reference: {reference})",
    expired="Sorry, I could not answer your message in time. Please send it again. (Reference: {reference})",
    unsupported="I can only read text so far.",
    empty="(The model gave an empty answer.)",
)

_ZH = Sentences(
    help=(
        "直接给我发消息，我会借助 AI 模型回答。\n/reset – 忘记本次对话\n/stop – 停止正在生成的回答\n/help – 显示本说明"
    ),
    reset="好的，我已忘记本次对话。",
    stopped="已停止。",
    stopped_mark="（已停止）",
    cut_mark="（回答达到模型长度上限，已被截断。）",
    failed="抱歉，暂时无法回答，请稍后再试。（编号：{reference}）",
    filtered="抱歉，内容未通过安全审核，无法回答。（编号：{reference}）",
    too_long="抱歉，内容太长了，请缩短后再发，或发送 /reset。（编号：{reference}）",
    expired="抱歉，您的消息没能及时得到回答，请重新发送。（编号：{reference}）",
    unsupported="目前我只能阅读文字消息。",
    empty="（模型没有给出任何内容。）",
)


def sentences(locale: str) -> Sentences:
    """Return the catalogue of a locale: Chinese for `zh…`, English for everything else."""
    return _ZH if locale.lower().startswith("zh") else _EN
