"""Models in this process: the library is an extra, so most of this runs only where it is installed."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from powermem_cli.errors import ConfigError, EmbedderMismatch
from powermem_cli.providers import create_embedder

INSTALLED = importlib.util.find_spec("sentence_transformers") is not None
needs_it = pytest.mark.skipif(not INSTALLED, reason="pip install powermem-cli[sentence-transformers]")

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore")]  # the library's own


@pytest.mark.skipif(INSTALLED, reason="it is installed")
def test_without_the_library_the_extra_is_named():
    with pytest.raises(ConfigError, match="sentence_transformers") as caught:
        create_embedder("sentence-transformers", {"model": "x"})
    assert caught.value.hint == 'pip install "powermem-cli[sentence-transformers]"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of five words and 4 numbers, made here: nothing is downloaded."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = {"[UNK]": 0, "tea": 1, "coffee": 2, "red": 3, "blue": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    weights = np.array([[1, 1, 1, 1], [9, 1, 0, 0], [8, 2, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]], np.float32)
    path = tmp_path_factory.mktemp("model")
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu").save(str(path))
    return str(path)


@needs_it
async def test_a_text_has_its_vector(folder):
    embedder = create_embedder("sentence-transformers", {"model": folder, "device": "cpu"})
    first, second, third = (np.frombuffer(v, "<f4") for v in await embedder.embed(["tea", "coffee", "blue"]))
    assert np.linalg.norm(first) == pytest.approx(1)
    assert first @ second > 0.9 > first @ third
    assert await embedder.embed_each(["tea"]) == await embedder.embed(["tea"])
    assert await embedder.embed([]) == []
    assert embedder.model == f"sentence-transformers/{folder}"
    assert embedder.usage.calls == 0
    await embedder.close()


@needs_it
async def test_fewer_numbers_where_they_are_wanted(folder):
    embedder = create_embedder("sentence-transformers", {"model": folder, "device": "cpu", "embedding_dims": 2})
    assert [len(v) for v in await embedder.embed(["tea"])] == [8]
    with pytest.raises(EmbedderMismatch, match="4 numbers"):
        await create_embedder("sentence-transformers", {"model": folder, "embedding_dims": 7}).embed(["tea"])


@needs_it
async def test_a_model_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no such thing"}))
    with pytest.raises(ConfigError, match="can't be loaded"):
        await create_embedder("sentence-transformers", {"model": str(tmp_path)}).embed(["tea"])


@needs_it
def test_the_program_remembers_with_it(powermem_with):
    said = powermem_with("add", "red tea", "--json")
    assert said.code == 0
    assert powermem_with("search", "tea", "--json").json["results"][0]["memory"] == "red tea"


@pytest.fixture
def powermem_with(folder, tmp_path):
    from program import Powermem

    powermem = Powermem(tmp_path)
    powermem.environ |= {"EMBEDDING_PROVIDER": "sentence-transformers", "EMBEDDING_MODEL": folder}
    return powermem
