"""What an attempt finds around it: a folder of its own, a neighbour process with a secret, listening sockets.

Made by the runner, which is not jailed, before each attempt is let loose; an attempt gets numbers and names alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import tempfile
from dataclasses import dataclass, field
from typing import Any

from proxy.host.sandbox import identity

SECRET = b"the neighbour's private key"


@dataclass
class Scene:
    """`folder` holds `secret` (0600) and `link`; `victim` is another process of the same user.

    `tcp6` is 0 where the machine has no IPv6. `prepared`: what the attempt made for itself before the lock.
    """

    folder: str
    victim: int
    secret_at: int
    tcp4: int
    tcp6: int
    udp: int
    stream_path: str
    datagram_path: str
    library: str
    abstract: str
    answer: int = -1
    prepared: Any = None

    def path(self, name: str) -> str:
        """Return a path in the folder."""
        return os.path.join(self.folder, name)


@dataclass
class Stage:
    """Everything of one user's attempts, taken down again by `close`."""

    user: int
    library: str
    home: str = field(init=False)
    sockets: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen, and start the neighbour."""
        self.home = tempfile.mkdtemp(prefix="escapes-", dir="/tmp")
        os.chmod(self.home, 0o777)  # noqa: S103 - every user has attempts in it
        self.library = shutil.copy(self.library, os.path.join(self.home, "library.so"))
        self._buffer = ctypes.create_string_buffer(SECRET)
        self.victim = self._start_victim()
        self._tcp4 = self._listen(socket.AF_INET, ("127.0.0.1", 0))
        self._tcp6: socket.socket | None = None
        with contextlib.suppress(OSError):  # a container may have no IPv6
            self._tcp6 = self._listen(socket.AF_INET6, ("::1", 0))
        self._udp = self._bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._stream = self._listen(socket.AF_UNIX, os.path.join(self.home, "stream"))
        self._datagram = self._bound(socket.AF_UNIX, socket.SOCK_DGRAM, os.path.join(self.home, "datagram"))
        self._abstract = self._listen(socket.AF_UNIX, f"\0escapes-{os.getpid()}-{self.user}")
        for name in ("stream", "datagram"):
            os.chmod(os.path.join(self.home, name), 0o777)  # noqa: S103

    def scene(self, number: int) -> Scene:
        """Lay out a fresh folder and return what the attempt may know."""
        folder = os.path.join(self.home, str(number))
        os.mkdir(folder)
        with open(os.path.join(folder, "secret"), "wb") as file:
            file.write(SECRET)
        os.chmod(os.path.join(folder, "secret"), 0o600)
        os.symlink("secret", os.path.join(folder, "link"))
        for name in ("", "secret"):
            os.chown(os.path.join(folder, name), self.user, self.user if os.geteuid() == 0 else -1)
        return Scene(
            folder,
            self.victim,
            ctypes.addressof(self._buffer),
            _port(self._tcp4),
            0 if self._tcp6 is None else _port(self._tcp6),
            _port(self._udp),
            str(self._stream.getsockname()),
            str(self._datagram.getsockname()),
            self.library,
            self._abstract.getsockname().decode(),
        )

    def close(self) -> None:
        """Take everything down."""
        os.kill(self.victim, signal.SIGKILL)
        os.waitpid(self.victim, 0)
        for made in self.sockets:
            made.close()
        shutil.rmtree(self.home)

    def _start_victim(self) -> int:
        reading, writing = os.pipe()
        victim = os.fork()
        if victim == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            become(self.user)
            os.write(writing, b"x")
            while True:
                signal.pause()
        os.close(writing)
        assert os.read(reading, 1) == b"x"  # before that a signal would end it, and it would be somebody else's
        os.close(reading)
        return victim

    def _bound(self, family: int, kind: int, address: Any) -> socket.socket:
        made = socket.socket(family, kind)
        made.bind(address)
        self.sockets.append(made)
        return made

    def _listen(self, family: int, address: Any) -> socket.socket:
        made = self._bound(family, socket.SOCK_STREAM, address)
        made.listen(1024)
        return made


def users() -> tuple[int, ...]:
    """Return as whom the attempts are made: an ordinary user, and root where the tests are."""
    if os.geteuid() != 0:
        return (os.geteuid(),)
    return (0,) if identity.is_alone() else (0, identity.NOBODY)


def is_almighty() -> bool:
    """Return whether root here is the machine's own, with every capability; in a container it seldom is."""
    with (
        open("/proc/self/status") as rows,
        open("/proc/sys/kernel/cap_last_cap") as last,
        open("/proc/self/uid_map") as ids,
    ):
        held = next(int(row.split()[1], 16) for row in rows if row.startswith("CapEff"))
        return held == (2 << int(last.read())) - 1 and ids.read().split() == ["0", "0", str((1 << 32) - 1)]


def become(user: int) -> None:
    """Turn root into `user`, as if the daemon had been started by it; who is nobody else stays who he is."""
    if os.geteuid() == 0 and user != 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        ctypes.CDLL(None).prctl(4, ctypes.c_ulong(1), *[ctypes.c_ulong(0)] * 3)  # dumpable again, as after an exec


def _port(made: socket.socket) -> int:
    return int(made.getsockname()[1])
