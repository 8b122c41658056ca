"""Local receivers of messages that can be down, slow and failing: a hook over HTTP and a mail server."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OK: Callable[[int], int] = lambda number: 200  # noqa: E731


@dataclass
class Hook:
    """What a hook was sent, and what it answers: a status by the number of the request, from 0 on; 0 hangs up."""

    url: str = ""
    answer: Callable[[int], int] = OK
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [headers["idempotency-key"] for headers in self.headers]


@contextmanager
def hook(answer: Callable[[int], int] = OK) -> Iterator[Hook]:
    """A hook on a free port; what it got counts as received whatever it answers."""
    state = Hook(answer=answer)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                number = len(state.bodies)
                state.headers.append({name.lower(): value for name, value in self.headers.items()})
                state.bodies.append(body)
            status = state.answer(number)
            if status:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_port}/hook?token=canary"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield state
        server.shutdown()


@dataclass
class Mailbox:
    """What a mail server was sent: (recipient, text). It answers a recipient with `code`."""

    port: int = 0
    code: Callable[[str], int] = lambda recipient: 250
    mails: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A mail server on a free port, without encryption."""
    state = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            recipient = ""
            self.say(220)
            while line := self.rfile.readline().decode().strip():
                verb = line.split(":")[0].upper()
                if verb == "RCPT TO":
                    recipient = line.partition("<")[2].partition(">")[0]
                    self.say(state.code(recipient))
                elif verb == "DATA":
                    self.say(354)
                    lines = []
                    while (text := self.rfile.readline().decode()) != ".\r\n":
                        lines.append(text)
                    state.mails.append((recipient, "".join(lines)))
                    self.say(250)
                elif verb == "QUIT":
                    self.say(221)
                    return
                else:
                    self.say(250)

        def say(self, code: int) -> None:
            self.wfile.write(f"{code} as told\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield state
        server.shutdown()
