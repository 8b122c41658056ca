"""The relay as a service: `python -m include.platform.relay`. Whether it works is told at `/health` of its port."""

from __future__ import annotations

import logging
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from include.operations.relay import Relay, work
from include.settings import load


def handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    """Answers GET requests about a relay."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/health"
            self.send_response((200 if relay.works else 503) if known else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Questions are not logged."""

    return Handler


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = load()
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    relay = Relay(settings, work(settings), stopping)
    server = ThreadingHTTPServer((settings.listen_address, settings.relay_port), handler(relay))
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    relay.run()
    server.shutdown()


if __name__ == "__main__":
    main()
