"""What the operator's commands print: one line for each thing, times in UTC."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Row = Mapping[str, Any]

STEPS: Mapping[str, str] = {
    "accepted": "accepted and stored",
    "redelivered": "delivered again by the platform",
    "began": "a worker began",
    "paused": "waits: the bot is paused",
    "ramp": "waits: the model was out of reach and takes few questions at first",
    "prompt": "prompt built",
    "answered": "the model answered",
    "llm_failed": "the model's answer failed",
    "formatter_failed": "the formatter failed",
    "formatted": "answer formatted",
    "sent": "part sent",
    "send_failed": "sending failed",
    "put_off": "put off, to be tried again",
    "kept": "answer kept for the user's next request",
    "done": "done",
    "dead": "became a dead letter",
    "replayed": "replayed by an operator",
    "discarded": "dead letter discarded by an operator",
}


def printable(line: str) -> str:
    """Return a line with everything escaped that a terminal could take for a command: users wrote parts of it."""
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in line)


def moment(seconds: float) -> str:
    """Return a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def span(seconds: float) -> str:
    """Return a length of time as people say it."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def explained(answer: Row) -> Iterator[str]:
    """Show a message's way."""
    yield f"reference {answer['reference']}"
    steps: Sequence[Row] = answer["steps"]
    begin = steps[0]["at"] if steps else 0.0
    for step in steps:
        facts = " ".join(f"{name}={_fact(name, value)}" for name, value in step["facts"].items())
        told = STEPS.get(step["step"], step["step"])
        yield f"{moment(step['at'])}  +{step['at'] - begin:8.3f}s  [{step['by']}]  {told}" + (
            f"  {facts}" if facts else ""
        )
    if answer["dead_letter"]:
        dead = answer["dead_letter"]
        yield f"It is among the dead letters: {dead['reason']}, since {moment(dead['failed_at'])}."
        yield f"To try it again: parley-gateway dead-letters replay {answer['reference']}"


def _fact(name: str, value: object) -> str:
    if name.endswith("_at") and isinstance(value, int | float):
        return moment(value).replace(" ", "T")
    return f"{value:g}" if isinstance(value, float) else str(value)


def dead_letters(answer: Row) -> Iterator[str]:
    """List dead letters."""
    rows: Sequence[Row] = answer["dead_letters"]
    if not rows:
        yield "There are no dead letters."
    for row in rows:
        bot = f"{row['platform']}/{row['bot']}" if row["readable"] else "(unreadable)"
        yield f"{row['reference']}  {moment(row['failed_at'])}  {row['reason']:<12}  {bot}  {row.get('message_id', '')}"


def fields(answer: Row) -> Iterator[str]:
    """Show one thing, a line for each of its fields."""
    width = max(len(name) for name in answer)
    for name, value in answer.items():
        yield f"{name:<{width}}  {moment(value) if name.endswith('_at') else value}"


def status(answer: Row) -> Iterator[str]:
    """Show the state of the gateway."""
    queue = answer["queue"]
    yield f"waiting       {queue['depth']} messages, {queue['leased']} conversations in work"
    yield f"oldest        {span(queue['oldest_age_s'])}"
    yield f"dead letters  {queue['dead_letters']}"
    yield from _listed("paused", answer["paused"], _paused_line)
    yield from _listed("models", answer["models"], _model_line)
    yield f"asked         worker {answer['worker']}; the models are as this one sees them"


def _listed(title: str, rows: Sequence[Row], line: Callable[[Row], str]) -> Iterator[str]:
    lines = [line(row) for row in rows] or ["none" if title == "paused" else "none held up"]
    yield from (f"{title if index == 0 else '':<14}{text}" for index, text in enumerate(lines))


def _paused_line(row: Row) -> str:
    notice = f", says: {row['notice']}" if row["notice"] else ""
    return f"{row['platform']}/{row['bot']} since {moment(row['since'])} until {moment(row['until'])}{notice}"


def _model_line(row: Row) -> str:
    model = row["model"] or "(default)"
    state = "answers again" if row["answering"] else f"out of reach ({row['reason']})"
    return f"{model}: {state}, since {moment(row['since'])}; {row['asking']} questions of at most {row['limit']}"
