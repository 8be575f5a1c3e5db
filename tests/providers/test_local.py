"""The built-in model: equal to its reference, the same vector in any company, and clear when a file is damaged."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import powermem_cli
from powermem_cli.errors import ConfigError
from powermem_cli.providers import create_embedder
from powermem_cli.providers.local import LocalEmbedder
from powermem_cli.providers.static_model import StaticModel
from powermem_cli.providers.wordpiece import WordPiece

DATA = Path(powermem_cli.__file__).parent / "data"
REFERENCE = json.loads((Path(__file__).parent / "reference.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def model():
    return StaticModel.load(DATA)


def numbers(vector: bytes) -> np.ndarray:
    return np.frombuffer(vector, "<f4")


@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: row["text"][:20])
def test_equal_to_the_reference(model, row):
    assert model.tokenizer.ids(row["text"]) == row["ids"]
    [vector] = model.embed([row["text"]])
    if not row["ids"]:
        assert vector == b""
        return
    assert numbers(vector)[:12] == pytest.approx(row["vector_head"], abs=1e-5)
    assert numbers(vector).shape == (256,)
    assert float(np.linalg.norm(numbers(vector))) == pytest.approx(row["norm"], abs=1e-6)


def test_a_text_has_the_same_vector_alone_and_in_company(model):
    rng = random.Random(5)
    words = [row["text"] for row in REFERENCE]
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(60)] + words
    together = model.embed(texts)
    assert together == [model.embed([text])[0] for text in texts]
    assert list(reversed(together)) == model.embed(texts[::-1])


def test_a_long_text_is_the_sum_of_all_its_words(model):
    cats, dogs = ("cat " * 3000), ("dog " * 500)
    cat, dog = (numbers(model.embed([word])[0]) for word in ("cat", "dog"))
    scale = [
        float(np.linalg.norm(model.rows.array()[i].astype("f4") * model.scale.array()[i]))
        for i in model.tokenizer.ids("cat dog")
    ]
    wanted = 3000 * scale[0] * cat + 500 * scale[1] * dog
    [vector] = model.embed([cats + dogs])
    assert numbers(vector) == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-4)


def test_a_long_text_is_split_only_where_words_end(model):
    rng = random.Random(8)
    words = ["walnuts", "antidisestablishmentarianism", "2024-11-02", "Björn", "用户"]
    long = " ".join(rng.choices(words, k=9000))
    assert len(long) > 3 * 32768
    assert model.tokenizer.ids(long) == [i for word in long.split() for i in model.tokenizer.ids(word)]


def test_a_text_without_blanks_is_cut_but_never_dropped(model):
    text = "用户" * 40_000 + "cat"
    assert model.tokenizer.ids(text)[-1:] == model.tokenizer.ids("cat")


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("a\x0bb c\x1cd \x85e", "ab cd e"),  # control characters to the tokenizer, white space to str.split
        ("one\u2028two\u3000three\xa0four", "one two three four"),
        ("ΣΑΣ", "σασ"),
        ("cat\ufffd\x00s", "cats"),
    ],
)
def test_white_space_and_controls(model, text, same_as):
    assert model.tokenizer.ids(text) == model.tokenizer.ids(same_as) != []


def test_the_word_cache_is_bounded():
    tokenizer = WordPiece({"a": 1, "##1": 2})
    for n in range(70_000):
        tokenizer.encode(f"x{n}")
    assert len(tokenizer._pieces) <= 1 << 15
    assert tokenizer.ids("a a1 b") == [1, 1, 2]


def test_embed_keeps_order_and_is_shared_by_many_callers():
    embedder = create_embedder("local", {})

    async def main():
        texts = [f"note {n}" for n in range(40)]
        single = await asyncio.gather(*(embedder.embed([text]) for text in texts))
        together = await embedder.embed(texts)
        await embedder.close()
        await embedder.close()
        return [vector for [vector] in single], together, await embedder.embed([])

    single, together, nothing = asyncio.run(main())
    assert single == together
    assert nothing == []
    assert embedder.model == "local/powermem-static-v1"


def test_much_text_does_not_stop_the_event_loop():
    embedder = LocalEmbedder()
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main():
        await embedder.embed(["load"])
        counting = asyncio.create_task(count())
        await embedder.embed(["a walnut and a cat " * 40] * 100)
        counting.cancel()

    asyncio.run(main())
    assert turns > 0


def test_numpy_is_imported_with_the_first_text():
    code = "import sys, powermem_cli.providers as p; p.create_embedder('local', {}); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_options_are_refused():
    with pytest.raises(ConfigError, match="no option 'model'"):
        create_embedder("local", {"model": "other"})


def damaged(folder: Path, name: str, change) -> None:
    for file in ("model.safetensors", "vocab.txt"):
        (folder / file).write_bytes((DATA / file).read_bytes())
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.safetensors", lambda data: b""),
        ("model.safetensors", lambda data: data[:100]),
        ("model.safetensors", lambda data: data[:5000]),
        ("model.safetensors", lambda data: b"\xff" * 8 + data[8:]),
        ("model.safetensors", lambda data: data.replace(b'"I8"', b'"I9"', 1)),
        ("model.safetensors", lambda data: data.replace(b'"scale"', b'"scala"', 1)),
        ("model.safetensors", lambda data: data.replace(b"[30522]", b"[3052]0", 1)),
        ("vocab.txt", lambda data: data[:-100]),
        ("vocab.txt", lambda data: b"\xff" + data),
    ],
)
def test_a_damaged_model_is_named(tmp_path, name, change):
    damaged(tmp_path, name, change)
    with pytest.raises(ConfigError, match="missing or damaged") as caught:
        StaticModel.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.hint


STARVING = """
import resource, sys
from pathlib import Path
from powermem_cli.errors import PowerMemError
from powermem_cli.providers.static_model import StaticModel

held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
for more in range(0, 64 << 20, 2 << 20):
    resource.setrlimit(resource.RLIMIT_AS, (held + more, -1))
    try:
        StaticModel.load(Path(sys.argv[1]))
    except PowerMemError as error:
        print(error.code, type(error.__cause__).__name__)
    else:
        sys.exit()
"""


def test_a_model_for_which_there_is_no_memory_is_not_called_damaged():
    said = subprocess.run([sys.executable, "-c", STARVING, DATA], capture_output=True, text=True, check=True)
    assert said.stderr == ""
    assert set(said.stdout.splitlines()) == {"system.limits OSError", "system.limits MemoryError"}


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ConfigError, match="missing or damaged"):
        StaticModel.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["The cat likes warm milk in the evening", "which city did she relocate to?", "café naïve", "东", ""]
)
def test_a_single_short_text_gets_the_same_vector_without_numpy(model, text):
    (expected,) = model.embed([text])
    found = model.embed_one(text)
    assert np.allclose(np.frombuffer(found, "<f4"), np.frombuffer(expected, "<f4"), atol=1e-6)
    assert len(found) == len(expected)


def test_a_first_short_question_does_not_load_numpy():
    code = (
        "import asyncio, sys; from powermem_cli.providers.local import LocalEmbedder;"
        "assert len(asyncio.run(LocalEmbedder().embed(['hello there']))[0]) == 1024; assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
