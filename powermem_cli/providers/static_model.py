"""A static model: one vector per word piece, int8 with a scale each; a text is the sum of its pieces' vectors."""

from __future__ import annotations

import errno
import functools
import json
import math
import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from powermem_cli.errors import ConfigError, PowerMemError, StoreError
from powermem_cli.model import Vector
from powermem_cli.providers.wordpiece import WordPiece

_SEGMENT: Final = 64  # tokens summed in one go; a longer text is the sum of its segments
_STARVED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_FEW: Final = 16  # segments that are summed one by one
_AT_ONCE: Final = 256  # segments: so many vectors stay in the processor's cache


class Tensor(NamedTuple):
    """Numbers of *type* ("I8", "F32") in a mapped file, from byte *start* on."""

    data: mmap.mmap
    type: str
    shape: tuple[int, ...]
    start: int

    def array(self) -> Any:
        """As a numpy array; nothing is copied."""
        import numpy as np  # noqa: PLC0415  100 ms that a single question does without

        dtype = np.dtype({"I8": "i1", "F32": "<f4"}[self.type])
        return np.frombuffer(self.data, dtype, math.prod(self.shape), self.start).reshape(self.shape)


@dataclass(frozen=True)
class StaticModel:
    """*rows* int8 [tokens, dimensions] times *scale* float32 [tokens] is the vector of each token."""

    rows: Tensor
    scale: Tensor
    tokenizer: WordPiece

    @functools.cached_property
    def _arrays(self) -> tuple[Any, Any]:
        return self.rows.array(), self.scale.array()

    @classmethod
    def load(cls, folder: Path) -> StaticModel:
        """The model of model.safetensors and vocab.txt in *folder*. Raises ConfigError if they are not sound, StoreError if
        the system gives no memory for them.
        """
        try:
            with (folder / "model.safetensors").open("rb") as file:
                tensors = _tensors(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            words = (folder / "vocab.txt").read_text("utf-8").removesuffix("\n").split("\n")
            rows, scale = tensors["embeddings"], tensors["scale"]
            if (rows.type, scale.type) != ("I8", "F32") or not rows.shape[:1] == scale.shape == (len(words),):
                raise ValueError(f"{len(words)} words for vectors of shape {rows.shape}, scale {scale.shape}")
            return cls(rows, scale, WordPiece(dict(zip(words, range(len(words)), strict=True))))
        except (MemoryError, OSError, ValueError, KeyError, TypeError) as error:
            raise _not_loaded(folder, error) from error

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """The same vector for the same text, whatever stands beside it."""
        import numpy as np  # noqa: PLC0415

        encoded = [self.tokenizer.encode(text) for text in texts]
        known = [tokens for tokens in encoded if tokens]
        if not known:
            return [b""] * len(encoded)
        sums = self._sums(np.frombuffer(b"".join(known), "<i4"), [len(tokens) // 4 for tokens in known])
        lengths = np.sqrt((sums * sums).sum(axis=1))
        lengths[lengths == 0] = 1
        packed = (sums / lengths[:, None]).astype("<f4", copy=False).tobytes()
        size = len(packed) // len(known)
        vectors = (packed[start : start + size] for start in range(0, len(packed), size))
        return [next(vectors) if tokens else b"" for tokens in encoded]

    def embed_one(self, text: str) -> Vector:
        """`embed([text])` but for rounding in the last bit: a short text is ready long before numpy is loaded."""
        tokens = struct.unpack(f"<{len(encoded := self.tokenizer.encode(text)) // 4}i", encoded)
        dims = self.rows.shape[1]
        total = [0.0] * dims
        for token in tokens:
            (scale,) = struct.unpack_from("<f", self.scale.data, self.scale.start + 4 * token)
            row = struct.unpack_from(f"{dims}b", self.rows.data, self.rows.start + dims * token)
            total = [so_far + scale * value for so_far, value in zip(total, row, strict=True)]
        length = math.sqrt(math.fsum(value * value for value in total)) or 1.0
        return struct.pack(f"<{dims}f", *(value / length for value in total)) if tokens else b""

    def _sums(self, tokens: Any, counts: Sequence[int]) -> Any:
        """The sum of the first counts[0] tokens' vectors, of the next counts[1], …: float32 [counts, dimensions]."""
        import numpy as np  # noqa: PLC0415

        sizes = np.array([size for count in counts for size in _segments(count)])
        starts = np.cumsum(sizes) - sizes
        longest_first = np.argsort(-sizes, kind="stable")
        sums = np.empty((len(sizes), self.rows.shape[1]), np.float32)
        for first in range(0, len(sizes), _AT_ONCE):
            some = longest_first[first : first + _AT_ONCE]
            sums[some] = self._sums_of_segments(tokens, starts[some], sizes[some])
        if len(sizes) == len(counts):
            return sums
        firsts = np.cumsum([0, *(-(-count // _SEGMENT) for count in counts[:-1])])
        return np.add.reduceat(sums, firsts, axis=0)

    def _sums_of_segments(self, tokens: Any, starts: Any, sizes: Any) -> Any:
        """Token by token in order, so that it is the same sum either way; *sizes* falls."""
        import numpy as np  # noqa: PLC0415

        rows, scale = self._arrays
        sums = np.zeros((len(sizes), rows.shape[1]), np.float32)
        if len(sizes) <= _FEW:
            for into, start, size in zip(sums, starts, sizes, strict=True):
                part = tokens[start : start + size]
                (rows[part] * scale[part, None]).sum(axis=0, out=into)
            return sums
        # The first tokens of all, then the second ones of those that have one, ….
        for place, number in enumerate(np.searchsorted(-sizes, -np.arange(sizes[0])).tolist()):
            part = tokens[starts[:number] + place]
            sums[:number] += rows[part] * scale[part, None]
        return sums


def _not_loaded(folder: Path, error: Exception) -> PowerMemError:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _STARVED:
        why = getattr(error, "strerror", None) or "out of memory"
        return StoreError(
            f"the system gives no more memory or files, which the built-in embedding model needs: {why}",
            hint="allow more (ulimit -a shows the limits), or end other programs",
            code="system.limits",
        )
    return ConfigError(
        f"the built-in embedding model in {folder} is missing or damaged ({error})",
        hint="reinstall it: pip install --force-reinstall --no-deps powermem-cli",
        code="config.model",
    )


def _segments(count: int) -> Iterator[int]:
    """*count* as a sum of sizes up to _SEGMENT."""
    while count > _SEGMENT:
        yield _SEGMENT
        count -= _SEGMENT
    yield count


def _tensors(data: mmap.mmap) -> dict[str, Tensor]:
    """What a safetensors file holds: 8 bytes header length, a JSON header, then the numbers. Nothing is copied."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    tensors = {}
    for name in ("embeddings", "scale"):
        shape, (begin, end) = tuple(header[name]["shape"]), header[name]["data_offsets"]
        type_ = header[name]["dtype"]
        if end - begin != math.prod(shape) * {"I8": 1, "F32": 4}[type_] or start + end > len(data):
            raise ValueError(f"{name} has {end - begin} bytes for {shape} {type_}")
        tensors[name] = Tensor(data, type_, shape, start + begin)
    return tensors
