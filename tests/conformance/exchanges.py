"""The recorded exchanges of the execution API specification, and the ways a caller may write them down.

Data in execution-apis/ (CC0, with its licence): `<method>/<name>.io`, a line `>> request` and a line `<< response` each. The
responses are those of another node and another chain; only the requests are used (see execution-apis/README.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

RECORDED = Path(__file__).parent / "execution-apis"

IDS = [
    *("1", "0", "-1", "9007199254740993", "9223372036854775807", "18446744073709551615", "null", '"a"', '"x y/z-9"'),
    *('""', '"\\u0061"', '"quote \\" backslash \\\\"', '"é"', '"\\n"', "1.5", "1e2", "123456789012345678901234567890"),
    *("true", "false", "-0", "1e400", "-9223372036854775809", '"<>&\'="', '"\\/"', '"\\ud83d\\ude00"', '"\u2028"'),
]
"""Raw ids: numbers of every size, null, strings with and without escapes, and what JSON-RPC knows not and nodes may refuse."""


@dataclass(frozen=True)
class Exchange:
    """One recorded request."""

    name: str
    method: str
    params: str | None  # raw, as recorded
    raw: bytes

    @property
    def changes_state(self) -> bool:
        """Tell whether asking twice is not asking the same."""
        return self.method.startswith(("eth_send", "testing_"))

    def written(self, raw_id: str, style: int = 0) -> bytes:
        """Return the request with another id, in one of a few key orders and spacings."""
        members = [('"jsonrpc"', '"2.0"'), ('"id"', raw_id), ('"method"', json.dumps(self.method))]
        if self.params is not None:
            members.append(('"params"', self.params))
        match style % 4:
            case 1:
                members.reverse()
            case 2:
                return ("{ " + " ,\n\t".join(f"{name} : {value}" for name, value in members) + " }").encode()
            case 3:
                members = members[2:] + members[:2]
                return ("{" + ", ".join(f"{name}: {value}" for name, value in members) + "}").encode()
        return ("{" + ",".join(f"{name}:{value}" for name, value in members) + "}").encode()


def recorded() -> list[Exchange]:
    """Return every recorded exchange, in a fixed order."""
    found = []
    for file in sorted(RECORDED.glob("*/*.io")):
        for number, line in enumerate(line for line in file.read_text("utf-8").splitlines() if line.startswith(">> ")):
            text = line[3:].strip()
            request = json.loads(text)
            params = None
            if "params" in request:
                params = text[text.index('"params":') + len('"params":') : -1]
                assert json.loads(params) == request["params"], f"{file}: params are not the last member"
            found.append(Exchange(f"{file.parent.name}/{file.stem}#{number}", request["method"], params, text.encode()))
    return found
