"""Writes the tables of docs/metrics.md from the registries; `--check` says whether they are current."""

import sys
from pathlib import Path

from parley_common.metrics import ServiceMetrics
from parley_formatter.metrics import FormatterMetrics
from parley_gateway.metrics import GatewayMetrics
from parley_llm.metrics import LLMMetrics
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
BEGIN, END = "<!-- metrics: begin -->", "<!-- metrics: end -->"
SECTIONS: tuple[tuple[str, type], ...] = (
    ("gateway", GatewayMetrics),
    ("llm", LLMMetrics),
    ("formatter", FormatterMetrics),
)
SUFFIXES = {"counter": "_total"}


def main() -> int:
    """Write or check; return 1 when the page is stale."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    current = f"{before}{BEGIN}\n{tables()}{END}{after}"
    if "--check" in sys.argv:
        if current != text:
            print("docs/metrics.md is stale: run scripts/metrics_docs.py", file=sys.stderr)
        return int(current != text)
    PAGE.write_text(current, encoding="utf-8")
    return 0


def tables() -> str:
    """Return one heading and table for what all services have, and for each service."""
    common = Declared()
    ServiceMetrics("service", "version", common)
    parts = [_table("every service", common)]
    for name, metrics in SECTIONS:
        declared = Declared()
        metrics(declared)
        parts.append(_table(f"`{name}`", declared))
    return "".join(parts)


class Declared(CollectorRegistry):
    """A registry that keeps its collectors in the order in which they were declared."""

    def __init__(self) -> None:
        super().__init__()
        self.collectors: list[Collector] = []

    def register(self, collector: Collector) -> None:
        """Keep a collector; what describes the process and not the service stays out of the tables."""
        super().register(collector)
        if not isinstance(collector, ProcessCollector | PlatformCollector | GCCollector):
            self.collectors.append(collector)

    def rows(self) -> list[tuple[str, str, tuple[str, ...], str]]:
        """Return name, type, labels and meaning of every metric."""
        found = []
        for collector in self.collectors:
            labels = tuple(getattr(collector, "_labelnames", ()) or getattr(collector, "label_names", ()))
            for family in getattr(collector, "describe", collector.collect)():
                name = family.name + SUFFIXES.get(family.type, "")
                found.append((name, family.type, labels, family.documentation))
        return found


def _table(title: str, declared: Declared) -> str:
    rows = "".join(
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |\n"
        for name, kind, labels, text in declared.rows()
    )
    return f"\n### {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n{rows}\n"


if __name__ == "__main__":
    sys.exit(main())
