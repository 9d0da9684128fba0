"""Every exception of the project.

They are raised at construction, by the command line and by readers. Nothing here is ever raised into a traced
program by a span or a tracer once it exists.
"""

from __future__ import annotations

__all__ = [
    "CircuitError",
    "ClewError",
    "ConfigurationError",
    "ControlAuthenticationError",
    "ControlConnectionError",
    "ControlProtocolError",
    "ControlReplyError",
    "DecodeError",
    "EncodeError",
    "ExportError",
    "FormatError",
    "LabError",
    "TorError",
    "TorNotFoundError",
]


class ClewError(Exception):
    """The base of all of them. Its text is one sentence that says what to do."""


class ConfigurationError(ClewError, ValueError):
    """A wrong argument, found when a tracer, sampler or exporter was made."""


class ExportError(ClewError):
    """An exporter could not deliver a batch, or delivered only a part of it.

    Args:
        message: why.
        rejected: how many spans of the batch were not delivered; None means all of them.
    """

    def __init__(self, message: str, *, rejected: int | None = None) -> None:
        super().__init__(message)
        self.rejected = rejected


class DecodeError(ClewError, ValueError):
    """Bytes that are not what they should be (OTLP protobuf or JSON)."""


class EncodeError(ClewError, ValueError):
    """A record that OTLP has no place for."""


class FormatError(ClewError):
    """A trace file in no format that clew reads."""


class TorError(ClewError):
    """The base of all that goes wrong with a tor process or its control port."""


class TorNotFoundError(TorError):
    """No `tor` program on this machine."""


class LabError(TorError):
    """The private network could not be brought up or used."""


class ControlConnectionError(TorError):
    """The control port cannot be reached, or the connection was lost."""


class ControlAuthenticationError(TorError):
    """tor did not let us in: no permission to read the cookie, a wrong password, no method in common."""


class ControlProtocolError(TorError):
    """What arrived is not the control protocol (the other side's fault)."""


class ControlReplyError(TorError):
    """tor refused a command.

    Args:
        code: the three-digit status code of the reply (control-spec section 4).
        text: tor's own words.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"tor answered {code} {text}")
        self.code = code
        self.text = text


class CircuitError(TorError):
    """A circuit failed or was closed before it was built.

    Args:
        message: one sentence.
        circuit_id: tor's id of the circuit, or None when it got none.
        reason: tor's REASON keyword, lower case ("timeout", "destroyed"), or None.
        remote_reason: tor's REMOTE_REASON keyword, lower case, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        circuit_id: str | None = None,
        reason: str | None = None,
        remote_reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.circuit_id = circuit_id
        self.reason = reason
        self.remote_reason = remote_reason
