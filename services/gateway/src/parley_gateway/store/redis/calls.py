"""What is run on one server: a script on the keys of a partition, and the wait for copies of what it wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoScriptError

from parley_gateway.store.redis.nodes import Node
from parley_gateway.store.redis.scripts import Script

Value = str | bytes | int | float
Command = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One script on the keys of one partition."""

    script: Script
    partition: int
    keys: Sequence[str]
    arguments: Sequence[Value] = ()

    def command(self, *, with_source: bool = False) -> Command:
        """Return the command that runs it; with its source the server also learns the script."""
        name = ("EVAL", self.script.source) if with_source else ("EVALSHA", self.script.sha)
        return (*name, len(self.keys), *self.keys, *self.arguments)


@dataclass(frozen=True, slots=True)
class Copies:
    """How many copies of a write must exist before it counts."""

    replicas: int = 0
    """Replicas that must have it."""
    local: int = 0
    """1 when the server's own disk must have it."""

    def command(self, wait_s: float) -> Command | None:
        """Return the command that waits for them, None when there is nothing to wait for.

        WAIT and WAITAOF count copies of what was written over the same connection (Redis documentation, "WAITAOF").
        """
        limit = max(1, int(wait_s * 1000))
        if self.local:
            return ("WAITAOF", self.local, self.replicas, limit)
        return ("WAIT", self.replicas, limit) if self.replicas else None

    def enough(self, answer: Any) -> bool:
        """Whether the answer to that command says that there are as many."""
        if isinstance(answer, list):
            return int(answer[0]) >= self.local and int(answer[1]) >= self.replicas
        return int(answer) >= self.replicas


NO_COPIES = Copies()


async def run(node: Node, call: Call, *, asking: bool, copies: Copies, wait_s: float) -> tuple[Any, bool]:
    """Run a script; return its answer, and whether there are enough copies of what it wrote.

    `asking` is how a cluster wants to be asked for a slot that is just moving to this node.
    """
    waiting = copies.command(wait_s)
    answers = await _try(node, call.command(), asking, waiting)
    if isinstance(answers[0], NoScriptError):
        answers = await _try(node, call.command(with_source=True), asking, waiting)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers[0], waiting is None or copies.enough(answers[1])


async def run_plain(node: Node, command: Command, *, asking: bool) -> Any:
    """Run any other command."""
    (answer,) = await _try(node, command, asking, None)
    if isinstance(answer, Exception):
        raise answer
    return answer


async def run_all(node: Node, commands: Sequence[Command]) -> list[Any]:
    """Send commands in one go over one connection and return their answers; errors are answers too."""
    pipeline = node.client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    answers: list[Any] = await pipeline.execute(raise_on_error=False)
    return answers


async def _try(node: Node, command: Command, asking: bool, waiting: Command | None) -> list[Any]:
    """Return the answer to a command and, if there is something to wait for, what the wait said."""
    before: list[Command] = [("ASKING",)] if asking else []
    after = [waiting] if waiting else []
    return (await run_all(node, [*before, command, *after]))[len(before) :]
