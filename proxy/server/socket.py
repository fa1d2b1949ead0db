"""The unix sockets: the dapp socket for native programs of the same user, and the admin socket for the command line.

Each is a listener with a `Door` of its own; who connects is the same user (peer credentials) and asks as `origin`. Framing as
geth's IPC: JSON values one after another, answers end with a newline. The files are made 0600 in a directory of 0700
(security.md 5; rpc.md, "Listeners").
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import os
import select
import socket
import stat
import struct
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from middleware.errors import LimitExceeded, RpcError
from middleware.waist import SOCKET, Context, Origin
from proxy.server import envelope
from proxy.server.connections import Connections
from proxy.server.conversation import Conversation
from proxy.server.door import Door
from proxy.server.framing import ValueSplitter
from proxy.server.outbox import Outbox
from proxy.server.presence import Attendance
from proxy.server.taking import SlowReader

logger = logging.getLogger("l2proxy.door")

LONGEST_PATH = 100  # bytes; the system's own limit is 107
PIECE = 64 * 1024


class SocketWire:
    """A `Wire` of JSON values, each with a newline behind it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.transport: asyncio.WriteTransport = writer.transport
        self._most = self.transport.get_write_buffer_limits()[1]

    @property
    def clogged(self) -> bool:
        """Tell whether nothing more should be written for now."""
        return self.transport.get_write_buffer_size() > self._most

    def send(self, frame: bytes) -> None:
        """Write one value."""
        self.send_part(frame, first=True, last=True)

    def send_part(self, part: bytes, *, first: bool, last: bool) -> None:
        """Write one part of a value."""
        del first
        if not self.transport.is_closing():
            self.transport.write(part + b"\n" if last else part)

    async def drained(self) -> None:
        """Wait until it is not clogged. Raise `ConnectionError` when the connection has ended."""
        await self._writer.drain()


def socket_path(data: Path, name: str) -> Path:
    """Return where socket `name` of data directory `data` lies: in it, or in the runtime directory if its path is too long."""
    path = data / name
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / f"l2proxy-{digest}" / name
    return Path(tempfile.gettempdir()) / f"l2proxy-{os.getuid()}-{digest}" / name


class SocketListener:
    """One unix socket. `most_bytes`: `[limits] body`."""

    def __init__(
        self,
        door: Door,
        path: Path,
        *,
        origin: Origin = SOCKET,
        connections: Connections | None = None,
        most_bytes: int = 2 * 1024 * 1024,
    ) -> None:
        self._door = door
        self.path = path
        self._origin = origin
        self._connections = Connections() if connections is None else connections
        self._most_bytes = most_bytes
        self._closing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._file: tuple[int, int] | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raise `OSError` in one sentence when another program does, or the directory is open to others."""
        listening = _bound(self.path)
        status = self.path.lstat()
        self._file = (status.st_dev, status.st_ino)
        self._server = await asyncio.start_unix_server(self._accept, sock=listening, limit=PIECE)

    async def close(self, grace: float = 10.0) -> None:
        """Take nothing new, finish what is in flight for at most `grace` seconds, remove the file."""
        if self._server is not None:
            self._server.close()
        self._closing.set()
        if self._conversations:
            _, late = await asyncio.wait(self._conversations, timeout=grace)
            for conversation in late:
                conversation.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            status = self.path.lstat()
            if (status.st_dev, status.st_ino) == self._file:  # not another daemon's by now
                self.path.unlink()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.current_task()
        if conversation is not None:
            self._conversations.add(conversation)
            conversation.add_done_callback(self._conversations.discard)
        if not _is_same_user(writer):
            writer.close()
            return
        try:
            counted = self._connections.open()
        except LimitExceeded as error:
            await _refuse(writer, error)
            return
        try:
            counted.belongs_to(self._origin)
            await self._converse(reader, writer)
        except LimitExceeded as error:
            await _refuse(writer, error)
        except asyncio.CancelledError:
            if not self._closing.is_set():
                raise
            writer.transport.abort()  # `close` waited long enough; asyncio's streams would report it as an error
        finally:
            counted.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        on_slow = functools.partial(self._connections.count_cut_off, "ipc")
        outbox = Outbox(SocketWire(writer), on_slow=on_slow, shelf=self._door.shelf())
        attendance = Attendance()
        context = Context(self._origin, "ipc", outbox, attendance)
        conversation = Conversation(self._door, context, outbox)
        try:
            await conversation.run(self._messages(reader, outbox), self._closing, lambda: _has_hung_up(writer))
        except SlowReader:
            writer.transport.abort()
        except ConnectionError:
            logger.debug("a program on %s went away", self.path.name)
        finally:
            attendance.leave()
            writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _messages(self, reader: asyncio.StreamReader, outbox: Outbox) -> AsyncIterator[bytes]:
        splitter = ValueSplitter(self._most_bytes)
        while piece := await reader.read(PIECE):
            try:
                for value in splitter.feed(piece):
                    yield value
            except RpcError as error:  # the stream is out of step: answer once and end it
                await outbox.put(envelope.failure(envelope.NULL, error))
                return


async def _refuse(writer: asyncio.StreamWriter, error: RpcError) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(envelope.failure(envelope.NULL, error) + b"\n")
        writer.close()
        await writer.wait_closed()


def _is_same_user(writer: asyncio.StreamWriter) -> bool:
    peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", peer)
    return bool(uid == os.getuid())


def _has_hung_up(writer: asyncio.StreamWriter) -> bool:
    """Tell whether the other side is closed in both directions; after `shutdown(SHUT_WR)` it still reads."""
    if writer.transport.is_closing():
        return True
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


def _bound(path: Path) -> socket.socket:
    _make_private(path.parent)
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        listening.bind(os.fspath(path))
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"the socket {path} cannot be made: {error.strerror}") from error
    finally:
        os.umask(before)
    listening.listen(128)
    return listening


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise OSError(f"{folder} is not a directory of yours; sockets are made nowhere else")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise OSError(f"{folder} is open to other users; a socket is made only in a directory of mode 0700 (chmod 700)")


def _remove_stale(path: Path) -> None:
    """Remove a socket file nobody listens on. Raise `OSError` when somebody does, or it is no socket."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(f"{path} is in the way: it is not a socket; move it elsewhere")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise OSError(f"another daemon listens on {path}")
