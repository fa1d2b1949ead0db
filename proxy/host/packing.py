"""A plugin's folder as one archive, the same bytes on every machine: what `l2proxy plugin pack` writes.

Only the plugin's own files go in, never what its lock names nor its tests. Names are sorted; times, owners and modes are fixed; so
two people who pack the same files get the same digest. What an owner could not install again is not packed.
"""

from __future__ import annotations

import gzip
import io
import tarfile

from proxy.host.archives import unpack
from proxy.host.manifest import Manifest
from proxy.host.package import SKIPPED, File

LEFT_OUT = SKIPPED | {"tests", "dist"}  # beside the plugin in an author's folder


def pack(manifest: Manifest, files: list[File]) -> bytes:
    """Return the .tar.gz of `files`, below one folder named after id and version.

    Raises ManifestError for files that a folder may hold and an archive may not, such as two names that differ by case.
    """
    top = f"{manifest.id}-{manifest.version}"
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(files, key=lambda file: file.name):
            row = tarfile.TarInfo(f"{top}/{file.name}")
            row.size, row.mode = len(file.data), 0o644
            archive.addfile(row, io.BytesIO(file.data))
    packed = gzip.compress(whole.getvalue(), 9, mtime=0)
    unpack(packed, f"{top}.tar.gz")
    return packed
