"""Where bytes come from: a file or a pipe, and around it what undoes gzip and other encodings, chunk by chunk."""

from __future__ import annotations

import codecs
import contextlib
import os
import stat
import zlib
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from typing import BinaryIO

from powermem_cli.errors import UsageError
from powermem_cli.files import Piece, digest_of
from powermem_cli.readers.base import CHUNK

GZIP_MAGIC = b"\x1f\x8b"


class ByteSource(ABC):
    """Chunks until the end. After the last, *trouble* says why it was not the true end, or is None."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        self.ahead = b""  # fetched to be looked at, and not read yet
        self._ended = False

    @abstractmethod
    def _fetch(self) -> bytes:
        """The next bytes, b"" at the end."""

    def read(self) -> bytes:
        if self.ahead:
            chunk, self.ahead = self.ahead, b""
            return chunk
        return self._next()

    def peek(self, size: int) -> bytes:
        """At least *size* bytes without reading them; fewer only at the end."""
        while len(self.ahead) < size and self.look_further():
            pass
        return self.ahead

    def look_further(self) -> bool:
        """Fetch one more chunk into *ahead*; False at the end."""
        chunk = self._next()
        self.ahead += chunk
        return bool(chunk)

    def skip(self, size: int) -> None:
        self.ahead = self.ahead[size:]

    def _next(self) -> bytes:
        # A terminal or a pipe must not be asked again after its end.
        chunk = b"" if self._ended else self._fetch()
        self._ended = not chunk
        return chunk


class FileBytes(ByteSource):
    """An open file, pipe or device. *size* is None where nobody knows it; *consumed* counts what was fetched.

    *pieces* lets somebody find out later whether the file still holds what was read; who does takes them away.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._read = getattr(stream, "read1", stream.read)  # never wait for a full buffer: a pipe may be slow
        self.consumed = 0
        self.size = _size_of(stream)
        self.pieces: deque[Piece] = deque()

    def _fetch(self) -> bytes:
        try:
            chunk: bytes = self._read(CHUNK)
        except OSError as error:
            self.trouble = f"reading failed: {error.strerror or error}"
            return b""
        if self.size is not None:
            self.pieces.append(Piece(self.consumed, len(chunk), digest_of(chunk)))
        self.consumed += len(chunk)
        return chunk

    def seek(self, byte: int) -> None:
        self._stream.seek(byte)
        self.ahead, self.consumed, self._ended = b"", byte, False
        self.pieces.clear()

    def close(self) -> None:
        self._stream.close()


def _size_of(stream: BinaryIO) -> int | None:
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # io.BytesIO and its like have no descriptor
        return None
    # The files of /proc say 0 and then have content.
    return status.st_size if stat.S_ISREG(status.st_mode) and status.st_size else None


def open_file(path: str) -> FileBytes:
    try:
        if Path(path).is_dir():
            raise UsageError(f"{path} is a directory", hint=f"name its files, as in -f '{path.rstrip('/')}/*.jsonl'")
        return FileBytes(Path(path).open("rb", buffering=0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {reason}", code="input.unreadable") from None


def open_stdin(stream: BinaryIO) -> FileBytes:
    # With a non-blocking pipe "nothing yet" looks like the end, and records would be lost without a word.
    with contextlib.suppress(OSError, AttributeError):  # not a descriptor; Windows before Python 3.12
        os.set_blocking(stream.fileno(), True)
    return FileBytes(stream)


class Inflated(ByteSource):
    """What gzip data holds, member after member. Damage ends it, after every byte that could be saved."""

    def __init__(self, source: ByteSource) -> None:
        super().__init__()
        self._source = source
        self._packed = b""
        self._inflater = zlib.decompressobj(31)
        self._between = True  # before the first member, between two, after the last
        self._step = CHUNK  # bytes given to the inflater at once; goes down to 1 around damage

    def _fetch(self) -> bytes:
        while self.trouble is None:
            self._packed = self._packed or self._source.read()
            if not self._packed:
                return self._last()
            if self._between and not self._begin_member():
                continue
            if data := self._inflate():
                return data
        return b""

    def _begin_member(self) -> bool:
        """False while only padding is there, or something else than gzip."""
        self._packed = self._packed.lstrip(b"\0")
        if not self._packed:
            return False
        if len(self._packed) == 1:
            self._packed += self._source.read()
        if self._packed[:2] != GZIP_MAGIC:
            self.trouble = "after the gzip data comes something else"
            return False
        self._between = False
        return True

    def _inflate(self) -> bytes:
        before = self._inflater.copy()
        piece = self._packed[: self._step]
        try:
            data = self._inflater.decompress(piece, CHUNK)
        except zlib.error as error:
            # zlib gives nothing of a piece with damage in it: take smaller ones, up to the very byte.
            self._inflater = before
            if self._step == 1:
                self.trouble = f"the gzip data is damaged ({error})"
            self._step = max(1, len(piece) // 2)
            return b""
        rest = self._packed[self._step :]
        if self._inflater.eof:
            self._packed = self._inflater.unused_data + rest
            self._inflater, self._between, self._step = zlib.decompressobj(31), True, CHUNK
        else:
            self._packed = self._inflater.unconsumed_tail + rest
        return data

    def _last(self) -> bytes:
        if self._between:
            self.trouble = self._source.trouble
            return b""
        data = self._inflater.flush()
        if not self._inflater.eof:
            self.trouble = self._source.trouble or "the gzip data ends too early"
        self._between = True
        return data


class Transcoded(ByteSource):
    """Text of another encoding as UTF-8. What is no text there is no UTF-8 here either: lone surrogates."""

    def __init__(self, source: ByteSource, encoding: str) -> None:
        super().__init__()
        self._source = source
        self._encoding = encoding
        self._errors = "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(self._errors)

    def _fetch(self) -> bytes:
        while self.trouble is None:
            data = self._source.read()
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                self.trouble = f"not {self._encoding}: {error.reason}"
                text = error.object[: error.start].decode(self._encoding, self._errors)
                return text.encode("utf-8", "surrogatepass")
            if text or not data:
                self.trouble = None if data else self._source.trouble
                return text.encode("utf-8", "surrogatepass")
        return b""

    def measure(self, piece: bytes) -> int:
        """Bytes of the input that a piece of UTF-8 was."""
        return len(piece.decode("utf-8", "surrogatepass").encode(self._encoding, self._errors))
