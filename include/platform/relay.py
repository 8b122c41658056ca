"""The relay as a service: `python -m include.platform.relay`. It answers on its port, too."""

from __future__ import annotations

import json
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import psycopg

from include.operations import figures
from include.operations.relay import Relay, work
from include.platform import services
from include.settings import Settings, load

PLAIN = "text/plain; charset=utf-8"


def handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    """Answers GET requests: `/health`, `/figures` (JSON) and `/metrics` (for Prometheus)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, text = self._answer()
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _answer(self) -> tuple[int, str, str]:
            if self.path == "/health":
                return (200 if relay.works else 503), PLAIN, ""
            if self.path not in ("/figures", "/metrics"):
                return 404, PLAIN, ""
            try:
                read = figures.read(relay.settings)
            except psycopg.Error as error:
                return 503, PLAIN, f"PostgreSQL: {str(error).strip()}\n"
            if self.path == "/figures":
                return 200, "application/json", json.dumps(read)
            return 200, "text/plain; version=0.0.4; charset=utf-8", figures.prometheus(read)

        def log_message(self, format: str, *arguments: object) -> None:
            """Questions are not logged."""

    return Handler


def silent_services(settings: Settings) -> list[str]:
    """The services that do not answer; in containers Airflow's parts, as Docker knows of the others."""
    names = [
        service.name
        for service in services.WATCHED
        if service.name != services.RELAY
        and (service.name.startswith("airflow-") or not settings.in_containers)
    ]
    with ThreadPoolExecutor(len(names)) as pool:
        ready = pool.map(lambda name: services.SERVICES[name].ready(settings), names)
    return [name for name, answers in zip(names, ready, strict=True) if not answers]


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = load()
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    relay = Relay(settings, work(settings, partial(silent_services, settings)), stopping)
    server = ThreadingHTTPServer((settings.listen_address, settings.relay_port), handler(relay))
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    relay.run()
    server.shutdown()


if __name__ == "__main__":
    main()
