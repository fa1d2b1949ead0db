"""A node behind https:// or wss://: served where its certificate is trusted and names it, and nowhere else."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from middleware.errors import Disconnected
from proxy.upstream.l1 import L1
from tests.upstream.fake_node import FakeNode


def certificate(folder: Path) -> Path:
    """Write a key and a certificate for localhost into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "node.pem"
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path


async def serve(node: FakeNode, request: web.BaseRequest) -> web.StreamResponse:
    """Answer over HTTP or as a WebSocket, as the request asks."""
    if "Upgrade" not in request.headers:
        return web.Response(body=await node.respond(await request.read()), content_type="application/json")
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str((await node.respond(message.data.encode()) or b"").decode())
    return socket


@pytest.mark.parametrize("scheme", ["https", "wss"])
async def test_a_certificate_decides(scheme: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem, node = certificate(short_tmp), FakeNode()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    runner = web.ServerRunner(web.Server(lambda request: serve(node, request)), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()  # by name, ::1 would have a port of its own
    url = f"{scheme}://localhost:{runner.addresses[0][1]}/key"
    try:
        with pytest.raises(Disconnected, match="its TLS certificate is not trusted"):
            await L1.probe([url])
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        l1 = L1([url])
        assert await asyncio.gather(*(l1.call("eth_getBalance") for _ in range(5))) == ["0x1"] * 5
        await l1.close()
        with pytest.raises(Disconnected, match="its TLS certificate is not trusted"):
            await L1.probe([url.replace("localhost", "127.0.0.1")])
        with pytest.raises(Disconnected, match="closed the connection"):
            await L1.probe([url.replace("wss", "ws").replace("https", "http")])
    finally:
        await runner.cleanup()
