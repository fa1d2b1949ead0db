"""The two package indexes, asked for exact versions only, and every byte compared with a digest (security.md 22).

One named index each, from the config (`[plugins] pypi`, `npm`); an answer is never trusted for more than where the bytes lie.
PyPI's simple pages in JSON or HTML (PEP 503, 691); npm's package documents. Nothing fetched is run, and no proxy, credential
or index of the machine's environment is used.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

from middleware.errors import shorten
from middleware.nesting import deeper_than
from proxy.host.archives import MAX_ARCHIVE
from proxy.host.bundling.program import Program
from proxy.host.locks import Pinned, normal_name
from proxy.host.manifest import ManifestError
from proxy.host.prepared import Prepared

if TYPE_CHECKING:
    import aiohttp  # imported where something is fetched: it takes long, and most commands fetch nothing

PYPI, NPM = "https://pypi.org", "https://registry.npmjs.org"
MAX_PAGE = 32 * 1024 * 1024
SECONDS = 60.0  # for one answer
AT_ONCE = 4

_SIMPLE = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"


class Indexes:
    """Fetches by exact version and digest from one PyPI and one npm index.

    `cache`: a folder for the bundler of npm plugins, so that it is fetched once.
    """

    def __init__(self, pypi: str = PYPI, npm: str = NPM, cache: Path | None = None) -> None:
        self._pypi, self._npm = pypi.rstrip("/"), npm.rstrip("/")
        self.bundler = Program(self, cache)
        self.prepared = Prepared()

    async def wheel(self, wanted: Pinned) -> tuple[str, bytes]:
        """Return file name and bytes of the pure wheel; without digests the index's own word is taken. Raises ManifestError."""
        async with _session() as session:
            return await self._wheel(session, wanted)

    async def tarball(self, wanted: Pinned) -> bytes:
        """Return the bytes of an npm tarball; without digests the index's own integrity is taken. Raises ManifestError."""
        async with _session() as session:
            return await self._tarball(session, wanted)

    async def wheels(self, wanted: list[Pinned]) -> list[tuple[str, bytes]]:
        """Return them in this order, a few at a time."""
        async with _session() as session:
            return await _each(wanted, lambda row: self._wheel(session, row))

    async def tarballs(self, wanted: list[Pinned]) -> list[bytes]:
        """Return them in this order, a few at a time."""
        async with _session() as session:
            return await _each(wanted, lambda row: self._tarball(session, row))

    async def _wheel(self, session: aiohttp.ClientSession, wanted: Pinned) -> tuple[str, bytes]:
        name, what = normal_name(wanted.name), f"{wanted.name}=={wanted.version}"
        place, kind, page = await _get(session, f"{self._pypi}/simple/{quote(name)}/", MAX_PAGE, what, _SIMPLE)
        links = _json_links(page, what) if kind.endswith("json") else _html_links(page)
        mine = [(urljoin(place, url), sha256) for url, sha256 in links if _is_of(_file(url), name, wanted.version)]
        if not mine:
            raise ManifestError(f"the index has no wheel of {what}")
        pure = [
            row
            for row in mine
            if _file(row[0]).endswith("-none-any.whl") and _file(row[0]).split("-")[-3].startswith("py")
        ]
        if not pure:
            native = ", ".join(sorted(_file(url) for url, _ in mine)[:5])
            raise ManifestError(f"{what} has native wheels only, which no plugin may bring: {shorten(native, 200)}")
        fitting = [row for row in pure if row[1] in wanted.digests] if wanted.digests else pure[:1]
        if not fitting:
            fitting = [row for row in pure if not row[1]][:1]
        if not fitting:
            raise ManifestError(f"{what}: no pure wheel of the index has the sha256 that is asked for")
        url, sha256 = fitting[0]
        allowed = wanted.digests or frozenset({sha256} - {""})
        data = (await _get(session, url, MAX_ARCHIVE, what))[2]
        found = hashlib.sha256(data).hexdigest()
        if found not in allowed:
            raise ManifestError(
                f"{what}: the file that came has sha256 {found}, which is not the one that is asked for"
            )
        return _file(url), data

    async def _tarball(self, session: aiohttp.ClientSession, wanted: Pinned) -> bytes:
        what = f"{wanted.name}@{wanted.version}"
        digests, url = (
            wanted.digests,
            f"{self._npm}/{wanted.name}/-/{wanted.name.rpartition('/')[2]}-{wanted.version}.tgz",
        )
        if not digests or not wanted.place:
            page = (
                await _get(session, f"{self._npm}/{quote(wanted.name, safe='@/')}/{wanted.version}", MAX_PAGE, what)
            )[2]
            row = _read_json(page, what)
            place = row.get("dist") if isinstance(row, dict) else None
            if not isinstance(place, dict) or not isinstance(place.get("tarball"), str):
                raise ManifestError(f"the index has no tarball of {what}")
            url, digests = place["tarball"], digests or frozenset({str(place.get("integrity"))})
        data = (await _get(session, url, MAX_ARCHIVE, what))[2]
        sha512 = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        sha256 = hashlib.sha256(data).hexdigest()
        if not digests & {sha512, sha256}:
            found = sha512 if any(digest.startswith("sha512-") for digest in digests) else f"sha256 {sha256}"
            raise ManifestError(f"{what}: the tarball that came has {found}, which is not the one that is asked for")
        return data


