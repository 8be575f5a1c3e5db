"""Models in this process: with a stand-in of the library, and, as the library is large, with itself in the long tests."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from program import Powermem
from providers.sentence_models import write_model, write_stand_in, write_words

from powermem_cli.errors import ConfigError, EmbedderMismatch
from powermem_cli.providers import create_embedder

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore")]  # the library's own

LIBRARY = "sentence_transformers"


@pytest.fixture(params=["stand-in", pytest.param("library", marks=pytest.mark.soak)])
def model(request, tmp_path, monkeypatch):
    """The folder of a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    if request.param == "library":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        write_model(folder)
        yield str(folder)
        return
    write_words(folder)
    monkeypatch.syspath_prepend(write_stand_in(tmp_path))
    before = sys.modules.pop(LIBRARY, None)
    yield str(folder)
    sys.modules.pop(LIBRARY, None)
    if before is not None:
        sys.modules[LIBRARY] = before


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, LIBRARY, None)
    with pytest.raises(ConfigError, match=LIBRARY) as caught:
        create_embedder("sentence-transformers", {"model": "x"})
    assert caught.value.hint == 'pip install "powermem-cli[sentence-transformers]"'


async def test_a_text_has_its_vector(model):
    embedder = create_embedder("sentence-transformers", {"model": model, "device": "cpu"})
    await embedder.prepare()
    first, second, third = (np.frombuffer(v, "<f4") for v in await embedder.embed(["tea", "coffee", "blue"]))
    assert np.linalg.norm(first) == pytest.approx(1)
    assert first @ second > 0.9 > first @ third
    assert await embedder.embed_each(["tea"]) == await embedder.embed(["tea"])
    assert await embedder.embed([]) == []
    assert embedder.model == f"sentence-transformers/{model}"
    assert embedder.usage.calls == 0
    await embedder.close()


async def test_fewer_numbers_where_they_are_wanted(model):
    embedder = create_embedder("sentence-transformers", {"model": model, "device": "cpu", "embedding_dims": 2})
    assert [len(v) for v in await embedder.embed(["tea"])] == [8]
    with pytest.raises(EmbedderMismatch, match="4 numbers"):
        await create_embedder("sentence-transformers", {"model": model, "embedding_dims": 7}).embed(["tea"])


async def test_a_model_that_is_none(model, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "no such thing"}))
    with pytest.raises(ConfigError, match="can't be loaded"):
        await create_embedder("sentence-transformers", {"model": str(tmp_path / "other")}).embed(["tea"])


def test_the_program_remembers_with_it(model, tmp_path):
    powermem = Powermem(tmp_path)
    env = {"EMBEDDING_PROVIDER": "sentence-transformers", "EMBEDDING_MODEL": model}
    said = powermem.inside("add", "red tea", "--json", env=env)
    assert said.code == 0
    assert powermem.inside("search", "tea", "--json", env=env).json["results"][0]["memory"] == "red tea"
