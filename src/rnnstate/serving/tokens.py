"""Bearer tokens, and the sessions that belong to each of them.

A file, or the environment variable `RNNSTATE_TOKENS`, has one line `NAME TOKEN` for each token. The keys of a token's
sessions begin with a digest of its name in the store, so a new token with the same name has the same sessions.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rnnstate.errors import DataError
from rnnstate.serving.refusals import RefusedError

VARIABLE = "RNNSTATE_TOKENS"
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
_TOKEN = re.compile(r"[\x21-\x7e]{16,512}")
_LONGEST_KEY = 200


@dataclass(frozen=True)
class Tenant:
    """The owner of a token.

    Args:
        name: The name, which is empty on a server without tokens.
        prefix: The text before the keys of its sessions in the store.

    Example:

    >>> Tenant.of("alice").text("north")
    '2bd806c97f0e00af/north'
    """

    name: str = ""
    prefix: str = ""

    @classmethod
    def of(cls, name: str) -> "Tenant":
        """Return the tenant of a name."""
        return cls(name, f"{hashlib.sha256(name.encode()).hexdigest()[:16]}/")

    def text(self, key: object) -> str:
        """Return the key of a session in the store.

        Raises:
            RefusedError: If the key cannot be part of an address.
        """
        key = str(key) if isinstance(key, int) and not isinstance(key, bool) else key
        fits = isinstance(key, str) and 0 < len(key) <= _LONGEST_KEY and key.isprintable()
        if not fits or "/" in str(key) or key in (".", ".."):
            raise RefusedError(
                400,
                f"The key of a session must be a number, or text of 1 to {_LONGEST_KEY} printable characters without `/`. "
                f"Received: {ascii(key)[:60]}.",
            )
        return f"{self.prefix}{key}"

    def key(self, text: object) -> str | None:
        """Return the key of a session as its owner knows it, or `None` if the session belongs to somebody else.

        Whole numbers as keys, which Python may use, belong to nobody here.
        """
        if not isinstance(text, str) or not text.startswith(self.prefix) or "/" in text[len(self.prefix) :]:
            return None
        return text[len(self.prefix) :]


@dataclass(frozen=True)
class Tokens:
    """The tokens that a server takes.

    Args:
        known: The SHA-256 digest of each token, and its owner. Without any, everybody is the same tenant.

    Example:

    >>> tokens = Tokens.read(["alice 0123456789abcdef"])
    >>> tokens.tenant("Bearer 0123456789abcdef").name
    'alice'
    """

    known: tuple[tuple[bytes, Tenant], ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, lines: Sequence[str]) -> "Tokens":
        """Read lines `NAME TOKEN`. Empty lines, and those that begin with `#`, do not count.

        Raises:
            DataError: If a line is something else, or a name or a token is there twice.
        """
        pairs = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        for number, pair in enumerate(pairs, 1):
            if len(pair) != 2 or not _NAME.fullmatch(pair[0]) or not _TOKEN.fullmatch(pair[1]):
                raise DataError(
                    "Each token must be a line `NAME TOKEN`, with 1 to 64 letters, digits, `.`, `_` or `-` as the name, and "
                    f"16 to 512 visible ASCII characters as the token. Received: another line as number {number}."
                )
        for what, column in (("name", 0), ("token", 1)):
            if len({pair[column] for pair in pairs}) < len(pairs):
                raise DataError(f"Each token must have a {what} that no other one has. Received: one twice.")
        return cls(tuple((_digest(token.encode()), Tenant.of(name)) for name, token in pairs))

    def tenant(self, authorization: str, basic: bool = False) -> Tenant:
        """Return the owner of the token in a header `Authorization`. The time it takes says nothing about the tokens.

        Args:
            authorization: The header: `Bearer TOKEN`.
            basic: Whether a browser may send the token as the password of `Basic` instead.

        Raises:
            RefusedError: If the server has tokens, and this is none of them.
        """
        if not self.known:
            return Tenant()
        given, found = _digest(_token(authorization, basic)), None
        for digest, tenant in self.known:
            found = tenant if hmac.compare_digest(given, digest) else found
        if found is None:
            challenge = 'Basic realm="rnnstate", charset="UTF-8"' if basic else "Bearer"
            raise RefusedError(
                401, "A request must have a valid token: `Authorization: Bearer TOKEN`.", challenge=challenge
            )
        return found


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _token(authorization: str, basic: bool) -> bytes:
    kind, _, given = authorization.partition(" ")
    if basic and kind.lower() == "basic":
        try:
            return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return given.strip().encode("utf-8", "replace") if kind.lower() == "bearer" else b""
