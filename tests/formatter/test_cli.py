"""The command line, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from parley_formatter import __version__


def _run(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "parley_formatter", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **env},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_version_check_and_schema(tmp_path: Path) -> None:
    assert _run("--version", cwd=tmp_path).stdout.strip() == __version__
    assert _run("--check", cwd=tmp_path).returncode == 0
    schema = json.loads(_run("--schema", cwd=tmp_path).stdout)
    assert schema["properties"]["grpc_port"]["default"] == 50052
    assert schema["properties"]["ops_port"]["default"] == 9082
    assert schema["properties"]["host"]["default"] == "127.0.0.1"
    assert all(option.get("description") for option in schema["properties"].values())


def test_mistakes_are_all_reported(tmp_path: Path) -> None:
    (tmp_path / "parley.yaml").write_text("formatter: {prompt_dir: x, max_prompt_tokens: 1}\n")
    done = _run("--check", cwd=tmp_path)
    assert done.returncode == 2
    assert "formatter.prompt_dir" in done.stderr
    assert "formatter.max_prompt_tokens" in done.stderr


def test_ports_come_from_the_environment(tmp_path: Path) -> None:
    done = _run("--check", cwd=tmp_path, PARLEY_FORMATTER_GRPC_PORT="none", PARLEY_FORMATTER_PORT="tcp://1.2.3.4:1")
    assert done.returncode == 2
    assert "PARLEY_FORMATTER_GRPC_PORT" in done.stderr


def test_service_starts_stays_small_and_stops_in_order(tmp_path: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "PARLEY_FORMATTER_GRPC_PORT": "0",
        "PARLEY_FORMATTER_OPS_PORT": "0",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "parley_formatter"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "started" in line)
        status = Path(f"/proc/{process.pid}/status")
        if status.exists():
            kilobytes = next(int(row.split()[1]) for row in status.read_text().splitlines() if row.startswith("VmRSS"))
            assert kilobytes < 100 * 1024
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(timeout=30) == 0
    assert '"grpc"' in line or "grpc" in line
    assert "stopped" in rest
