"""A TCP proxy between a stream and PostgreSQL that can cut connections, go silent, or lose the reply to a COMMIT."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

COMMITTED = b"COMMIT\0"  # the tag in PostgreSQL's CommandComplete message


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`, from a thread, between `start` and `close`."""

    def __init__(self, port: int, target: int):
        self.port, self.target = port, target
        self.reply_lost = threading.Event()
        self._lose_reply = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{port}", daemon=True)

    def start(self) -> None:
        ready = threading.Event()
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._listen(ready)))
        self._thread.start()
        if not ready.wait(10):
            raise OSError(f"the proxy cannot listen on port {self.port}")

    def close(self) -> None:
        self._call(self._stop)
        self._thread.join(10)

    def cut(self) -> None:
        """Resets every connection."""
        self._call(self._reset_all)

    def silence(self, silent: bool) -> None:
        """While silent, connections stay open and nothing passes, as behind a broken cable."""
        self._call(self._open.clear if silent else self._open.set)

    def lose_next_commit_reply(self) -> None:
        """The next COMMIT succeeds and its client never hears of it; then `reply_lost` is set."""
        self.reply_lost.clear()
        self._lose_reply = True

    def _call(self, action: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def _listen(self, ready: threading.Event) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        ready.set()

    def _stop(self) -> None:
        self._server.close()
        self._open.set()
        self._reset_all()
        self._loop.call_later(0.2, self._loop.stop)

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # PostgreSQL is down: the client must see the same
            _reset(writer)
            return
        pair = {writer, far_writer}
        self._writers |= pair
        try:
            await asyncio.gather(
                self._forward(reader, far_writer, replies=False),
                self._forward(far_reader, writer, replies=True),
            )
        finally:
            self._writers -= pair
            for end in pair:
                end.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._open.wait()
                if replies and self._lose_reply and COMMITTED in data:
                    self._lose_reply = False
                    self.reply_lost.set()
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with a reset, like a peer that died, and without sending what is left."""
    with suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