def _session() -> aiohttp.ClientSession:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=SECONDS)
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, timeout=timeout)


async def _each(wanted: list[Pinned], fetch: Any) -> list[Any]:
    few = asyncio.Semaphore(AT_ONCE)

    async def one(row: Pinned) -> Any:
        async with few:
            return await fetch(row)

    tasks = [asyncio.ensure_future(one(row)) for row in wanted]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _get(
    session: aiohttp.ClientSession, url: str, most: int, what: str, accept: str = "*/*"
) -> tuple[str, str, bytes]:
    """Return where it came from in the end, its content type and its bytes."""
    import aiohttp

    if urlsplit(url).scheme not in ("http", "https"):
        raise ManifestError(f"{what}: the index names no http address for it")
    try:
        async with session.get(url, headers={"Accept": accept}, max_redirects=4) as answer:
            if url.startswith("https:") and answer.url.scheme != "https":
                raise ManifestError(f"{what}: the index leads away from https")
            if answer.status == 404:
                raise ManifestError(f"the index has no {what}")
            if answer.status != 200:
                raise ManifestError(f"{what}: the index answered with status {answer.status}")
            data = bytearray()
            async for part in answer.content.iter_chunked(65536):
                data += part
                if len(data) > most:
                    raise ManifestError(f"{what}: the index sends more than {most} bytes")
            return str(answer.url), answer.content_type, bytes(data)
    except TimeoutError:
        raise ManifestError(f"{what}: the index did not answer within {SECONDS:g} s") from None
    except (aiohttp.ClientError, ValueError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError(f"{what}: the index cannot be reached ({type(error).__name__})") from None


def _read_json(page: bytes, what: str) -> Any:
    try:
        return None if deeper_than(32, page) else json.loads(page)
    except ValueError:
        raise ManifestError(f"{what}: the index answered something that is no JSON") from None


def _json_links(page: bytes, what: str) -> list[tuple[str, str]]:
    whole = _read_json(page, what)
    rows = whole.get("files") if isinstance(whole, dict) else None
    if not isinstance(rows, list):
        raise ManifestError(f"{what}: the index answered no list of files")
    found = []
    for row in rows:
        hashes = row.get("hashes") if isinstance(row, dict) else None
        if isinstance(hashes, dict) and isinstance(row.get("url"), str):
            found.append((row["url"], str(hashes.get("sha256", "")).lower()))
    return found


def _html_links(page: bytes) -> list[tuple[str, str]]:
    links = _Links()
    links.feed(page.decode("utf-8", "replace"))
    return [(urldefrag(url)[0], urldefrag(url)[1].removeprefix("sha256=").lower()) for url in links.found]


class _Links(HTMLParser):
    """Collects the links of a simple page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep where an anchor leads."""
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _file(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _is_of(file: str, name: str, version: str) -> bool:
    parts = file.split("-")
    return file.endswith(".whl") and len(parts) in (5, 6) and normal_name(parts[0]) == name and parts[1] == version
