"""Commands at the level of the pipeline: what users may choose, see and erase."""

from dataclasses import replace

import pytest
from parley_gateway.messages import InboundMessage, MessageKind
from parley_gateway.ports import AnswerDelta, AnswerFinish
from parley_gateway.sentences import sentences

from tests.fakes.gateway_parts import question
from tests.gateway.conftest import Gateway


class User:
    """Writes to the bot and reads what comes back at once."""

    def __init__(self, gateway: Gateway, name: str = "ann", chat: str = "c1", *, group: bool = False) -> None:
        self._gateway = gateway
        self._name = name
        self._chat = chat
        self._group = group
        self._sent = 0

    def message(self, text: str) -> InboundMessage:
        self._sent += 1
        kind = MessageKind.COMMAND if text.startswith("/") else MessageKind.QUESTION
        now = self._gateway.clock()
        one = question(text, message_id=f"{self._name}{self._sent}", chat=self._chat, kind=kind, sent_at=now)
        return replace(one, sender=self._name, group=self._group)

    async def says(self, text: str) -> str:
        self._gateway.clock.now += 1
        await self._gateway.accept(self.message(text))
        await self._gateway.work()
        return self._gateway.platform.phone.texts[-1]


async def test_model_and_prompt_are_listed_chosen_and_used_for_the_conversation(gateway: Gateway) -> None:
    gateway.set_bot(model="chat", models=["big"], prompts=["translate"])
    ann, elsewhere = User(gateway), User(gateway, chat="c2")
    assert await ann.says("/model") == (
        "There are: chat, big. In use: chat. To choose another, send /model and its name."
    )
    assert await ann.says("/model big") == "Done. From now on this conversation uses big."
    assert "In use: big" in await ann.says("/model")
    assert await ann.says("/prompt translate") == "Done. From now on this conversation uses translate."
    await ann.says("hello")
    await elsewhere.says("hello")
    assert gateway.llm.models == ["big", "chat"]
    assert gateway.formatter.prompts == ["translate", "assistant"]
    await ann.says("/model chat")
    await ann.says("hello")
    assert gateway.llm.models[-1] == "chat"


async def test_choice_that_is_not_offered_is_refused_without_repeating_it(gateway: Gateway) -> None:
    gateway.set_bot(model="chat", models=["big"])
    ann = User(gateway)
    assert await ann.says("/model <at id=all></at>") == "That is none of these: chat, big."
    assert await ann.says("/prompt translate") == "There is nothing to choose here."
    await ann.says("hello")
    assert gateway.llm.models == ["chat"]


async def test_choice_ends_when_the_bot_no_longer_offers_it_and_after_its_time(gateway: Gateway) -> None:
    gateway.set_bot(model="chat", models=["big", "small"])
    ann, quiet = User(gateway), User(gateway, chat="c2")
    await ann.says("/model big")
    await quiet.says("/model big")
    gateway.set_bot(model="chat", models=["small"])
    await ann.says("hello")
    assert gateway.llm.models[-1] == "chat"
    gateway.set_bot(model="chat", models=["big"])
    # Use keeps a choice alive, as it does the history.
    for _ in range(3):
        gateway.clock.now += 4 * 86_400
        await ann.says("hello")
        assert gateway.llm.models[-1] == "big"
    await quiet.says("hello")
    assert gateway.llm.models[-1] == "chat"


async def test_bots_without_a_model_of_their_own_call_it_default(gateway: Gateway) -> None:
    gateway.set_bot(models=["big"])
    ann = User(gateway)
    assert "There are: default, big. In use: default." in await ann.says("/model")
    await ann.says("/model big")
    await ann.says("/model default")
    await ann.says("hello")
    assert gateway.llm.models == [""]


