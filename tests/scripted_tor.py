"""A control port that says what it is told to say: for commands that connect to a tor."""

from __future__ import annotations

import socket
import threading

__all__ = ["MADE", "RELAYS", "ScriptedTor", "events", "stream"]

HELLO = b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n'
RELAYS = ["$" + letter * 40 + f"~relay{letter}" for letter in "ABC"]
MADE = "BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL"


def events(circuit_id: int, end: str = "BUILT") -> bytes:
    """A circuit of three hops from its launch to its end, which comes before the third unless it is built."""
    hops = 3 if end == "BUILT" else 2
    lines = [f"LAUNCHED {MADE}"]
    lines += [f"EXTENDED {','.join(RELAYS[: hop + 1])} {MADE}" for hop in range(hops)]
    if end:
        lines.append(f"{end} {','.join(RELAYS[:hops])} {MADE}" + ("" if end == "BUILT" else " REASON=TIMEOUT"))
    return b"".join(b"650 CIRC %d %s\r\n" % (circuit_id, line.encode()) for line in lines)


def stream(stream_id: int, circuit_id: int, *, ends: bool = True) -> bytes:
    """A stream over a circuit that is there, which ends well or not at all."""
    lines = [
        'NEW 0 example.com:80 SOURCE_ADDR=127.0.0.1:40000 PURPOSE=USER SOCKS_USERNAME="hunter2"',
        f"SENTCONNECT {circuit_id} example.com:80",
        f"SUCCEEDED {circuit_id} example.com:80",
        *([f"CLOSED {circuit_id} example.com:80 REASON=DONE"] if ends else []),
    ]
    return b"".join(b"650 STREAM %d %s\r\n" % (stream_id, line.encode()) for line in lines)


class ScriptedTor:
    """Lets everybody in and then, for each connection, sends the events that it was given."""

    def __init__(self, scripts: list[bytes], testing: bytes = b"1") -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._answers = {
            b"PROTOCOLINFO": HELLO,
            b"GETCONF": b"250 TestingTorNetwork=%s\r\n" % testing,
            b"GETINFO events/names": b"250-events/names=CIRC CIRC_MINOR STREAM GUARD HS_DESC\r\n250 OK\r\n",
            b"GETINFO circuit-status": b"250-circuit-status=\r\n250 OK\r\n",
        }
        self.asked: list[bytes] = []  # the events that each connection asked for
        self._scripts = scripts
        self.hang_up = threading.Event()  # ends the connection that is there
        self.sent = threading.Semaphore(0)  # released when a script was sent
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for script in self._scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._serve(connection, script)
            self.hang_up.clear()

    def _serve(self, connection: socket.socket, script: bytes) -> None:
        with connection.makefile("rb") as lines:
            for line in lines:  # until the client has gone, or we have
                command, _, rest = line.strip().partition(b" ")
                connection.sendall(self._answers.get(line.strip()) or self._answers.get(command, b"250 OK\r\n"))
                if command == b"SETEVENTS":
                    self.asked.append(rest)
                    connection.sendall(script)
                    self.sent.release()
                    if script is not self._scripts[-1]:
                        threading.Thread(target=self._hang_up, args=(connection,)).start()

    def _hang_up(self, connection: socket.socket) -> None:
        assert self.hang_up.wait(30)
        connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Wait for the end of the last connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._listener.close()
        assert not self._thread.is_alive()
