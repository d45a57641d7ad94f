"""Runs real receivers of notifications on this machine: an HTTP and an SMTP server that record what they get."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

PASSWORD = "swordfish-0123456789"


class Web:
    """An HTTP server. `status`: its answer; `hangs_s`: how long it waits before that."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.hangs_s = 0.0
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(web.hangs_s)
                if web.status == 200:
                    web.got.append(json.loads(body))
                self.send_response(web.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Its URL for Apprise."""
        return f"json://me:{PASSWORD}@127.0.0.1:{self.port}/"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Mail:
    """An SMTP server."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        mail = self

        class Handler:
            async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
                del server, session
                mail.got.append(message_from_bytes(envelope.content or b"", policy=default))  # type: ignore[arg-type]
                return "250 OK"

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._controller = Controller(Handler(), hostname="127.0.0.1", port=self.port)
        self._controller.start()

    @property
    def url(self) -> str:
        """Its URL for Apprise."""
        return f"mailto://127.0.0.1:{self.port}/?from=evalmon@example.org&to=me@example.org&mode=insecure"

    def close(self) -> None:
        self._controller.stop()


@contextmanager
def web() -> Iterator[Web]:
    server = Web()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def mail() -> Iterator[Mail]:
    server = Mail()
    try:
        yield server
    finally:
        server.close()
