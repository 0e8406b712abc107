"""A help desk as a LangChain Runnable: it answers from a list of questions, without any model or key."""

import re
from collections.abc import AsyncIterator

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableLambda

ANSWERS = {
    "When is the office open?": "The office is open from 9 to 17 o'clock, Monday to Friday.",
    "How do I get a new badge?": "Ask at the reception; a new badge takes a day.",
    "Where is the printer?": "The printer is on the second floor, beside the kitchen.",
}
UNKNOWN = "I only know about the office's hours, badges and the printer."


def find(question: str) -> str:
    """Return the answer whose question shares most words with this one."""
    words = set(re.findall(r"\w{4,}", question.lower()))
    known = max(ANSWERS, key=lambda one: len(words & set(re.findall(r"\w{4,}", one.lower()))))
    return ANSWERS[known] if words & set(re.findall(r"\w{4,}", known.lower())) else UNKNOWN


async def answer(messages: list[BaseMessage]) -> AsyncIterator[str]:
    """Say the answer word by word, as a model would."""
    for word in re.findall(r"\S+\s*", find(str(messages[-1].text))):
        yield word


desk = RunnableLambda(answer)
