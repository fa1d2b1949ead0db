"""Attempts on the network and on sockets of every family, by new ones and by those a plugin holds already."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
import struct

from tests.security.escapes.calls import raw, room
from tests.security.escapes.catalogue import NOT_BUILT, ROOT, SWITCHED_OFF, attempt
from tests.security.escapes.scene import Scene

_NO_MODULE = (*NOT_BUILT, *SWITCHED_OFF, errno.EINVAL, errno.ESOCKTNOSUPPORT)


@attempt("connect by TCP over IPv4")
def _(scene: Scene) -> None:
    socket.create_connection(("127.0.0.1", scene.tcp4), 5)


@attempt("connect by TCP over IPv6", lacking=(errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH))
def _(scene: Scene) -> None:
    made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    made.connect(("::1", scene.tcp6))


@attempt("listen")
def _(scene: Scene) -> None:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen()


@attempt("accept at a socket it held", prepare=lambda scene: _listening())
def _(scene: Scene) -> None:
    scene.prepared.setblocking(False)
    try:
        scene.prepared.accept()
    except BlockingIOError:
        return  # nobody called; but it may answer


@attempt("connect a socket it held", prepare=lambda scene: socket.socket())
def _(scene: Scene) -> None:
    scene.prepared.connect(("127.0.0.1", scene.tcp4))


@attempt("send by UDP")
def _(scene: Scene) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", scene.udp))


@attempt("send by a UDP socket it held", prepare=lambda scene: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
def _(scene: Scene) -> None:
    scene.prepared.sendto(b"x", ("127.0.0.1", scene.udp))


@attempt("ask the name service", expected="gaierror")
def _(scene: Scene) -> None:
    socket.getaddrinfo("localhost", 80)


@attempt("connect to a socket with a path")
def _(scene: Scene) -> None:
    socket.socket(socket.AF_UNIX).connect(scene.stream_path)


@attempt("connect to an abstract socket")
def _(scene: Scene) -> None:
    socket.socket(socket.AF_UNIX).connect(scene.abstract)


@attempt("send to a path by a datagram pair it held", prepare=lambda scene: socket.socketpair(type=socket.SOCK_DGRAM))
def _(scene: Scene) -> None:
    scene.prepared[0].sendto(b"x", scene.datagram_path)


@attempt("make a pair of sockets")
def _(scene: Scene) -> None:
    socket.socketpair()


@attempt("hand a descriptor over a socket it held", prepare=lambda scene: socket.socketpair())
def _(scene: Scene) -> None:
    rights = array.array("i", [0])
    scene.prepared[0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


@attempt("read another's name from a socket it held", prepare=lambda scene: socket.socketpair())
def _(scene: Scene) -> None:
    scene.prepared[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)


@attempt("netlink")
def _(scene: Scene) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


@attempt("packet socket", who=ROOT, lacking=_NO_MODULE)
def _(scene: Scene) -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)


@attempt("raw socket", who=ROOT, lacking=_NO_MODULE)
def _(scene: Scene) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


@attempt("virtual machine socket", lacking=_NO_MODULE)
def _(scene: Scene) -> None:
    socket.socket(40, socket.SOCK_STREAM)


@attempt("kernel crypto socket", lacking=_NO_MODULE)
def _(scene: Scene) -> None:
    socket.socket(38, socket.SOCK_SEQPACKET)


@attempt("multipath TCP", lacking=_NO_MODULE)
def _(scene: Scene) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)


@attempt("CAN bus", lacking=_NO_MODULE)
def _(scene: Scene) -> None:
    socket.socket(29, socket.SOCK_RAW, 1)


@attempt("Bluetooth", lacking=_NO_MODULE)
def _(scene: Scene) -> None:
    socket.socket(31, socket.SOCK_RAW, 1)


@attempt("move bytes between pipes without reading them", prepare=lambda scene: (os.pipe(), os.pipe()))
def _(scene: Scene) -> None:
    (reading, writing), (_, target) = scene.prepared
    os.write(writing, b"x")
    raw("splice", reading, 0, target, 0, 1, 0)


@attempt("vmsplice", prepare=lambda scene: os.pipe())
def _(scene: Scene) -> None:
    page = room(1)
    raw("vmsplice", scene.prepared[1], struct.pack("=QQ", ctypes.addressof(page), 1), 1, 0)


def _listening() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen()
    return made
