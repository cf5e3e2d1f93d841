"""Who a person is in an export, and what an export does to what people typed."""

import hmac
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256

from django.conf import settings

from audit.logs.masking import mask
from audit.models.work import Mode


@dataclass(frozen=True)
class Pseudonyms:
    """Stable names for people, from a secret of their own: HMAC-SHA256, 64 bits of it, behind the id of the key.

    The same person has the same name in every export until the secret changes; then the key id in the middle of the
    name changes too, so that files from two secrets are never joined by accident.

    >>> Pseudonyms("a secret").of("user", 7)
    'user-105a35-35663ffc0b7ffe2e'
    """

    secret: str

    @classmethod
    def from_settings(cls) -> "Pseudonyms":
        return cls(settings.PSEUDONYM_SECRET)

    @cached_property
    def key_id(self) -> str:
        return _digest(self.secret, "key id")[:6]

    def of(self, kind: str, *identity: object) -> str:
        """The name of the person (or of the platform's own id) that `identity` is, among others of its kind."""
        return f"{kind}-{self.key_id}-{_digest(self.secret, kind, *identity)[:16]}"


@lru_cache(maxsize=8192)  # the same people come row after row
def _digest(secret: str, *parts: object) -> str:
    # Each part carries its length, so that no two lists of parts give one message.
    message = "".join(f"{len(str(part))}:{part}" for part in parts)
    return hmac.new(secret.encode(), message.encode(), sha256).hexdigest()


@dataclass(frozen=True)
class Privacy:
    """What an export shows of people and of contact data. People are pseudonyms always; masks can be taken off."""

    pseudonyms: Pseudonyms
    is_masked: bool = True

    def user(self, user_id: int | None) -> str | None:
        return None if user_id is None else self.pseudonyms.of("user", user_id)

    def author(self, platform: str, key: str) -> str | None:
        return self.pseudonyms.of("author", platform, key) if key else None

    def reporter(self, platform: str, key: str) -> str | None:
        return self.pseudonyms.of("reporter", platform, key) if key else None

    def item(self, platform: str, external_id: str) -> str:
        """The platform's own id leads back to its author: masked, it is a pseudonym that can still be counted."""
        return self.pseudonyms.of("item", platform, external_id) if self.is_masked else external_id

    def complaint(self, platform: str, external_id: str) -> str:
        """As for an item: the platform knows who made this complaint."""
        return self.pseudonyms.of("complaint", platform, external_id) if self.is_masked else external_id

    def text(self, text: str | None) -> str | None:
        return mask(text) if text and self.is_masked else text or None

    def query_text(self, text: str, key: str, mode: str) -> str:
        """A query's text; where only its canonical key gives the contact away, ‹contact› stands for all of it."""
        if not self.is_masked:
            return text
        masked = mask(text)
        return "‹contact›" if masked == text and _gives_contact_away(key, mode) else masked

    def query_key(self, text: str, key: str, mode: str) -> str:
        """The canonical key of a query; of one that holds contact data, a pseudonym: equal queries stay equal."""
        if self.is_masked and (mask(text) != text or _gives_contact_away(key, mode)):
            return self.pseudonyms.of("query", key)
        return key


def _gives_contact_away(key: str, mode: str) -> bool:
    """In a key of characters mode every code point stands alone; it is read as written."""
    written = key.replace(" ", "") if mode == Mode.CHARACTERS else key
    return mask(written) != written
