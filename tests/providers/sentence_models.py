"""Models of five words for the sentence-transformers embedder: one that the library itself makes and reads, and one for
a stand-in of the library, which is a gigabyte that few machines have.

The stand-in has of the library what the embedder calls, and refuses everything else; the same tests run with both.
"""

from __future__ import annotations

import json
from pathlib import Path

WORDS = ("[UNK]", "tea", "coffee", "red", "blue")
WEIGHTS = ((1, 1, 1, 1), (9, 1, 0, 0), (8, 2, 0, 0), (0, 0, 9, 1), (0, 0, 1, 9))

STAND_IN = """
import json, pathlib
import numpy as np

class SentenceTransformer:
    def __init__(self, model_name_or_path, *, device=None, truncate_dim=None):
        self._dims = truncate_dim
        words = json.loads((pathlib.Path(model_name_or_path) / "words.json").read_text("utf-8"))
        self._words = {word: np.array(numbers, np.float32) for word, numbers in words.items()}

    def encode(self, sentences, *, batch_size=32, show_progress_bar=None):
        assert isinstance(sentences, list) and batch_size > 0
        known = [[self._words.get(word, self._words["[UNK]"]) for word in text.split()] for text in sentences]
        return np.array([np.mean(numbers, axis=0)[: self._dims] for numbers in known], np.float32)
"""


def write_stand_in(folder: Path) -> Path:
    """A folder to import the stand-in from."""
    (folder / "sentence_transformers").mkdir()
    (folder / "sentence_transformers" / "__init__.py").write_text(STAND_IN, "utf-8")
    return folder


def write_words(folder: Path) -> None:
    """A model of the stand-in."""
    (folder / "words.json").write_text(json.dumps(dict(zip(WORDS, WEIGHTS, strict=True))), "utf-8")


def write_model(folder: Path) -> None:
    """A model of the library; nothing is downloaded."""
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    static = StaticEmbedding(tokenizer, embedding_weights=np.array(WEIGHTS, np.float32))
    SentenceTransformer(modules=[static], device="cpu").save(str(folder))
