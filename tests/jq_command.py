"""`jq` for the tests' shells, over the engine of the real one: what the README pipes into it runs on any machine."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import jq


def main() -> None:
    parser = argparse.ArgumentParser(prog="jq")
    parser.add_argument("-r", "--raw-output", action="store_true")
    parser.add_argument("-c", "--compact-output", action="store_true")
    parser.add_argument("filter")
    parser.add_argument("files", nargs="*")
    given = parser.parse_args()
    text = "".join(Path(name).read_text("utf-8") for name in given.files) if given.files else sys.stdin.read()
    for value in jq.compile(given.filter).input_text(text):
        raw = given.raw_output and isinstance(value, str)
        layout = {"separators": (",", ":")} if given.compact_output else {"indent": 2}
        print(value if raw else json.dumps(value, ensure_ascii=False, **layout), flush=True)


if __name__ == "__main__":
    main()
