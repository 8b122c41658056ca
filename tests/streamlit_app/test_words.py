import markdown_it
import pytest

from streamlit_app import words

NASTY = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![x](http://127.0.0.1/spy)", "[a](javascript:b)",
    "**bold** _it_ `code`", "# heading", "1. list", "- list", "> quote", "&lt;b&gt;", ":red[text]", "$x^2$", "~~no~~",
    "| a | b |", "=cmd|' /C calc'!A0", "www.example.com", "tom@example.com", "a\n\n# b", "مرحبا", "😀 日本",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
def test_plain_text_stays_itself_in_markdown(text):
    tokens = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(words.plain(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    pieces = tokens[1].children
    assert {piece.type for piece in pieces} <= {"text", "text_special"}
    assert "".join(piece.content for piece in pieces) == " ".join(text.split())


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "never"), (float("nan"), "never"), (-0.4, "0 s ago"), (59.4, "59 s ago"), (60, "1 min ago"),
     (7200, "2 h ago"), (3 * 86400, "3 d ago")],
)  # fmt: skip
def test_time_spans(seconds, expected):
    assert words.ago(seconds) == expected


def test_nothing_is_no_share():
    assert words.share(0, 0) == "–" and words.share(1, 8) == "12.5%"


def test_reasons_without_a_text_name_their_feature():
    assert words.reasons([{"text": "amount 8 times usual"}, {"feature": "speed"}, {}]) == [
        "amount 8 times usual", "speed", "",
    ]  # fmt: skip


def test_one_is_no_plural():
    assert words.last(1, "transaction") == "last transaction"
    assert words.last(2, "stored transaction") == "last 2 stored transactions"
