"""The JavaScript testing twin by its own tests, run as an author runs them: `l2proxy plugin test`, with a node by its URL; and the
same plugin in the daemon's own host, which must answer what the twin answers (project/expected.json).
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from middleware.errors import RpcError
from proxy.cli.plugin import plugin
from tests.host.neighbours import Home, new_keyring

PROJECT = Path(__file__).parent / "project"


class _Node(BaseHTTPRequestHandler):
    """Knows its chain and nothing else."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        known = (
            {"result": "0x7a69"} if asked["method"] == "eth_chainId" else {"error": {"code": -32601, "message": "no"}}
        )
        body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], **known}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def node() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Node) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_the_twin_by_its_own_tests(node: str, capfd: pytest.CaptureFixture[str]) -> None:
    ended = CliRunner().invoke(plugin, ["test", str(PROJECT), "--l1", node])
    said = capfd.readouterr()
    assert ended.exit_code == 0, said.out + said.err + ended.output
    assert "9 passed" in said.out


@pytest.mark.parametrize("url", ["ftp://host/", "http:///path", "http://host:none/"])
def test_a_node_that_is_none(url: str) -> None:
    ended = CliRunner().invoke(plugin, ["test", str(PROJECT), "--l1", url])
    assert (ended.exit_code, "--l1" in ended.output) == (2, True)


async def test_the_daemon_answers_what_the_twin_does(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    shutil.copytree(PROJECT, folder)
    manifest = folder / "plugin.toml"
    head, _, rest = manifest.read_text().partition("[hub]")
    manifest.write_text(head + rest[rest.index("[[action]]") :])  # no hub and no chain stand behind this host
    home = Home(tmp_path / "data", new_keyring(tmp_path))
    await home.open().start()
    try:
        await home.add(folder)
        for row in json.loads((PROJECT / "expected.json").read_text()):
            params = {"what": row["what"], "amounts": row.get("amounts", [])}
            if "code" not in row:
                result = await home.invoke("sample", "run", params)
                assert (json.loads(result["heard"]), result["sum"]) == (row["answer"], row.get("sum", "0x0")), row
                continue
            with pytest.raises(RpcError) as refused:
                await home.invoke("sample", "run", params)
            error = refused.value.to_json()
            assert row["code"] in ((error.get("data") or {}).get("code", error["code"]), None), (row, error)
    finally:
        await home.close()
