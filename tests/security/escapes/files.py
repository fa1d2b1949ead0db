"""Attempts on files: to read, to find, to change, to make; and to get at them by ways that are no plain open."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from tests.security.escapes.calls import raw, room
from tests.security.escapes.catalogue import KILLED, NOT_BUILT, ROOT, SWITCHED_OFF, attempt
from tests.security.escapes.scene import SECRET, Scene

_HERE = -100  # AT_FDCWD
_EMPTY_PATH = 0x1000


def _contents(path: str) -> bytes:
    opened = os.open(path, os.O_RDONLY)
    return os.read(opened, 1 << 16)


@attempt("read /etc/passwd")
def _(scene: Scene) -> None:
    assert b"root" in _contents("/etc/passwd")


@attempt("read a secret of mode 0600")
def _(scene: Scene) -> None:
    assert _contents(scene.path("secret")) == SECRET


@attempt("read through a link")
def _(scene: Scene) -> None:
    assert _contents(scene.path("link")) == SECRET


@attempt("read through /proc/self/root")
def _(scene: Scene) -> None:
    assert _contents("/proc/self/root" + scene.path("secret")) == SECRET


@attempt("open as io does")
def _(scene: Scene) -> None:
    with open(scene.path("secret"), "rb") as file:
        assert file.read() == SECRET


@attempt("list a folder")
def _(scene: Scene) -> None:
    assert "secret" in os.listdir(scene.folder)


@attempt("stat")
def _(scene: Scene) -> None:
    assert os.stat(scene.path("secret")).st_size == len(SECRET)


@attempt("stat of an open descriptor by a path beside it")
def _(scene: Scene) -> None:
    raw("newfstatat", _HERE, scene.path("secret").encode(), room(256), _EMPTY_PATH)


@attempt("statx", lacking=(errno.ENOSYS,))
def _(scene: Scene) -> None:
    raw("statx", _HERE, scene.path("secret").encode(), 0, 0x7FF, room(512))


@attempt("access")
def _(scene: Scene) -> None:
    raw("faccessat2", _HERE, scene.path("secret").encode(), os.R_OK, 0)


@attempt("readlink")
def _(scene: Scene) -> None:
    assert os.readlink(scene.path("link")) == "secret"


@attempt("openat2")
def _(scene: Scene) -> None:
    how = struct.pack("=QQQ", os.O_RDONLY, 0, 0)
    assert os.read(raw("openat2", _HERE, scene.path("secret").encode(), how, len(how)), 99) == SECRET


@attempt("name_to_handle_at", expected=KILLED, lacking=(errno.EOPNOTSUPP,))
def _(scene: Scene) -> None:
    raw("name_to_handle_at", _HERE, scene.path("secret").encode(), _handle(), room(8), 0)


@attempt("open_by_handle_at", expected=KILLED, who=ROOT, lacking=(errno.EOPNOTSUPP, errno.ESTALE))
def _(scene: Scene) -> None:
    handle = _handle()
    raw("name_to_handle_at", _HERE, scene.path("secret").encode(), handle, room(8), 0)
    folder = os.open(scene.folder, os.O_RDONLY)
    assert os.read(raw("open_by_handle_at", folder, handle, os.O_RDONLY), 99) == SECRET


def _handle() -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 136)


@attempt("create a file")
def _(scene: Scene) -> None:
    opened = os.open(scene.path("new"), os.O_CREAT | os.O_WRONLY, 0o600)
    assert os.write(opened, b"x") == 1


@attempt("append to a file")
def _(scene: Scene) -> None:
    assert os.write(os.open(scene.path("secret"), os.O_APPEND | os.O_WRONLY), b"x") == 1


@attempt("create a file without a name", lacking=(errno.EOPNOTSUPP,))
def _(scene: Scene) -> None:
    os.write(os.open(scene.folder, os.O_TMPFILE | os.O_WRONLY, 0o600), b"x")


@attempt("truncate")
def _(scene: Scene) -> None:
    os.truncate(scene.path("secret"), 0)


@attempt("unlink")
def _(scene: Scene) -> None:
    os.unlink(scene.path("secret"))


@attempt("rename")
def _(scene: Scene) -> None:
    os.rename(scene.path("secret"), scene.path("taken"))


@attempt("chmod")
def _(scene: Scene) -> None:
    os.chmod(scene.path("secret"), 0o640)


@attempt("chown")
def _(scene: Scene) -> None:
    os.chown(scene.path("secret"), os.getuid(), -1)


@attempt("set times")
def _(scene: Scene) -> None:
    os.utime(scene.path("secret"), (1, 1))


@attempt("set an extended attribute", lacking=(errno.EOPNOTSUPP,))
def _(scene: Scene) -> None:
    os.setxattr(scene.path("secret"), "user.x", b"x")


@attempt("hard link", lacking=SWITCHED_OFF)
def _(scene: Scene) -> None:
    os.link(scene.path("secret"), scene.path("taken"))


@attempt("symbolic link")
def _(scene: Scene) -> None:
    os.symlink("/etc", scene.path("etc"))


@attempt("make a folder")
def _(scene: Scene) -> None:
    os.mkdir(scene.path("folder"))


@attempt("make a pipe with a name")
def _(scene: Scene) -> None:
    os.mkfifo(scene.path("pipe"))


@attempt("change the working directory")
def _(scene: Scene) -> None:
    os.chdir(scene.folder)


@attempt("put something into /dev/shm", lacking=(errno.ENOENT, errno.EACCES))
def _(scene: Scene) -> None:
    path = f"/dev/shm/escape-{os.getpid()}"
    os.write(os.open(path, os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o600), b"x")
    os.unlink(path)


@attempt("open a terminal", lacking=(errno.ENOENT, errno.EACCES, errno.EPERM))
def _(scene: Scene) -> None:
    os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)


@attempt("read the kernel's log", who=ROOT, lacking=(*NOT_BUILT, errno.EPERM))
def _(scene: Scene) -> None:
    os.open("/dev/kmsg", os.O_RDONLY)


@attempt("open the machine's memory", who=ROOT, lacking=(*NOT_BUILT, errno.EPERM, errno.EACCES))
def _(scene: Scene) -> None:
    os.open("/dev/mem", os.O_RDONLY)


@attempt("a file in memory")
def _(scene: Scene) -> None:
    raw("memfd_create", b"x", 0)


@attempt("watch a folder")
def _(scene: Scene) -> None:
    raw("inotify_init1", 0)


@attempt("lock the machine's files", who=ROOT, expected=KILLED, lacking=NOT_BUILT)
def _(scene: Scene) -> None:
    raw("fanotify_init", 0, 0)


def _with_a_descriptor_on_its_way(scene: Scene) -> socket.socket:
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [os.open(scene.path("secret"), os.O_RDONLY)])
    return theirs


@attempt("bring in a descriptor over a socket it held", prepare=_with_a_descriptor_on_its_way)
def _(scene: Scene) -> None:
    _, received, _, _ = socket.recv_fds(scene.prepared, 16, 1)
    assert os.pread(received[0], 99, 0) == SECRET
