"""Splitting, cutting and the formatter's own sentences."""

import json

import pytest
from parley_formatter.render.dialect import Feature
from parley_formatter.render.registry import DIALECTS
from parley_formatter.sentences import LOCALES

from tests.formatter.render.card_schema import check_card, count_tables
from tests.formatter.render.formatting import feishu, format_reply, wechat


def _texts(markdown: str, **limits: int) -> list[str]:
    return [part.text for part in format_reply(markdown, "wechat_text", limits=limits).parts]


def test_parts_end_between_paragraphs_when_they_are_well_filled() -> None:
    texts = _texts("\n\n".join(["甲" * 80, "乙" * 50, "丙" * 60]), chars=150)
    assert texts == [f"{'甲' * 80}\n\n{'乙' * 50}", "丙" * 60]


def test_long_paragraph_is_split_at_a_sentence_end() -> None:
    texts = _texts("这是一句话。" * 40, chars=100)
    assert all(text.endswith("。") for text in texts)
    assert "".join(texts) == "这是一句话。" * 40


def test_lines_are_preferred_to_sentences() -> None:
    texts = _texts("一句。两句\n" * 30, chars=100)
    assert all(text.endswith("两句") for text in texts)


def test_words_are_not_cut_without_need() -> None:
    texts = _texts("wonderful " * 40, chars=105)
    assert all(set(text.split()) == {"wonderful"} for text in texts)


def test_heading_does_not_end_a_part() -> None:
    texts = _texts(f"{'字' * 80}\n\n## 标题\n\n{'文' * 90}", chars=100)
    assert texts == ["字" * 80, "【标题】", "文" * 90] or texts[1].startswith("【标题】\n\n文")


def test_link_is_not_cut() -> None:
    url = "https://example.com/" + "a" * 60
    texts = _texts(f"{'字' * 50}[{'标' * 10}]({url}){'尾' * 60}", chars=140)
    assert sum(f'<a href="{url}">{"标" * 10}</a>' in text for text in texts) == 1


def test_link_too_long_for_any_part_becomes_text() -> None:
    url = "https://example.com/" + "a" * 400
    texts = _texts(f"[标签]({url})", chars=100)
    assert not any("<a " in text for text in texts)
    assert "".join(texts).replace(" ", "") == f"标签({url})"


def test_bytes_and_characters_both_count() -> None:
    assert len(_texts("字" * 600)) == 1
    assert len(_texts("字" * 601)) == 2
    assert len(_texts("😀" * 460)) == 2, "460 emoji are 1,840 bytes"


def test_code_is_reopened_in_the_next_card() -> None:
    code = "\n".join(f"line_{number} = {number}" for number in range(300))
    reply = format_reply(f"```python\n{code}\n```", "feishu_card", limits={"bytes": 3000})
    assert len(reply.parts) > 2
    lines: list[str] = []
    for part in reply.parts:
        content = check_card(part.payload_json)["body"]["elements"][0]["content"].split("\n")
        assert (content[0], content[-1]) == ("```python", "```")
        lines += content[1:-1]
    assert "\n".join(lines) == code


def test_numbered_list_goes_on_in_the_next_card() -> None:
    markdown = "\n".join(f"{number}. 第{number}条 " + "字" * 60 for number in range(1, 31))
    reply = format_reply(markdown, "feishu_card", limits={"bytes": 2000})
    numbers = [
        line.split(".")[0]
        for part in reply.parts
        for line in json.loads(part.payload_json)["body"]["elements"][0]["content"].split("\n")
    ]
    assert numbers == [str(number) for number in range(1, 31)]


def test_item_too_long_for_a_part_is_marked_as_continued() -> None:
    reply = format_reply("1. " + "很长的一条。" * 400 + "\n2. 短", "feishu_card", limits={"bytes": 2000})
    contents = [json.loads(part.payload_json)["body"]["elements"][0]["content"] for part in reply.parts]
    assert all(content.startswith("1. （接上）") for content in contents[1:-1])
    assert contents[-1].endswith("2. 短")


def test_table_repeats_its_header_in_the_next_card() -> None:
    rows = "\n".join(f"| {number} | {'字' * 30} |" for number in range(60))
    reply = format_reply(f"| 序号 | 内容 |\n|---|---|\n{rows}", "feishu_card", limits={"bytes": 3000})
    assert len(reply.parts) > 2
    for part in reply.parts:
        (element,) = check_card(part.payload_json)["body"]["elements"]
        assert element["content"].startswith("| 序号 | 内容 |\n| --- | --- |\n")


