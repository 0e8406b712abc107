"""What `simulate` is asked to do, and which bot it is about."""

from collections.abc import Sequence
from dataclasses import dataclass

from parley_gateway.config import BotSettings
from parley_gateway.simulate.guard import RefusedError


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """The arguments of the command."""

    platform: str
    """`wechat` or `feishu`."""
    text: str
    bot: str = ""
    """Needed when several bots are on the platform."""
    user: str = "simulated-user"
    gateway: str = "http://127.0.0.1:8080"
    simulator: str = ""
    """Where the simulator is; empty means the bot's `base_url`."""
    group: bool = False
    """Write in a group and mention the bot (Feishu)."""
    timeout_s: float = 60.0

    def webhook_url(self, bot: str) -> str:
        """Return the URL that the bot's requests go to."""
        return f"{self.gateway.rstrip('/')}/webhooks/{self.platform}/{bot}"


def choose_bot(options: SimulateOptions, bots: Sequence[BotSettings]) -> BotSettings:
    """Return the bot that is meant. Raises RefusedError when there is none, or more than one."""
    if options.platform not in ("wechat", "feishu"):
        raise RefusedError(f"{options.platform!r} can't be simulated; wechat and feishu can")
    on_platform = [bot for bot in bots if bot.platform == options.platform]
    found = [bot for bot in on_platform if options.bot in ("", bot.name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(bot.name for bot in on_platform)
    if not on_platform:
        raise RefusedError(f"the settings have no bot on {options.platform}")
    if not found:
        raise RefusedError(f"the settings have no bot {options.bot!r} on {options.platform}; there are: {names}")
    raise RefusedError(f"several bots are on {options.platform}; choose one with --bot: {names}")
