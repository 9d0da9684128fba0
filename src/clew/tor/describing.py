"""What the spans of circuits, streams and onion services describe alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clew.tor.privacy import PrivacyFilter

__all__ = ["error_type", "extra_attributes"]


def error_type(reason: str | None) -> str:
    """`error.type`: tor's reason in lower case; "failed" where it gave none."""
    return (reason or "failed").lower()


def extra_attributes(privacy: PrivacyFilter, prefix: str, extra: Mapping[str, str]) -> dict[str, object]:
    """Attributes for the keywords of an event that clew does not know: `prefix` and the keyword in lower case.

    They are not filtered yet.
    """
    attributes: dict[str, object] = {}
    for key, value in extra.items():
        # A word without a value, or one that is no keyword, is telling in itself: it goes where values go.
        if value and privacy.keyword(key) is not None:
            attributes[f"{prefix}.{key.lower()}"] = value
        else:
            attributes[f"{prefix}.words"] = f"{key}={value}" if value else key
    return attributes
