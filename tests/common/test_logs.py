"""Logs: one JSON object a line whoever wrote it, with trace ids, without secrets in whatever form."""

import io
import json
import logging
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from parley_common.boot import secrets_in
from parley_common.logs import KEPT_GENERATIONS, configure_logs
from pydantic import SecretStr

from tests.common.sections import Hashed, Settings, Upstream

SECRET = "hunter2-hunter2"
QUOTED = "pa\"ss\\wörd /with?all&of'it密钥+\t"

Configure = Callable[..., Callable[[], list[dict[str, Any]]]]


@pytest.fixture
def configured() -> Configure:
    """Configure logs; the result reads back the lines written so far."""

    def configure(*secrets: str, level: str = "info") -> Callable[[], list[dict[str, Any]]]:
        stream = io.StringIO()
        configure_logs("test", "1.2.3", level, secrets=secrets, stream=stream)
        return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]

    return configure


def test_a_line_is_one_json_object(configured: Configure) -> None:
    lines = configured()

    structlog.get_logger("parley.test").info("delivered", parts=3, text="两\n行")

    (line,) = lines()
    assert line.pop("ts").endswith("Z")
    assert line == {
        "event": "delivered",
        "level": "info",
        "logger": "parley.test",
        "parts": 3,
        "text": "两\n行",
        "service": "test",
        "version": "1.2.3",
    }


def test_foreign_loggers_write_the_same_form(configured: Configure) -> None:
    lines = configured()

    logging.getLogger("uvicorn.error").error("lost %s of %d", "one", 2)

    (line,) = lines()
    assert (line["event"], line["level"], line["logger"]) == ("lost one of 2", "error", "uvicorn.error")
    assert (line["service"], line["version"]) == ("test", "1.2.3")


@pytest.mark.parametrize("foreign", [False, True])
def test_an_exception_stays_in_its_line(configured: Configure, foreign: bool) -> None:
    lines = configured()
    logger: Any = logging.getLogger("foreign") if foreign else structlog.get_logger("ours")

    try:
        raise ValueError("broken\nin two")
    except ValueError:
        logger.exception("failed")

    (line,) = lines()
    assert line["event"] == "failed"
    assert "ValueError: broken\nin two" in line["exception"]


def test_what_json_does_not_know_is_written_all_the_same(configured: Configure) -> None:
    lines = configured()

    structlog.get_logger("ours").info("odd", thing=object(), raw=b"\xff", nested={1: {2}})

    assert lines()[0]["thing"].startswith("<object object")


def test_lines_carry_the_ids_of_the_trace(configured: Configure) -> None:
    lines = configured()
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")

    with tracer.start_as_current_span("work") as span:
        structlog.get_logger("ours").info("within")
        logging.getLogger("foreign").warning("within")
    structlog.get_logger("ours").info("outside")

    context = span.get_span_context()
    ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    ours, foreign, outside = lines()
    assert ours.items() >= ids.items()
    assert foreign.items() >= ids.items()
    assert "trace_id" not in outside


def test_lines_carry_what_is_bound_to_the_call(configured: Configure) -> None:
    lines = configured()

    with structlog.contextvars.bound_contextvars(request_id="order-17"):
        structlog.get_logger("ours").info("one")
        logging.getLogger("foreign").warning("two")

    assert [line["request_id"] for line in lines()] == ["order-17", "order-17"]


def test_less_severe_lines_are_left_out(configured: Configure) -> None:
    lines = configured(level="warning")

    structlog.get_logger("ours").info("too low")
    structlog.get_logger("ours").warning("right")

    assert [line["event"] for line in lines()] == ["right"]


@pytest.mark.parametrize("name", ["httpx", "uvicorn.error"])
def test_chatty_libraries_are_quiet(configured: Configure, name: str) -> None:
    lines = configured()

    logging.getLogger(name).info("GET https://api.example/token?secret=abc")
    logging.getLogger(name).warning("heard")

    assert [line["event"] for line in lines()] == ["heard"]


def test_chatty_libraries_are_never_louder_than_the_rest(configured: Configure) -> None:
    lines = configured(level="error")

    logging.getLogger("httpx").warning("not heard")

    assert lines() == []


@pytest.mark.parametrize("secret", [SECRET, QUOTED])
@pytest.mark.parametrize("form", [str, repr, ascii, json.dumps, urllib.parse.quote_plus, lambda s: f"k={s}; {{{s!r}}}"])
def test_a_secret_is_hidden_in_every_form(configured: Configure, secret: str, form: Callable[[str], str]) -> None:
    lines = configured(secret)
    structlog.get_logger("ours").info("key", value=form(secret), nested=[{form(secret): form(secret)}])
    logging.getLogger("uvicorn.error").error("foreign %s", form(secret))
    try:
        raise ValueError(form(secret))
    except ValueError:
        structlog.get_logger("ours").exception(form(secret))

    written = lines()
    assert len(written) == 3
    for line in written:
        for found in _strings(line):
            assert secret not in found
            assert "hunter2" not in found
            assert "密钥" not in found
            assert "\\u5bc6" not in found
            assert "%E5%AF%86" not in found
    assert "[secret]" in json.dumps(written[2])


def test_a_secret_within_another_leaves_no_rest(configured: Configure) -> None:
    lines = configured("abcdef", "abcdef-ghijkl")

    structlog.get_logger("ours").info("x", value="abcdef-ghijkl")

    assert lines()[0]["value"] == "[secret]"


def test_secrets_and_level_follow_the_settings() -> None:
    stream = io.StringIO()
    logs = configure_logs("test", "1.2.3", "warning", secrets=[SECRET], stream=stream)

    logs.hide(["another-secret"])
    logging.getLogger("foreign").warning("%s another-secret", SECRET)
    logging.getLogger("foreign").info("left out")
    logs.set_level("info")
    logging.getLogger("foreign").info("heard")
    logging.getLogger("httpx").info("too chatty")

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["[secret] [secret]", "heard"]


def test_the_oldest_of_many_secrets_are_forgotten() -> None:
    stream = io.StringIO()
    logs = configure_logs("test", "1.2.3", "info", secrets=["secret-of-old"], stream=stream)

    for number in range(KEPT_GENERATIONS):
        logs.hide([f"secret-{number:03}", "secret-that-stays"])
    logging.getLogger("foreign").info("secret-of-old secret-000 secret-that-stays")

    assert json.loads(stream.getvalue())["event"] == "secret-of-old [secret] [secret]"


def test_short_secrets_do_not_blank_ordinary_words(configured: Configure) -> None:
    lines = configured("info", "")

    structlog.get_logger("ours").info("x")

    assert (lines()[0]["event"], lines()[0]["level"]) == ("x", "info")


def test_all_secrets_of_the_settings_are_known() -> None:
    upstream = Upstream(base_url="x", api_keys=(SecretStr("one"), SecretStr("two")))
    settings = Settings(upstreams={"Main": upstream}, keys=(SecretStr("three"), Hashed(sha256="00000000")))

    assert set(secrets_in(settings)) == {"one", "two", "three"}


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in _strings(one)]
    if isinstance(value, list):
        return [text for one in value for text in _strings(one)]
    return [value] if isinstance(value, str) else []
