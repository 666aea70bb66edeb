"""A way to PostgreSQL on which commits get lost: before they arrive, or with their answer. A proxy on a TCP port of its own."""

import socket
import threading
from contextlib import suppress
from urllib.parse import parse_qs, unquote, urlsplit


class Lossy:
    """Passes bytes both ways. A connection that carried `mark` has its next COMMIT spoilt, `times` times over all connections.

    `answered` False: the server never gets it. True: the server has answered it, and the client hears nothing.
    """

    def __init__(self, url: str, mark: bytes, times: int, answered: bool) -> None:
        self._folder = unquote(parse_qs(urlsplit(url).query)["host"][0])
        self._mark, self.left, self._answered = mark, times, answered
        self.spoilt = 0
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                upstream = socket.socket(socket.AF_UNIX)
                upstream.connect(f"{self._folder}/.s.PGSQL.5432")
                spoil = threading.Event()
                threading.Thread(target=self._up, args=(client, upstream, spoil), daemon=True).start()
                threading.Thread(target=self._down, args=(client, upstream, spoil), daemon=True).start()

    def _up(self, client: socket.socket, upstream: socket.socket, spoil: threading.Event) -> None:
        marked = False
        with suppress(OSError):
            while data := client.recv(65536):
                marked = marked or self._mark in data
                if marked and b"COMMIT" in data and self._take():
                    if not self._answered:
                        break
                    spoil.set()
                upstream.sendall(data)
        _end(client, upstream)

    def _down(self, client: socket.socket, upstream: socket.socket, spoil: threading.Event) -> None:
        with suppress(OSError):
            while (data := upstream.recv(65536)) and not spoil.is_set():
                client.sendall(data)
        _end(client, upstream)

    def _take(self) -> bool:
        with self._lock:
            if self.left == 0:
                return False
            self.left -= 1
            self.spoilt += 1
            return True


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
