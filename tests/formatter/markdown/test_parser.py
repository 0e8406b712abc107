"""The tree that Markdown becomes."""

import pytest
from parley_formatter.markdown.nodes import (
    Block,
    Break,
    Code,
    CodeBlock,
    Emphasis,
    Heading,
    Image,
    Inline,
    Link,
    List,
    ListItem,
    Math,
    MathBlock,
    Paragraph,
    Quote,
    Rule,
    Strike,
    Strong,
    Table,
    Text,
    walk,
)
from parley_formatter.markdown.parser import create_parser
from parley_formatter.markdown.tree import parse

_PARSER = create_parser()


def _blocks(text: str) -> list[Block]:
    return list(parse(_PARSER, text))


def _inline(text: str) -> list[Inline]:
    (block,) = _blocks(text)
    assert isinstance(block, Paragraph)
    return list(block.children)


def _paragraph(text: str) -> Paragraph:
    return Paragraph((Text(text),))


def test_blocks() -> None:
    assert _blocks("# T\n\np\n\n```py x\nc\n```\n\n> q\n\n---\n\n    indented\n") == [
        Heading(1, (Text("T"),)),
        _paragraph("p"),
        CodeBlock("c", "py"),
        Quote((_paragraph("q"),)),
        Rule(),
        CodeBlock("indented"),
    ]


def test_lists_keep_number_nesting_and_task_marks() -> None:
    assert _blocks("3. a\n4. b\n   - [x] c\n   - [ ] d\n") == [
        List(
            (
                ListItem((_paragraph("a"),)),
                ListItem(
                    (
                        _paragraph("b"),
                        List((ListItem((_paragraph("c"),), True), ListItem((_paragraph("d"),), False))),
                    )
                ),
            ),
            3,
        )
    ]


def test_table_rows_have_the_headers_width() -> None:
    assert _blocks("| a | b |\n|:-:|--:|\n| 1 |\n| 1 | 2 | 3 |\n") == [
        Table(
            ((Text("a"),), (Text("b"),)),
            (((Text("1"),), ()), ((Text("1"),), (Text("2"),))),
            ("center", "right"),
        )
    ]


def test_table_with_absurdly_many_columns_is_text() -> None:
    (block,) = _blocks("|" + "a|" * 60 + "\n|" + "-|" * 60 + "\n|b|\n")
    assert isinstance(block, Paragraph)


def test_inline_marks() -> None:
    assert _inline("**a** *b* ~~c~~ `d` ![e](https://e.com/f) [g](https://e.com)\nh") == [
        Strong((Text("a"),)),
        Text(" "),
        Emphasis((Text("b"),)),
        Text(" "),
        Strike((Text("c"),)),
        Text(" "),
        Code("d"),
        Text(" "),
        Image("https://e.com/f", "e"),
        Text(" "),
        Link("https://e.com", (Text("g"),)),
        Break(),
        Text("h"),
    ]


@pytest.mark.parametrize(
    "text", ["**“重点”**是", "他说**“好”**。", "**加粗（括号）**后面", "前面**（括号）加粗**", "**テスト。**です"]
)
def test_emphasis_works_beside_chinese_and_japanese_text(text: str) -> None:
    assert any(isinstance(child, Strong) for child in _inline(text))


@pytest.mark.parametrize("text", ["2 * 3 * 4", "snake_case_name", "a** b **c", "5**"])
def test_what_commonmark_calls_text_stays_text(text: str) -> None:
    assert _inline(text) == [Text(text)]


@pytest.mark.parametrize(
    ("text", "formula"),
    [("是$a_1*b_1*c$吗", "a_1*b_1*c"), ("x \\(a < b\\) y", "a < b"), ("x $$e^x$$ y", "e^x"), ("\\[x\\] is", "x")],
)
def test_inline_math(text: str, formula: str) -> None:
    assert Math(formula) in _inline(text)


@pytest.mark.parametrize(
    "text", ["$5 and $10", "US$5-US$10", "$ a $", "价格$5到$10元", "A$", "\\$a\\$", "a \\( b", "$$"]
)
def test_money_and_lone_dollars_are_no_math(text: str) -> None:
    assert not any(isinstance(child, Math) for child in _inline(text))


@pytest.mark.parametrize(
    "text", ["$$\nx\n$$", "$$x$$", "\\[\nx\n\\]", "\\[ x \\]", "$$x\n$$", "text:\n\\[x\\]", "- item\n\n  $$\n  x\n  $$"]
)
def test_display_math(text: str) -> None:
    assert MathBlock("x") in list(walk(parse(_PARSER, text)))


@pytest.mark.parametrize("text", ["$$\nnever closed\n\nsecond", "\\[\nnever closed"])
def test_unclosed_display_math_is_text(text: str) -> None:
    blocks = list(walk(parse(_PARSER, text)))
    assert not any(isinstance(block, MathBlock) for block in blocks)
    assert blocks


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("访问https://example.com/x查看", "https://example.com/x"),
        ("见 https://example.com/a?b=1&c=2。", "https://example.com/a?b=1&c=2"),
        ("(https://example.com/a)", "https://example.com/a"),
        ("https://example.com/a_(b).", "https://example.com/a_(b)"),
        ("https://zh.wikipedia.org/wiki/A_(语言) x", "https://zh.wikipedia.org/wiki/A_(语言)"),
        ("<https://example.com>", "https://example.com"),
    ],
)
def test_bare_urls_become_links_and_end_where_they_should(text: str, url: str) -> None:
    assert [child.url for child in _inline(text) if isinstance(child, Link)] == [url]


def test_html_is_text_but_for_line_breaks() -> None:
    assert _inline("<b>x</b><br/>y") == [Text("<b>x</b>"), Break(), Text("y")]
    assert _blocks("<div>\n<at id=all>\n</div>") == [
        Paragraph((Text("<div>"), Break(), Text("<at id=all>"), Break(), Text("</div>")))
    ]


def test_deep_nesting_loses_no_word() -> None:
    lists = "\n".join("  " * level + f"- w{level}" for level in range(40)) + "\n\nafter"
    quotes = "> " * 50 + "deep\n\nafter"
    for text, words in ((lists, [f"w{level}" for level in range(40)]), (quotes, ["deep"])):
        shown = repr(parse(_PARSER, text))
        assert all(word in shown for word in words)
        assert parse(_PARSER, text)[-1] == _paragraph("after")


def test_deeply_nested_emphasis_is_flattened() -> None:
    children = _inline("*a " * 500 + "b" + "*" * 500)
    depth, node = 0, children
    while node and isinstance(node[-1], (Emphasis, Strong)):
        node, depth = list(node[-1].children), depth + 1
    assert depth <= 8
    assert "b" in repr(children)
