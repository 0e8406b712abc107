"""The JSON forms that admin calls answer with. What people wrote is in none of them unless it is asked for."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from parley_gateway.levers import Pause
from parley_gateway.pacing import RampState
from parley_gateway.store.base import QueueStats
from parley_gateway.store.records import DeadLetter
from parley_gateway.trails import Step

View = dict[str, Any]


def status(stats: QueueStats, pauses: Sequence[Pause], models: Sequence[RampState], worker: str) -> View:
    """Show the state of the queue, and what holds it up."""
    return {
        "worker": worker,
        "queue": asdict(stats),
        "paused": [pause(one) for one in pauses],
        "models": [asdict(one) for one in models],
    }


def pause(one: Pause) -> View:
    """Show a pause."""
    return asdict(one)


def dead_letter(dead: DeadLetter, *, text: bool = False) -> View:
    """Show a dead letter; with `text` also what the user wrote and what the model answered."""
    view: View = {"reference": dead.reference, "reason": dead.reason, "failed_at": dead.failed_at}
    item = dead.item
    if item is None:
        return {**view, "readable": False, "record_bytes": len(dead.record.encode())}
    message = item.message
    view |= {
        "readable": True,
        "platform": message.conversation.platform,
        "bot": message.conversation.bot,
        "chat": message.conversation.chat,
        "sender": message.sender,
        "message_id": message.message_id,
        "kind": message.kind.value,
        "received_at": item.received_at,
        "attempts": item.attempts,
        "failures": item.failures,
        "characters": len(message.text),
        "answered": item.answer is not None and not item.answer.failure,
        "parts": [
            {"status": part.status.value, "remote_id": part.remote_id}
            for part in (item.answer.parts if item.answer else ())
        ],
    }
    if text:
        view |= {"text": message.text, "answer": item.answer.markdown if item.answer else ""}
    return view


def step(one: Step) -> View:
    """Show a step of a trail."""
    return {"at": one.at, "step": one.name, "by": one.by, "facts": dict(one.facts)}
