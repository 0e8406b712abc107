"""Starts the three services on their embedded defaults and, when no platform is set up, the simulator too.

Everything they keep stands in ./data: the store, logs, and development credentials made at the first start. Ends with
Ctrl-C or SIGTERM, or when one of the processes ends.
"""

import argparse
import json
import os
import secrets
import signal
import string
import subprocess
import sys
import time
from pathlib import Path

DEVELOPMENT = "development.yaml"
START_LIMIT_S = 60.0
PLATFORM_VARIABLES = ("WECHAT_", "FEISHU_")


def main() -> int:
    """Run until told to stop; return 0 after an orderly stop, 1 when something failed."""
    arguments = _parser().parse_args()
    # The parent's working folder is the checkout, whatever make was started from.
    os.chdir(Path(__file__).resolve().parent.parent)
    data: Path = arguments.data
    (data / "logs").mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    simulated = not _has_file(environment) and not _has_platforms(environment)
    commands = {"formatter": ["parley_formatter"], "llm": ["parley_llm"], "gateway": ["parley_gateway"]}
    if simulated:
        _write_development_settings(data, arguments.simulator_port)
        environment["PARLEY_CONFIG"] = str(data / DEVELOPMENT)
        commands = {"simulator": ["parley_gateway", "simulator", "--port", str(arguments.simulator_port)], **commands}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        for name, words in commands.items():
            processes[name] = _start(words, environment, data / "logs" / f"{name}.log")
        started = _wait_started(processes, data / "logs")
        demo = not environment.get("OPENAI_API_KEY") and (simulated or not _has_file(environment))
        _greet(started, data, demo=demo)
        return _watch(processes, data / "logs")
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(processes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder for the store, logs, credentials")
    parser.add_argument("--simulator-port", type=int, default=9100, help="port of the simulator")
    return parser


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _has_file(environment: dict[str, str]) -> bool:
    return "PARLEY_CONFIG" in environment or Path("parley.yaml").exists()


def _has_platforms(environment: dict[str, str]) -> bool:
    return any(name.startswith(PLATFORM_VARIABLES) and value for name, value in environment.items())


def _write_development_settings(data: Path, simulator_port: int) -> None:
    """Make credentials that only the simulator knows; kept, so that a restart goes on with the same bots."""
    file = data / DEVELOPMENT
    if file.exists():
        return
    simulator = f"http://127.0.0.1:{simulator_port}"
    letters = string.ascii_letters + string.digits
    key = "".join(secrets.choice(letters) for _ in range(43))
    text = f"""# Development credentials, made by `make run`: only the simulator at {simulator} knows them.
gateway:
  store: sqlite:///{data}/parley.db
  llm: {{target: "localhost:${{PARLEY_LLM_GRPC_PORT:-50051}}"}}
  formatter: {{target: "localhost:${{PARLEY_FORMATTER_GRPC_PORT:-50052}}"}}
  bots:
    - name: default
      platform: wechat
      locale: en
      wechat:
        app_id: wx{secrets.token_hex(8)}
        app_secret: {secrets.token_hex(16)}
        token: {secrets.token_hex(12)}
        encoding_aes_key: {key}
        base_url: {simulator}
    - name: default
      platform: feishu
      locale: en
      feishu:
        app_id: cli_{secrets.token_hex(8)}
        app_secret: {secrets.token_hex(16)}
        encrypt_key: {secrets.token_hex(16)}
        verification_token: {secrets.token_hex(16)}
        base_url: {simulator}
"""
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")


def _start(words: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_started(processes: dict[str, subprocess.Popen[bytes]], logs: Path) -> dict[str, dict[str, str]]:
    """Return, for each process, the log entry in which it says that it started, with its addresses."""
    started: dict[str, dict[str, str]] = {}
    end = time.monotonic() + START_LIMIT_S
    while len(started) < len(processes):
        _fail_if_ended(processes, logs)
        for name in processes.keys() - started.keys():
            entry = _started_entry(logs / f"{name}.log")
            if entry is not None:
                started[name] = entry
        if time.monotonic() > end:
            late = ", ".join(sorted(processes.keys() - started.keys()))
            raise SystemExit(f"not started after {START_LIMIT_S:.0f} s: {late}; see {logs}")
        time.sleep(0.05)
    return started


def _started_entry(log: Path) -> dict[str, str] | None:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if '"event": "started"' in line:
            entry: dict[str, str] = json.loads(line)
            return entry
    return None


def _fail_if_ended(processes: dict[str, subprocess.Popen[bytes]], logs: Path) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            log = logs / f"{name}.log"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            sys.stderr.write("\n".join(lines[-10:]) + "\n")
            raise SystemExit(f"{name} ended with code {process.returncode}; its log is {log}")


def _greet(started: dict[str, dict[str, str]], data: Path, *, demo: bool) -> None:
    gateway, llm, formatter = started["gateway"], started["llm"], started["formatter"]
    lines = [
        "Parley is running.",
        f"  gateway    http://{gateway['http']}/webhooks/{{platform}}/{{bot}}   ops {gateway['ops']}",
        f"  llm        http://{llm['http']}   grpc {llm['grpc']}   ops {llm['ops']}",
        f"  formatter  grpc {formatter['grpc']}   ops {formatter['ops']}",
    ]
    if "simulator" in started:
        lines += [
            f"  simulator  {started['simulator']['url']}   (no platform is set up: bots with development credentials)",
            "",
            "Send a message and see what a user would see, in another terminal:",
            '  .venv/bin/parley-gateway simulate wechat "hi"',
            '  .venv/bin/parley-gateway simulate feishu "hi"',
        ]
    if demo:
        lines += ["", "OPENAI_API_KEY is not set: answers come from the built-in demo model."]
    lines += ["", f"Logs are in {data}/logs. Ctrl-C stops everything."]
    print("\n".join(lines), flush=True)


def _watch(processes: dict[str, subprocess.Popen[bytes]], logs: Path) -> int:
    while True:
        _fail_if_ended(processes, logs)
        time.sleep(0.5)


def _stop(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The gateway first: what it has in hand may still need the other two.
    for name in sorted(processes, key=lambda name: name != "gateway"):
        process = processes[name]
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
