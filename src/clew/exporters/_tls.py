"""TLS for exporters, in a program that forks.

OpenSSL has locks for the whole process. A child that is forked while a thread is in OpenSSL has them held by a thread
that it does not have, and its first handshake waits for ever. So a fork waits until no thread of ours is: nothing that
we call blocks, and all of it takes milliseconds.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from clew.errors import ConfigurationError
from clew.pipeline import allocate_lock

if TYPE_CHECKING:
    import socket

    from clew.exporters._otlp_settings import Settings

__all__ = ["TLS_ENDED", "TLS_FAILED", "WANT_READ", "WANT_WRITE", "Tls", "TlsSocket", "tls_reason"]

WANT_READ = ssl.SSLWantReadError
WANT_WRITE = ssl.SSLWantWriteError
TLS_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # the end of the connection, as any other
TLS_FAILED = ssl.SSLError

_in_openssl = allocate_lock()
# Forks in C (uWSGI's) run no hooks; they come before there is any traffic. Who forks holds the lock, in both processes.
os.register_at_fork(before=_in_openssl.acquire, after_in_parent=_in_openssl.release, after_in_child=_in_openssl.release)


class Tls:
    """Whom to trust, and what to show.

    Raises: ConfigurationError.
    """

    def __init__(self, settings: Settings) -> None:
        with _in_openssl:
            self._context = _context(settings)

    def wrap(self, connection: socket.socket, host: str) -> TlsSocket:
        """TLS over a connection, whose handshake is still to come."""
        with _in_openssl:
            wrapped = self._context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
        return TlsSocket(wrapped)


class TlsSocket:
    """What we need of an `ssl.SSLSocket` that does not block."""

    def __init__(self, wrapped: ssl.SSLSocket) -> None:
        self._wrapped: ssl.SSLSocket | None = wrapped
        self._descriptor = wrapped.fileno()

    def fileno(self) -> int:
        return self._descriptor

    def do_handshake(self) -> None:
        with _in_openssl:
            self._open.do_handshake()

    def send(self, data: memoryview) -> int:
        with _in_openssl:
            return self._open.send(data)

    def recv(self, size: int) -> bytes:
        with _in_openssl:
            return self._open.recv(size)

    def close(self) -> None:
        """Without a word to the other side: the connection may be a parent process's."""
        with _in_openssl:
            wrapped, self._wrapped = self._wrapped, None
            if wrapped is not None:
                wrapped.close()
            del wrapped  # which frees it, here

    @property
    def _open(self) -> ssl.SSLSocket:
        assert self._wrapped is not None
        return self._wrapped


def tls_reason(error: OSError) -> str:
    """What OpenSSL objects to, in its own words."""
    return getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.certificate)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"certificate cannot be used: {settings.certificate}: {_reason(error)}.") from error
    if settings.client_certificate is not None:
        try:
            # With the default, a key that is encrypted would have the program ask for its password on the terminal.
            context.load_cert_chain(settings.client_certificate, settings.client_key, password="")
        except (OSError, ValueError) as error:
            files = ", ".join(filter(None, (settings.client_certificate, settings.client_key)))
            raise ConfigurationError(
                f"client_certificate cannot be used: {files}: {_reason(error)}; it takes files in PEM form, "
                "with a key that is not encrypted."
            ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
