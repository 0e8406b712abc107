"""Who may do what with a bot: use it at all, choose its model or prompt, go past its limits.

Ids are compared exactly, as the platform names users, chats and tenants.
"""

from parley_gateway.config import BotSettings
from parley_gateway.messages import InboundMessage


def may_use(settings: BotSettings, message: InboundMessage) -> bool:
    """Tell whether this user may use the bot in this chat. What is denied stays denied, whatever is allowed."""
    tenant = message.sender_tenant or message.conversation.tenant
    allow, deny = settings.allow, settings.deny
    return not (message.sender in deny.users or message.conversation.chat in deny.chats or tenant in deny.tenants) and (
        (not allow.users or message.sender in allow.users)
        and (not allow.chats or message.conversation.chat in allow.chats)
        and (not allow.tenants or tenant in allow.tenants)
    )


def may_choose(settings: BotSettings, sender: str) -> bool:
    """Tell whether a user may choose model and prompt of a conversation: admins, or everybody where there are none."""
    return not settings.admins or sender in settings.admins


def has_limits(settings: BotSettings, sender: str) -> bool:
    """Tell whether the bot's limits hold for a user."""
    return not (settings.limits.admins_exempt and sender in settings.admins)
