"""What the gateway itself says to users, one catalogue for each language.

Everything a user reads that neither the model wrote nor the formatter added stands here (a platform's own sentences
stand in its folder). Sentences are plain text and short enough for one message on every platform.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sentences:
    """One language."""

    help: str
    commands: Mapping[str, str]
    """What each command does, in the order of `/help`."""
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
    busy: str
    """Said when no model can be asked now."""
    paused: str
    """Said while an operator has paused the bot; the answer comes later."""
    unsupported: str
    empty: str
    """Said when the model answered nothing at all."""
    forgotten: str
    nothing_to_choose: str
    admins_only: str
    choices: str
    chosen: str
    unknown_choice: str
    refused: str
    limited: str
    tokens_used_up: str
    quote_mark: str
    """Stands, for the model, above the text that the user replies to."""

    def notice(self, name: str, reference: str) -> str:
        """Return the sentence of a notice."""
        sentence = {
            "expired": self.expired,
            "paused": self.paused,
            "unsupported": self.unsupported,
            "refused": self.refused,
            "limited": self.limited,
        }[name]
        return sentence.format(reference=reference)


_EN = Sentences(
    help="Just write to me, I answer with the help of an AI model.",
    commands={
        "/reset": "begin a new conversation",
        "/stop": "stop the answer in progress",
        "/model": "show or choose the model",
        "/prompt": "show or choose the way I answer",
        "/forget": "erase what I have stored of you here",
        "/help": "show this text",
    },
    reset="Done. I have forgotten this conversation.",
    stopped="Stopped.",
    stopped_mark="(stopped)",
    cut_mark="(The answer was cut: it reached the model's length limit.)",
    failed="Sorry, I could not answer that. Please try again later. (Reference: {reference})",
    filtered="Sorry, I can't answer that: a content filter refused it. (Reference: {reference})",
    too_long="Sorry, that is too long for me. Please shorten it, or send /reset. (Reference: {reference})",
    expired="Sorry, I could not answer your message in time. Please send it again. (Reference: {reference})",
    busy="The AI model can't be reached right now. Please send that again in a few minutes. (Reference: {reference})",
    paused="I am being looked after for a while. Your question is safe with me and I will answer it later.",
    unsupported="I can only read text so far.",
    empty="(The model gave an empty answer.)",
    forgotten="Done. I have erased what I had stored of you in this conversation (records: {count}).",
    nothing_to_choose="There is nothing to choose here.",
    admins_only="Only this bot's administrators may do that.",
    choices="There are: {names}. In use: {current}. To choose another, send {command} and its name.",
    chosen="Done. From now on this conversation uses {name}.",
    unknown_choice="That is none of these: {names}.",
    refused="Sorry, this bot is not open to you. Please ask the people who run it.",
    limited="That was too much at once. Please wait a minute; what you send until then I can't answer.",
    tokens_used_up="You have used up your share for today. Please come back tomorrow (days begin at 00:00 UTC).",
    quote_mark="(Quoted message that this replies to)",
)

_ZH = Sentences(
    help="直接给我发消息，我会借助 AI 模型回答。",
    commands={
        "/reset": "开始新的对话",
        "/stop": "停止正在生成的回答",
        "/model": "查看或选择模型",
        "/prompt": "查看或选择回答方式",
        "/forget": "删除我在这里保存的您的数据",
        "/help": "显示本说明",
    },
    reset="好的，我已忘记本次对话。",
    stopped="已停止。",
    stopped_mark="（已停止）",
    cut_mark="（回答达到模型长度上限，已被截断。）",
    failed="抱歉，暂时无法回答，请稍后再试。（编号：{reference}）",
    filtered="抱歉，内容未通过安全审核，无法回答。（编号：{reference}）",
    too_long="抱歉，内容太长了，请缩短后再发，或发送 /reset。（编号：{reference}）",
    expired="抱歉，您的消息没能及时得到回答，请重新发送。（编号：{reference}）",
    busy="AI 模型暂时无法使用，请几分钟后再发一次。（编号：{reference}）",
    paused="我正在维护中。您的问题已经收到，稍后会回答您。",
    unsupported="目前我只能阅读文字消息。",
    empty="（模型没有给出任何内容。）",
    forgotten="好的，我已删除本次对话中保存的您的数据（记录数：{count}）。",
    nothing_to_choose="这里没有可选择的内容。",
    admins_only="只有本机器人的管理员可以这样做。",
    choices="可选：{names}。当前：{current}。如需更换，请发送 {command} 加名称。",
    chosen="好的，本次对话从现在起使用 {name}。",
    unknown_choice="没有这个选项，可选：{names}。",
    refused="抱歉，您没有使用本机器人的权限，请联系管理员。",
    limited="您发得太快了，请等一分钟；在此期间发送的消息我无法回答。",
    tokens_used_up="您今天的用量已用完，请明天再来（每天北京时间 8:00 重新计算）。",
    quote_mark="（用户引用的消息）",
)


def sentences(locale: str) -> Sentences:
    """Return the catalogue of a locale: Chinese for `zh…`, English for everything else."""
    return _ZH if locale.lower().startswith("zh") else _EN
