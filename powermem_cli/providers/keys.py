"""Keys: as one can be sent, and as nothing that comes back shows it."""

from __future__ import annotations

import base64
from urllib.parse import quote

from powermem_cli.config import masked
from powermem_cli.errors import ConfigError


def checked_key(key: str | None, provider: str) -> str | None:
    """*key* as it can stand in a header; None if there is none. Raises ConfigError that does not show it."""
    if key is None or not key.strip():
        return None
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"the api_key of {provider} holds a character that no key has (a blank, a line break, a quotation mark?)",
            code="config.key",
        )
    return key


class Redaction:
    """Takes a key out of what a server answers: some repeat it, as it is or in another form."""

    def __init__(self, key: str | None) -> None:
        self.shown = masked(key) if key else ""
        raw = key.encode() if key else b""
        forms = {raw, quote(raw, safe="").encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw)}
        self._forms = sorted(forms, key=len, reverse=True) if key else []

    def of(self, answered: bytes) -> bytes:
        """*answered* with the key as it may be shown."""
        for form in self._forms:
            answered = answered.replace(form, self.shown.encode())
        return answered