@pytest.mark.parametrize("limit", [3, 1])
def test_tables_beyond_the_limit_become_text(limit: int) -> None:
    table = "| 键 | 值 |\n|---|---|\n| 甲{0} | 1 |\n"
    reply = format_reply("\n\n".join(table.format(n) for n in range(6)), "feishu_card", limits={"tables": limit})
    (part,) = reply.parts
    elements = check_card(part.payload_json)["body"]["elements"]
    assert sum(count_tables(element["content"]) for element in elements) == limit
    shown = "\n".join(element["content"] for element in elements)
    assert [f"甲{n}" in shown for n in range(6)] == [True] * 6
    assert reply.degraded == {"table": 6 - limit}


def test_code_in_a_list_stands_at_the_line_start() -> None:
    assert feishu("1. 一\n\n   ```sh\n   ls\n   ```\n\n   然后\n2. 二\n   - 三\n     ```\n     x\n     ```\n") == (
        "1. 一\n\n```sh\nls\n```\n\n然后\n\n2. 二\n    - 三\n\n```\nx\n```"
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("locale", LOCALES)
def test_cut_is_marked_inside_the_limits(dialect: str, locale: str) -> None:
    limits = {"bytes": 2000} if dialect == "feishu_card" else {}
    reply = format_reply("字。" * 5000, dialect, max_parts=2, locale=locale, ai_label=True, limits=limits)
    assert reply.truncated
    assert len(reply.parts) == 2
    last = reply.parts[-1].fallback_text
    assert last.endswith(f"{LOCALES[locale].cut}\n\n{LOCALES[locale].ai_label}")
    assert LOCALES[locale].cut not in reply.parts[0].fallback_text
    if dialect == "wechat_text":
        assert len(last.encode()) <= 1800
        assert len(last) <= 600
    else:
        assert len(reply.parts[-1].payload_json) <= 2000


def test_last_part_is_filled_before_it_is_cut() -> None:
    markdown = "字" * 400 + "\n\n```\n" + "code line\n" * 40 + "```\n"
    (part,) = format_reply(markdown, "wechat_text", max_parts=1).parts
    assert len(part.text) > 550
    assert part.text.count("code line") > 8


def test_text_taken_without_parsing_is_cut_between_graphemes() -> None:
    family = "👨\u200d👩\u200d👧"
    reply = format_reply(family * 25_000, "wechat_text", max_parts=4)
    assert reply.degraded == {Feature.UNPARSED: 1, Feature.TOO_LONG: 1}
    bodies = [part.text.split("\n")[0] for part in reply.parts]
    assert all(len(body) > 300 and body.replace(family, "") == "" for body in bodies)


def test_what_just_fits_is_not_cut() -> None:
    reply = format_reply("字" * 600, "wechat_text", max_parts=1)
    assert not reply.truncated
    assert reply.parts[0].text == "字" * 600


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("markdown", ["", " \n\n ", "<think>only reasoning", "```\n```", "\u202e", "[](x)", "#"])
def test_output_is_never_empty(dialect: str, markdown: str) -> None:
    (part,) = format_reply(markdown, dialect, locale="zh-CN").parts
    assert part.fallback_text.strip()
    assert "没有返回内容" in part.fallback_text or markdown == "[](x)"


def test_ai_label_is_visible_once_at_the_end() -> None:
    reply = format_reply("字" * 1000, "wechat_text", ai_label=True)
    assert [part.text.endswith("\n\n内容由 AI 生成") for part in reply.parts] == [False, True]
    assert "AI" not in format_reply("好", "wechat_text").parts[0].text


def test_failing_parser_falls_back_to_plain_text_and_logs_no_content(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from parley_formatter.render import reply as module

    def broken(_: object, text: str) -> None:
        raise ValueError(f"unexpected {text}")

    monkeypatch.setattr(module, "parse", broken)
    reply = format_reply("**secret**\n\nb\nc", "wechat_text")
    assert reply.parts[0].text == "**secret**\n\nb\nc"
    assert reply.degraded == {"unparsed": 1}
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_aligned_table_measures_chinese_as_two_columns() -> None:
    assert wechat("| 名 | n |\n|---|--:|\n| 张三丰 | 1 |\n| b | 100 |") == (
        "名　　  　n\n──────\n张三丰  　1\nb　　   100"
    )


def test_wide_table_becomes_records() -> None:
    assert wechat("| Name | What it is good for |\n|---|---|\n| alpha | a rather long description of it |") == (
        "▪ Name: alpha\n  What it is good for: a rather long description of it"
    )
