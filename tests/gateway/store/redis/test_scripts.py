"""What every script must keep to, whatever it does."""

import re

import pytest
from parley_gateway.store.redis import scripts
from parley_gateway.store.redis.scripts import Script

SCRIPTS = {name: value for name, value in vars(scripts).items() if isinstance(value, Script)}
WRITING = re.compile(
    r"redis\.call\('(SET|DEL|HSET|HDEL|HINCRBY|DECRBY|ZADD|ZREM\w*|SADD|SREM|RPUSH|LTRIM|PEXPIRE)'"
    r"|^\s*(append|remove|offer|take_out|bury|set_next|tell)\("
)


def body(script: Script) -> list[str]:
    """Return a script's own lines, without comments and what it shares with others."""
    shared = max(script.source.rfind("\nend\n\n-- "), 0)
    return [line for line in script.source[shared:].splitlines() if not line.lstrip().startswith("--")]


def test_all_scripts_are_looked_at() -> None:
    assert len(SCRIPTS) > 30
    assert len({script.sha for script in SCRIPTS.values()}) == len(SCRIPTS)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_keys_are_written_literally(name: str) -> None:
    # Managed services read the script to find its keys, and refuse what they can't.
    source = "\n".join(line for line in SCRIPTS[name].source.splitlines() if not line.lstrip().startswith("--"))

    assert re.findall(r"KEYS(?!\[\d+\])", source) == []
    calls = re.findall(r"redis\.p?call\('(\w+)'(?:, ([^,)]+))?", source)
    assert calls
    for command, key in calls:
        assert command == "PUBLISH" or re.fullmatch(r"KEYS\[\d+\]", key), (command, key)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_nothing_is_refused_after_a_write(name: str) -> None:
    lines = body(SCRIPTS[name])
    written = [n for n, line in enumerate(lines) if WRITING.search(line) and "return" not in line]
    refusals = [n for n, line in enumerate(lines) if "return false" in line]

    assert not written or all(n < written[0] for n in refusals)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_script_uses_what_differs_between_servers(name: str) -> None:
    # The time is the caller's; replicas must come to the same result; nothing goes around the declared keys.
    source = SCRIPTS[name].source
    assert not re.search(r"'(TIME|RANDOMKEY|SRANDMEMBER|KEYS|SCAN|SELECT|EVAL\w*)'|math\.random|os\.", source)
