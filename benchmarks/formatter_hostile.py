"""Times the formatter on hostile answers of growing size, as one table.

    python benchmarks/formatter_hostile.py [largest size in characters]

Each column doubles the size; a column much more than twice the one before it, at the larger sizes, is a bug.
"""

import datetime
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from parley_formatter.render.registry import DIALECTS
from parley_formatter.render.reply import ReplyFormatter, ReplyOptions

CASES: dict[str, Callable[[int], str]] = {
    "opening brackets": lambda n: "[" * n,
    "images": lambda n: "![" * (n // 2),
    "links without end": lambda n: "[a](b" * (n // 5),
    "nested quotes, one line": lambda n: ">" * n + "a",
    "nested quotes, many lines": lambda n: (">" * 30 + "a\n") * (n // 32),
    "nested quotes, lazy lines": lambda n: ">" * 30 + "a\n" * (n // 2),
    "nested lists, one line": lambda n: "- " * (n // 2) + "a",
    "nested lists, many lines": lambda n: "\n".join(" " * (i % 60) + "- a" for i in range(n // 34)),
    "list items": lambda n: "- a\n" * (n // 4),
    "asterisks": lambda n: "*" * n,
    "half emphasis": lambda n: "**a *a " * (n // 7),
    "nested emphasis": lambda n: "*a " * (n // 6) + "*" * (n // 6),
    "mixed emphasis": lambda n: "*a_ " * (n // 4),
    "backticks": lambda n: "".join("a" + "`" * (i % 50) for i in range(n // 26)),
    "dollars": lambda n: "$a " * (n // 3),
    "dollar pairs": lambda n: "$a$1" * (n // 4),
    "display math": lambda n: "\\[\n" * (n // 3),
    "deep LaTeX": lambda n: ("$" + "\\frac{" * 200 + "$ ") * (n // 1203 + 1),
    "nested environments": lambda n: ("$$" + "\\begin{a}" * 150 + "$$\n\n") * (n // 1356 + 1),
    "wide table": lambda n: "|" + "a|" * (n // 8) + "\n|" + "-|" * (n // 8) + "\n" + "|a\n" * (n // 12),
    "table at the column limit": lambda n: "|" + "a|" * 50 + "\n|" + "-|" * 50 + "\n" + "|a\n" * (n // 3),
    "long table": lambda n: "|a|b|\n|-|-|\n" + "|c|d|\n" * (n // 6),
    "many tables": lambda n: "|a|b|\n|-|-|\n|c|d|\n\n" * (n // 20),
    "references": lambda n: "".join(f"[a{i}]: http://x\n" for i in range(n // 16)),
    "one long line": lambda n: "字" * n,
    "one long word": lambda n: "a" * n,
    "long code line": lambda n: "```\n" + "x" * n,
    "many code lines": lambda n: "```\n" + "x\n" * (n // 2),
    "CDATA ends": lambda n: "]]>" * (n // 3),
    "tags": lambda n: "<at id=all>" * (n // 11),
    "open tags": lambda n: "<" * n,
    "spaced tags": lambda n: ("<" + " " * 50) * (n // 51),
    "bidi controls": lambda n: "\u202ea" * (n // 2),
    "combining marks": lambda n: "e" + "\u0301" * n,
    "joined emoji": lambda n: "👨\u200d" * (n // 2),
    "URLs": lambda n: "http://a)" * (n // 9),
    "URL ends": lambda n: "http://a" + ")." * (n // 2),
    "blank lines": lambda n: "a" + "\n" * n,
    "spaces": lambda n: "a" + " " * n + "b",
    "reasoning": lambda n: "<think>" * (n // 7),
}


def main(largest: int = 16_000) -> None:
    """Measure seconds of processor time for each case, dialect and size; print and save them."""
    formatter = ReplyFormatter()
    sizes = [largest // 4, largest // 2, largest]
    today = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        f"# Hostile answers, {today}",
        "",
        "`benchmarks/formatter_hostile.py`: seconds of processor time by size in characters. Twice the text should",
        f"take twice the time. Python {platform.python_version()}.",
        "",
        "| case | dialect | " + " | ".join(f"{size:,}" for size in sizes) + " |",
        "|---|---|" + "--:|" * len(sizes),
    ]
    for name, make in CASES.items():
        for dialect in DIALECTS.values():
            seconds = []
            for size in sizes:
                text = make(size)
                start = time.process_time()
                formatter.format(text, ReplyOptions(dialect, dialect.limits))
                seconds.append(time.process_time() - start)
            lines.append(f"| {name} | {dialect.name} | " + " | ".join(f"{value:.3f}" for value in seconds) + " |")
    lines += ["", f"Peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB.", ""]
    report = "\n".join(lines)
    print(report)
    (Path(__file__).parent / "results" / f"{today}-formatter-hostile.md").write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
