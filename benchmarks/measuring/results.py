"""Writes a benchmark's results: a dated JSON file for programs, and beside it a table for people."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows with the same columns as a Markdown table; numbers with four digits, None as a dash."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "--:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def named(name: str, interpreter: str) -> str:
    """Return the name of results that another interpreter than this one's gave."""
    return name if interpreter == sys.executable else f"{name}-{Path(interpreter).name}"


def write(name: str, title: str, figures: dict[str, Any], text: str) -> Path:
    """Write `<date>-<name>.json` and `.md`; return the latter."""
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    record = {"date": now.isoformat(timespec="seconds"), **machine, **figures}
    path = RESULTS / f"{now:%Y-%m-%d}-{name}.md"
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    heading = f"# {title}\n\n{now:%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {machine['system']}.\n\n"
    path.write_text(heading + text + "\n", encoding="utf-8")
    return path


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
