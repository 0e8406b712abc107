"""The JSON form of records: nothing is lost, neighbouring releases are read, others refused without quoting them."""

import json
from dataclasses import replace
from typing import Any

import pytest
from parley_gateway.messages import MessageKind, Turn
from parley_gateway.store.base import PARTITIONS, partition_of
from parley_gateway.store.records import (
    DeadLetter,
    JoinedMessage,
    PartStatus,
    QueuedMessage,
    UnreadableRecordError,
    dump_dead,
    dump_kept,
    dump_message,
    dump_turn,
    load_dead,
    load_kept,
    load_message,
    load_turn,
    reference_of,
)

from tests.gateway.store.building import START, answer, conversation, kept, message, queued


def full_item() -> QueuedMessage:
    stored = answer("# 标题")
    sent = replace(stored.parts[0], status=PartStatus.SENT, first_tried_at=START, remote_id="om_1")
    return replace(
        queued(
            replace(message("m1", kind=MessageKind.NOTICE, group=True), sender_tenant="t2", quotes="m0"),
            due_at=START + 1,
            traceparent="00-t",
        ),
        attempts=2,
        failures=1,
        answer=replace(stored.with_part(0, sent), truncated=True, tokens=7, failure="timeout", remember=False),
        reply_state={"card": "c1"},
        note="n1",
        burst="c1",
        joined=(JoinedMessage("m1", "one", {}), JoinedMessage("m2", "and more", {"to": "m2"})),
        quoted="what m0 said",
    )


def changed(record: str, **fields: Any) -> str:
    return json.dumps(json.loads(record) | fields)


def without(record: str, *names: str) -> str:
    return json.dumps({name: value for name, value in json.loads(record).items() if name not in names})


def test_records_come_back_as_they_went() -> None:
    item, turn, one = full_item(), Turn("问", "答", START, ("m1", "m2")), kept()

    assert load_message(dump_message(item)) == item
    assert load_turn(dump_turn(turn)) == turn
    assert load_kept(dump_kept(one)) == one


def test_text_that_is_no_unicode_comes_back_as_it_went() -> None:
    # A platform's JSON can hold half of a surrogate pair, or a NUL.
    item = queued(replace(message("m1"), text="half \ud83d and \x00 问"))

    record = dump_message(item)

    assert record.encode()
    assert load_message(record) == item


def test_older_record_is_filled_in() -> None:
    older = without(
        changed(dump_message(queued(message("m1"))), v=0),
        *("group", "target", "received_at", "due_at", "attempts", "failures", "reply_state", "traceparent", "note"),
        "answer",
    )

    item = load_message(older)

    assert item == QueuedMessage(replace(message("m1"), target={}), received_at=START)
    assert json.loads(dump_message(item))["v"] == 1


def test_unknown_fields_are_kept_at_every_level() -> None:
    record = json.loads(dump_message(full_item()))
    record["later"] = {"a": 1}
    record["answer"]["later"] = 2
    record["answer"]["parts"][0]["later"] = [3]

    again = json.loads(dump_message(load_message(json.dumps(record))))

    assert again == record


@pytest.mark.parametrize("version", [2, -1, None, "1", [1]])
def test_other_versions_are_refused_by_name(version: Any) -> None:
    records = (dump_message(full_item()), dump_turn(Turn("q", "a", START)), dump_kept(kept()))
    for record, load in zip(records, (load_message, load_turn, load_kept), strict=True):
        with pytest.raises(UnreadableRecordError, match="this process reads 0 and 1"):
            load(changed(record, v=version))


@pytest.mark.parametrize(
    "record",
    [
        "",
        "nonsense",
        "[]",
        "1",
        '{"v": 1}',
        without(dump_message(queued(message("m1"))), "message_id"),
        changed(dump_message(queued(message("m1"))), kind="future kind"),
        changed(dump_message(queued(message("m1"))), conversation=["too", "few"]),
        changed(dump_message(full_item()), answer={"parts": "text of m1"}),
    ],
)
def test_malformed_record_is_refused_without_quoting_it(record: str) -> None:
    with pytest.raises(UnreadableRecordError) as caught:
        load_message(record)
    assert "text of m1" not in str(caught.value)


def test_dead_letter_of_a_readable_record_has_its_message() -> None:
    dead = DeadLetter("ref", full_item(), "failed", START)

    assert load_dead("ref", "failed", START, dump_dead(dead)) == dead


def test_dead_letter_of_an_unreadable_record_keeps_it() -> None:
    raw = changed(dump_message(full_item()), v=7)

    dead = load_dead("ref", "unreadable", START, raw)

    assert dead == DeadLetter("ref", None, "unreadable", START, raw)
    assert dump_dead(dead) == raw


def test_references_are_short_distinct_and_easy_to_read_out() -> None:
    assert reference_of("wechat/bot/1") == reference_of("wechat/bot/1")
    references = {reference_of(f"wechat/bot/{number}") for number in range(1000)}

    assert len(references) == 1000
    assert all(len(one) == 8 and not set(one) & set("01ilo") for one in references)


def test_partition_of_a_conversation_never_changes() -> None:
    # Stored data is found by it: these numbers must stay, in every process and release.
    assert partition_of("wechat/support//chat") == 16
    assert partition_of("") == 0
    partitions = {partition_of(conversation(f"chat{n}").key) for n in range(2000)}
    assert partitions == set(range(PARTITIONS))