async def test_only_admins_choose_where_there_are_some(gateway: Gateway) -> None:
    gateway.set_bot(model="chat", models=["big"], admins=["root"])
    ann, root = User(gateway), User(gateway, "root")
    assert await ann.says("/model big") == "Only this bot's administrators may do that."
    assert "/model" not in await ann.says("/help")
    assert "/model – show or choose the model" in await root.says("/help")
    assert await root.says("/model big") == "Done. From now on this conversation uses big."
    await ann.says("hello")
    assert gateway.llm.models == ["big"]


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
async def test_help_lists_what_this_user_may_do(gateway: Gateway, locale: str) -> None:
    gateway.set_bot(locale=locale)
    ann = User(gateway)
    told = await ann.says("/help")
    assert [line.split(" ")[0] for line in told.splitlines()[1:]] == ["/reset", "/stop", "/forget", "/help"]
    gateway.set_bot(locale=locale, models=["big"], prompts=["translate"])
    told = await ann.says("/help")
    assert [line.split(" ")[0] for line in told.splitlines()[1:]] == [
        "/reset", "/stop", "/model", "/prompt", "/forget", "/help",
    ]  # fmt: skip


def test_both_languages_know_every_command_and_fill_the_same_gaps() -> None:
    english, chinese = sentences("en"), sentences("zh-CN")
    assert list(english.commands) == list(chinese.commands)
    for name in english.__slots__:
        texts = [getattr(words, name) for words in (english, chinese)]
        if isinstance(texts[0], str):
            assert all(text.strip() for text in texts), name
            gaps = [sorted(gap for gap in ("{reference}", "{names}", "{count}", "{name}") if gap in t) for t in texts]
            assert gaps[0] == gaps[1], name


async def test_forget_erases_the_conversation_and_says_how_much(gateway: Gateway) -> None:
    gateway.set_bot(model="chat", models=["big"])
    ann, elsewhere = User(gateway), User(gateway, chat="c2")
    await ann.says("my name is Ann")
    await elsewhere.says("hello")
    await ann.says("/model big")
    assert await ann.says("/forget") == (
        "Done. I have erased what I had stored of you in this conversation (records: 2)."
    )
    key = question(chat="c1").conversation.key
    assert await gateway.store.history(key, now=gateway.clock()) == ()
    assert len(await gateway.store.history(question(chat="c2").conversation.key, now=gateway.clock())) == 1
    await ann.says("hello again")
    assert gateway.llm.models[-1] == "chat"
    assert "Ann" not in str(gateway.llm.calls[-1])
    assert "(records: 1)" in await ann.says("/forget")


async def test_forget_takes_waiting_questions_and_the_running_one_along(gateway: Gateway) -> None:
    ann = User(gateway)
    running = ann.message("running")
    await gateway.accept(running)
    leased = await gateway.store.lease("worker", now=gateway.clock(), ttl_s=15)
    assert leased is not None
    gateway.clock.now += 1
    await gateway.accept(ann.message("waiting"))
    assert "(records: 2)" in await ann.says("/forget")
    assert gateway.llm.calls == []
    assert await ann.says("new") == "answer to new"
    assert [call[-1].content for call in gateway.llm.calls] == ["new"]


async def test_forget_in_a_group_erases_only_the_senders_own(gateway: Gateway) -> None:
    ann, bob = User(gateway, "ann", group=True), User(gateway, "bob", group=True)
    await ann.says("ann's")
    await bob.says("bob's")
    assert "(records: 1)" in await ann.says("/forget")
    history = await gateway.store.history(question().conversation.key, now=gateway.clock())
    assert [turn.question for turn in history] == ["bob's"]


async def test_farewell_erases_what_was_sent_before_it(gateway: Gateway) -> None:
    ann = User(gateway)
    gateway.llm.script = [[AnswerDelta("x"), AnswerFinish("stop")]]
    await ann.says("hello")
    conversation = question().conversation
    await gateway.admission.forget(conversation, at=gateway.clock() + 1)
    assert await gateway.store.history(conversation.key, now=gateway.clock()) == ()
