"""Talk in a narrow terminal."""

from __future__ import annotations

from powermem_cli.output.wrap import wrapped


def test_lines_break_between_words_under_the_beginning_of_what_they_say():
    said = "error: there is no llm provider 'x'\n  hint   one of openai, qwen, deepseek, siliconflow"
    assert wrapped(said, 40).split("\n") == [
        "error: there is no llm provider 'x'",
        "  hint   one of openai, qwen, deepseek,",
        "         siliconflow",
    ]
    assert wrapped("a line of words without a label", 16) == "a line of words\n  without a\n  label"
    assert wrapped(" 1. 0.947 for 0.96: asks -0.04", 20) == " 1. 0.947 for 0.96:\n    asks -0.04"


def test_what_is_copied_stays_whole():
    command = "  mend them there, then: powermem add -f /a/long/path/to/a/file/of/rejects.jsonl"
    path = "  set aside: /a/path-with-dashes/that-is-longer/than-the/line.jsonl"
    assert wrapped(command, 40) == command
    assert wrapped(path, 40) == path.replace(": /", ":\n  /")
    assert wrapped("", 10) == ""
