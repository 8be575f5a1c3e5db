"""What a provider answered as embeddings → our vectors; what is none is refused, never stored."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from powermem_cli.errors import ProviderError
from powermem_cli.model import Vector

_LARGEST: Final = float(np.finfo(np.float32).max)
_SHORTEST: Final = 1e-12  # the length of a vector that says nothing


def unit_vectors(provider: str, answered: Sequence[Any], count: int) -> list[Vector]:
    """*answered*: one list of numbers, or base64 of little-endian float32, per text. Raises ProviderError."""
    if len(answered) != count:
        raise _invalid(provider, f"answered {len(answered)} embeddings for {count} texts")
    try:
        matrix = np.array([_decoded(one) for one in answered])
    except (ValueError, TypeError, OverflowError, binascii.Error) as error:
        raise _invalid(provider, f"answered an embedding that is none ({error})") from error
    if matrix.ndim != 2 or matrix.shape[1] == 0 or matrix.dtype.kind not in "fi":
        raise _invalid(provider, "answered embeddings that are no lists of numbers of one length")
    wide = matrix.astype(np.float64)
    if not bool((np.abs(wide) <= _LARGEST).all()):  # false for NaN too
        raise _invalid(provider, "answered an embedding with a value that is no finite number")
    lengths = np.sqrt((wide * wide).sum(axis=1))
    if float(lengths.min()) < _SHORTEST:
        raise _invalid(provider, "answered an embedding of zeros")
    packed = (wide / lengths[:, None]).astype("<f4").tobytes()
    size = len(packed) // count
    return [packed[start : start + size] for start in range(0, len(packed), size)]


def _decoded(one: Any) -> Any:
    if isinstance(one, str):
        return np.frombuffer(base64.b64decode(one, validate=True), "<f4")
    if isinstance(one, list):
        return one
    raise TypeError(f"a {type(one).__name__}")


def _invalid(provider: str, what: str) -> ProviderError:
    return ProviderError(what, provider=provider, code="embed.invalid")
