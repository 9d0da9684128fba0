"""Marked secrets: values that may be seen from some level of privacy on, and whether they are in what was written."""

from __future__ import annotations

import base64
import binascii
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.otlp import Batch
    from clew.tor.privacy import Privacy

NEVER = 4  # at no level

# Text of a base64 encoding that does not depend on what stands before or after it is this much shorter.
_BASE64_EDGE = 4


@cache
def spellings(secret: str) -> tuple[bytes, ...]:
    """How a text may be written so that it can be read again."""
    return tuple(_spellings(secret))


def _spellings(secret: str) -> Iterator[bytes]:
    data = secret.encode()
    for text in (secret, secret.lower(), secret.upper(), secret.swapcase(), secret[::-1]):
        yield text.encode()
    yield binascii.hexlify(data)
    yield binascii.hexlify(data).upper()
    yield "".join(f"%{byte:02x}" for byte in data).encode()
    yield quote(secret, safe="").encode()
    for offset in range(3):  # what it looks like depends on how many bytes stand before it
        encoded = base64.b64encode(b"\0" * offset + data)
        yield encoded[_BASE64_EDGE:-_BASE64_EDGE]
    yield base64.b32encode(data)[:-8]


def seen(secrets: Iterable[str], written: bytes) -> set[str]:
    """Those secrets that can be read in what was written."""
    return {secret for secret in secrets if any(text in written for text in spellings(secret))}


def forbidden(levels: dict[str, int], level: Privacy) -> list[str]:
    """Those secrets that must not be seen at a level."""
    return [secret for secret, first in levels.items() if level < first]


def written(batches: Iterable[Batch]) -> bytes:
    """What exporters write of batches: protobuf and JSON."""
    return b"".join(part for batch in batches for part in (batch.to_protobuf(), b"\n", batch.to_json()))
