"""Every metric of the gateway. Labels come from the settings and from closed sets, never from what users send."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

EVENTS = frozenset({
    "text", "image", "voice", "file", "link", "command", "subscribe", "unsubscribe", "recall", "verify", "fetch",
    "card_action", "other",
})  # fmt: skip
OUTCOMES = frozenset({
    "accepted", "duplicate", "rejected_signature", "rejected_stale", "rejected_decrypt", "rejected_malformed",
    "rejected_size", "refused_user", "refused_tenant", "limited", "unsupported", "queue_full", "unavailable", "error",
})  # fmt: skip
REPORTS = frozenset({"inline_only", "cardkit_refused", "card_refused"})
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)


class GatewayMetrics:
    """The gateway's metrics on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Declare everything."""
        self._events = Counter(
            "parley_gateway_events_total", "Webhook events.", ("platform", "event", "outcome"), registry=registry
        )
        self.ack_seconds = Histogram(
            "parley_gateway_ack_duration_seconds",
            "Time from a webhook's arrival to its answer.",
            ("platform",),
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 3, 4, 4.5, 5),
            registry=registry,
        )
        self._store_checks = Gauge(
            "parley_gateway_store_check",
            "1 when Redis is set as the guarantees need it, 0 when not: maxmemory-policy noeviction, appendonly yes.",
            ("check",),
            registry=registry,
        )
        self.queue_depth = Gauge("parley_queue_depth", "Messages waiting or in work.", registry=registry)
        self.queue_leased = Gauge("parley_queue_pending", "Lanes being worked on.", registry=registry)
        self.queue_oldest = Gauge("parley_queue_oldest_seconds", "Age of the oldest message.", registry=registry)
        self.queue_wait = Histogram(
            "parley_queue_wait_seconds", "Time a message waited for a worker.", buckets=_SECONDS, registry=registry
        )
        self.redelivered = Counter(
            "parley_queue_redelivered_total", "Messages that a worker began a second time or later.", registry=registry
        )
        self.dead = Counter("parley_queue_dead_total", "Messages that failed for good.", ("reason",), registry=registry)
        self.bot_paused = Gauge(
            "parley_gateway_bot_paused",
            "1 while an operator has paused the bot.",
            ("platform", "bot"),
            registry=registry,
        )
        self.trail_steps_lost = Counter(
            "parley_gateway_trail_steps_lost_total",
            "Steps of messages that could not be written for `explain`, since too many waited.",
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "parley_gateway_stage_duration_seconds",
            "Time a step took.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.replies = Counter(
            "parley_gateway_replies_total", "Replies by how they ended.", ("platform", "outcome"), registry=registry
        )
        self.feedback = Counter(
            "parley_gateway_feedback_total",
            "Answers that users rated: up or down.",
            ("platform", "bot", "value"),
            registry=registry,
        )
        self.reply_seconds = Histogram(
            "parley_gateway_reply_duration_seconds",
            "Time from a message's arrival to its whole answer.",
            ("platform",),
            buckets=(0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160),
            registry=registry,
        )
        self.delivery_attempts = Counter(
            "parley_gateway_delivery_attempts_total",
            "Calls to the platforms' APIs.",
            ("platform", "api", "outcome", "error_type"),
            registry=registry,
        )
        self._reports = Counter(
            "parley_gateway_platform_reports_total",
            "What platforms found out that an operator should know: inline_only (a WeChat account may not push), "
            "cardkit_refused (Feishu: a plain card instead of a streaming one), card_refused (Feishu: text instead of "
            "a card).",
            ("platform", "bot", "report"),
            registry=registry,
        )
        self.connection_up = Gauge(
            "parley_gateway_connection_up",
            "1 while the bot's own connection to its platform is up in this process, 0 while it isn't.",
            ("platform", "bot"),
            registry=registry,
        )
        self.credentials_ok = Gauge(
            "parley_gateway_credentials_ok",
            "1 when the bot's last token call worked, 0 when it failed.",
            ("platform", "bot"),
            registry=registry,
        )

    def store_check(self, check: str, passed: bool) -> None:
        """Show whether the store's server is set as the guarantees need it."""
        self._store_checks.labels(check).set(passed)

    def report(self, platform: str, bot: str, report: str) -> None:
        """Count a platform's report."""
        self._reports.labels(platform, bot, report if report in REPORTS else "other").inc()

    def event(self, platform: str, event: str, outcome: str) -> None:
        """Count one webhook event."""
        event = event if event in EVENTS else "other"
        outcome = outcome if outcome in OUTCOMES else "error"
        self._events.labels(platform, event, outcome).inc()
