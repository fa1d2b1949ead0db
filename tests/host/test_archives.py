"""Hostile archives: each is refused with its reason, and the same archive without what is wrong with it is taken."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.host import archives
from proxy.host.archives import unpack, without_top
from proxy.host.manifest import ManifestError, parse_manifest
from proxy.host.package import File
from proxy.host.packing import pack

ODD_NAMES = [
    ("../x.py", "leads out"),
    ("a/../../x.py", "leads out"),
    ("/etc/x.py", "leads out"),
    ("a\\..\\x.py", "leads out"),
    ("C:/x.py", "leads out"),
    ("a//x.py", "not a file name"),
    ("a/./x.py", "not a file name"),
    ("a./x.py", "not a file name"),
    ("a /x.py", "not a file name"),
    ("x\u0435.py", "not every system"),
    ("cafe\u0301.py", "not every system"),
    ("x\u202ey.py", "not every system"),
    ("x\n.py", "not every system"),
    ("x" * 600, "longer than"),
    ("x" * 200, "not a file name"),
    ("/".join("a" * 20), "folders deep"),
    ("x.pth", "starts on its own"),
    ("a/sitecustomize.py", "starts on its own"),
    ("usercustomize.py", "starts on its own"),
    ("a/__pycache__/x.pyc", "compiled"),
    ("x.so", "compiled"),
    ("x.PYD", "compiled"),
]


def zipped(*rows: tuple[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in rows:
            row = zipfile.ZipInfo(name)
            row.compress_type = zipfile.ZIP_DEFLATED
            change(row)
            archive.writestr(row, data)
    return whole.getvalue()


def tarred(*rows: tuple[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda _: None) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for name, data in rows:
            row = tarfile.TarInfo(name)
            row.size = len(data)
            change(row)
            archive.addfile(row, io.BytesIO(data) if row.isreg() else None)
    return whole.getvalue()


def headed(kind: bytes, count: int) -> bytes:
    """Return a tar.gz with `count` headers about the header behind them, and one file."""
    row = tarfile.TarInfo("x")
    row.type, row.size = kind, 4
    whole = (row.tobuf(tarfile.USTAR_FORMAT) + b"abc\0".ljust(512, b"\0")) * count
    return gzip.compress(whole + tarfile.TarInfo("x.py").tobuf() + bytes(1024))


FORMS = [("x.zip", zipped), ("x.tar.gz", tarred)]


@pytest.mark.parametrize(("end", "form"), FORMS)
def test_an_ordinary_archive_is_taken_whole_and_in_order(end: str, form: Callable[..., bytes]) -> None:
    files = unpack(form(("b/y.py", b"2"), ("a.py", b"1"), ("empty.txt", b"")), end)
    assert [(file.name, file.data) for file in files] == [("a.py", b"1"), ("b/y.py", b"2"), ("empty.txt", b"")]


@pytest.mark.parametrize(("end", "form"), FORMS)
@pytest.mark.parametrize(("name", "says"), ODD_NAMES, ids=[repr(name[:20]) for name, _ in ODD_NAMES])
def test_names(end: str, form: Callable[..., bytes], name: str, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        unpack(form(("a.txt", b""), (name, b"")), end)


@pytest.mark.parametrize(("end", "form"), FORMS)
@pytest.mark.parametrize(
    ("names", "says"),
    [(("x.py", "x.py"), "twice"), (("x.py", "X.py"), "some systems"), (("x", "x/y.py"), "a file and a folder")],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_names_for_one_file(end: str, form: Callable[..., bytes], names: tuple[str, str], says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        unpack(form(*((name, b"") for name in names)), end)


@pytest.mark.parametrize(("end", "form"), FORMS)
def test_bombs(end: str, form: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = form(("x.bin", bytes(8 * 1024 * 1024)))
    with pytest.raises(ManifestError, match="unpacks to too much"):
        unpack(bomb, end)
    noise = b"".join(i.to_bytes(4, "big") for i in range(60_000))
    monkeypatch.setattr(archives, "_SMALL", 1024)
    with pytest.raises(ManifestError, match="unpacks to too much"):
        unpack(form(("x.bin", noise)), end, most_bytes=100_000)
    with pytest.raises(ManifestError, match="more than 3 files"):
        unpack(form(*((f"{i}.py", b"") for i in range(4))), end, most=3)
    monkeypatch.setattr(archives, "MAX_ARCHIVE", 10)
    with pytest.raises(ManifestError, match="the limit is 10"):
        unpack(bomb, end)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE]
)
def test_links_and_devices_in_a_tar(kind: bytes) -> None:
    def change(row: tarfile.TarInfo) -> None:
        row.type, row.linkname, row.size = kind, "/etc/passwd", 0

    if kind == tarfile.CONTTYPE:  # counts as an ordinary file everywhere
        assert unpack(tarred(("x", b""), change=change), "x.tgz")[0].data == b""
        return
    with pytest.raises(ManifestError, match="link or a device"):
        unpack(tarred(("x", b""), change=change), "x.tgz")


def test_sparse_and_lying_tars() -> None:
    def sparse(row: tarfile.TarInfo) -> None:
        row.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.name": "x",
            "GNU.sparse.map": "0,1",
            "GNU.sparse.size": "9",
        }

    with pytest.raises(ManifestError, match="sparse"):
        unpack(tarred(("x.bin", b"1"), change=sparse), "x.tgz")
    whole = tarred(("x.py", b"pass"))
    for damaged, says in (
        (whole[:-12], "damaged"),
        (b"\x1f\x8b" + bytes(40), "damaged"),
        (b"not gzip at all", "damaged"),
        (whole + b"more", "behind the end"),
        (gzip.compress(gzip.decompress(whole) + b"hidden" * 200), "behind the end|damaged"),
        (gzip.compress(b"no tar" * 200), "damaged"),
        (b"", "damaged"),
    ):
        with pytest.raises(ManifestError, match=says):
            unpack(damaged, "x.tgz")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_headers_about_headers(kind: bytes) -> None:
    with pytest.raises(ManifestError, match="damaged"):
        unpack(headed(kind, 3000), "x.tgz")


def test_the_folder_a_tar_was_made_in_is_no_file_of_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.py").write_bytes(b"pass")
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        archive.add(tmp_path, ".")
    assert unpack(whole.getvalue(), "x.tgz") == [File("sub/x.py", b"pass")]


def packed(*files: File) -> list[File]:
    whole = pack(parse_manifest(b'id = "x1"\nname = "X"\nversion = "1"\nruntime = "python"\nentry = "x:X"'), [*files])
    return without_top(unpack(whole, "x1-1.tar.gz"))


def test_what_is_packed_can_be_unpacked() -> None:
    files = [File("a" * 120 + ".py", b"1"), File("/".join(["b" * 100] * 4), b"2")]
    assert packed(*files) == files
    for wrong in ([File("x.py", b""), File("X.py", b"")], [File("a./x", b"")], [File("x.bin", bytes(2**22))]):
        with pytest.raises(ManifestError):
            packed(*wrong)


@pytest.mark.parametrize("kind", [0o120000, 0o020000, 0o060000, 0o010000, 0o140000])
def test_links_and_devices_in_a_zip(kind: int) -> None:
    def change(row: zipfile.ZipInfo) -> None:
        row.external_attr = (kind | 0o777) << 16

    with pytest.raises(ManifestError, match="link or a device"):
        unpack(zipped(("x", b"/etc/passwd"), change=change), "x.zip")


def test_zips_that_are_read_differently_by_different_programs() -> None:
    whole = zipped(("x.py", b"pass"))
    encrypted = bytearray(whole)
    at = whole.index(b"PK\x01\x02")
    encrypted[at + 8] |= 1
    lying = bytearray(zipped(("x.bin", bytes(range(256)) * 100)))
    at = lying.index(b"PK\x01\x02")
    lying[at + 24 : at + 28] = (5).to_bytes(4, "little")  # its size, as it says
    hidden = bytearray(zipped(("x.pyZ.py", b"")))
    for at in (hidden.index(b"x.pyZ.py"), hidden.rindex(b"x.pyZ.py")):
        hidden[at + 4] = 0
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.py", b"pass")
    for data, says in (
        (bytes(encrypted), "encrypted"),
        (bytes(lying), "damaged|too much"),
        (bytes(hidden), "NUL"),
        (packed.getvalue(), "neither stored nor deflated"),
        (whole + b"comment", "does not end"),
        (b"#!/bin/sh\n" + whole, "before or inside"),
        (whole[:-22] + whole[-22:-6] + (9).to_bytes(4, "little") + b"\0\0", "before or inside"),
        (whole[:-1], "does not end"),
        (b"", "does not end"),
    ):
        with pytest.raises(ManifestError, match=says):
            unpack(data, "x.zip")
