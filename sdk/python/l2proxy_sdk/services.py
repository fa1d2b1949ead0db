"""The host services as objects: `store`, `keys`, `gateway`, `layer1`, `hub`, `state`, `schedule`, `log`.

Each method is one host call of plugin.md ("Host services"); these classes only name things and convert values. What the
proxy refuses arrives as HostError: 4001 the owner said no, 4100 outside the grant, -32602 malformed, -32005 a quota.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import NotReady
from .frames import MAX_NESTING, named
from .host import Host
from .records import Account, Operation
from .values import loose, quantity

LOGGED = 4096  # characters of a message, as many as the log keeps

Blob = str | bytes
TypedData = Mapping[str, Any]


class Store:
    """The plugin's own ordered store. Keys and values are str or bytes; what `write` answered is on disk."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def get(self, key: Blob) -> Blob | None:
        """Return the value of `key`, None where there is none."""
        return (await self.get_many([key]))[0]

    async def get_many(self, keys: Sequence[Blob]) -> list[Blob | None]:
        """Return the values of `keys` in their order, None where there is none."""
        answer = await self._host.call("load", keys=[_to_wire(key) for key in keys])
        return [None if value is None else _from_wire(value) for _, value in answer["items"]]

    async def put(self, key: Blob, value: Blob) -> None:
        """Write one value."""
        await self.write({key: value})

    async def delete(self, *keys: Blob) -> None:
        """Delete keys; one that is not there is no error."""
        await self.write({}, keys)

    async def write(self, put: Mapping[Any, Blob], delete: Iterable[Blob] = ()) -> None:
        """Write and delete in one atomic, synced batch."""
        wire: Any = {key: _to_wire(value) for key, value in put.items()}
        if any(not isinstance(key, str) for key in put):  # a member's name cannot be bytes: pairs can
            wire = [[_to_wire(key), value] for key, value in wire.items()]
        await self._host.call("persist", put=wire, delete=[_to_wire(key) for key in delete])

    async def scan(
        self,
        prefix: Blob | None = None,
        *,
        start: Blob | None = None,
        end: Blob | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[tuple[Blob, Blob]]:
        """Return the items below `prefix`, or from `start` to before `end`, in key order."""
        bounds = {"prefix": prefix, "start": start, "end": end}
        params: dict[str, Any] = {name: _to_wire(bound) for name, bound in bounds.items() if bound is not None}
        if prefix is None and start is None and end is None:
            params["prefix"] = ""
        if limit is not None:
            params["limit"] = limit
        if reverse:
            params["reverse"] = True
        answer = await self._host.call_with("load", params)
        return [(_from_wire(key), _from_wire(value)) for key, value in answer["items"]]


class Keys:
    """Keys below the plugin's path, and the owner's where the owner agrees."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def account(self, index: int | None = None) -> Account:
        """Return the account PATH/index'; without an index a new one."""
        return Account.from_wire(await self._host.call("getAccount", index=index))

    async def derive(self, path: str) -> Account:
        """Return the key at a path relative to the plugin's own, as "0'/7'"."""
        row = await self._host.call("derive", path=path)
        return Account.from_wire({"path": path, **row})

    async def sign(
        self, account: Account | str, *, typed_data: TypedData | None = None, message: str | None = None
    ) -> str:
        """Sign EIP-712 typed data or an EIP-191 message; return the 65-byte signature as 0x data.

        `account` is an own Account or its path, or "owner": then the owner is asked and this waits. Raises NotReady for own
        keys before `ready()`.
        """
        path = account.path if isinstance(account, Account) else account
        if path != "owner" and not self._host.is_ready:
            raise NotReady("own keys sign after `await self.ready()`: learn the newest state from hub and L1 first")
        answer = await self._host.call("sign", account=path, typedData=typed_data, message=message)
        return str(answer["signature"])

    async def recover(
        self,
        signature: str,
        *,
        typed_data: TypedData | None = None,
        message: str | None = None,
        digest: str | None = None,
    ) -> str:
        """Return the address that signed. Signatures with a high s are refused with a HostError."""
        item = {"typedData": typed_data, "message": message, "digest": digest, "signature": signature}
        return str((await self._host.call("recover", **item))["address"])

    async def recover_many(self, items: Sequence[Mapping[str, Any]]) -> list[str]:
        """Recover up to 64 at once; items as the parameters of `recover` in wire names."""
        answer = await self._host.call("recover", items=[dict(item) for item in items])
        return [str(row["address"]) for row in answer["items"]]

    async def hash(
        self,
        *,
        typed_data: TypedData | None = None,
        data: bytes | None = None,
        abi: Sequence[str] | None = None,
        values: Sequence[Any] | None = None,
    ) -> str:
        """Return a keccak-256 digest as 0x data: of typed data, of bytes, or of ABI-encoded values."""
        answer = await self._host.call(
            "hash",
            typedData=typed_data,
            data=None if data is None else "0x" + data.hex(),
            abi=None if abi is None else list(abi),
            values=None if values is None else loose(list(values)),
        )
        return str(answer["digest"])


class GatewayService:
    """Money between the main account and the plugin's contract. Values are wei.

    Each call answers with an `Operation` that has an id and no status yet; what becomes of it comes to `on_operation`. The
    owner approves every use, but `send`, which spends the plugin's own gas.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    async def deposit(
        self,
        *,
        function: str | None = None,
        args: Sequence[Any] = (),
        value: int,
        gateway: str | None = None,
        token: str | None = None,
    ) -> Operation:
        """Pay `value` into the gateway by one of the manifest's deposit functions."""
        params = {"gateway": gateway, "function": function, "token": token}
        return await self._operation("deposit", args=loose(list(args)), value=hex(value), **params)

    async def withdraw(
        self,
        *,
        function: str | None = None,
        args: Sequence[Any] = (),
        value: int | None = None,
        gateway: str | None = None,
    ) -> Operation:
        """Call one of the manifest's withdraw functions from the main account."""
        wei = None if value is None else hex(value)
        params = {"gateway": gateway, "function": function, "value": wei}
        return await self._operation("withdraw", args=loose(list(args)), **params)

    async def plan(self, steps: Sequence[Mapping[str, Any]]) -> Operation:
        """Several calls with waits between them, approved as one.

        A step is `{function, args, gateway?, value?, waitFor?}`, `waitFor` one of `{"blocks": N}`, `{"time": unix seconds}`,
        `{"event": {"name", "args"?, "gateway"?}}`. With `args` None the owner is asked again once they are known: from the
        event, where it has one of each name, else from `supply`.
        """
        return await self._operation("plan", steps=[loose(dict(step)) for step in steps])

    async def supply(self, operation: str | Operation, args: Sequence[Any] | Mapping[str, Any]) -> Operation:
        """Say the arguments of the first step of a plan that has none yet; the owner is asked when its turn comes."""
        known = operation.id if isinstance(operation, Operation) else operation
        given = dict(args) if isinstance(args, Mapping) else list(args)
        return Operation.from_wire(await self._host.call_with("plan", {"operation": known, "args": loose(given)}))

    async def send(self, *, function: str, args: Sequence[Any] = (), gateway: str | None = None) -> Operation:
        """Call the gateway from the plugin's own key, account(0), with its own gas: a dispute answer needs no owner.

        Raises HostError -32000 where that account cannot pay the gas. While the wallet is locked only `dispute` functions.
        """
        return await self._operation("send", gateway=gateway, function=function, args=loose(list(args)))

    async def transfer(self, to: str, value: int, token: str | None = None) -> Operation:
        """Pay from the main account to any address; needs the `transfer` permission."""
        return await self._operation("transfer", to=to, value=hex(value), token=token)

    async def _operation(self, method: str, **params: Any) -> Operation:
        return Operation.from_wire(await self._host.call(method, **params))


class Layer1:
    """The L1 node, as far as the manifest's `layer1` list was granted."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Return the node's result as it came."""
        return await self._host.call("layer1.request", method=method, params=list(params))

    async def watch(
        self,
        name: str,
        *,
        blocks: bool = False,
        logs: Mapping[str, Any] | None = None,
        confirmations: int | None = None,
        from_block: int | None = None,
    ) -> None:
        """Have blocks or logs (`{address, topics}`) delivered, without gaps from `from_block` on, also after a stop."""
        params: dict[str, Any] = {"name": name, "blocks": True if blocks else None, "confirmations": confirmations}
        params["logs"] = None if logs is None else dict(logs)
        params["from"] = None if from_block is None else hex(from_block)
        await self._host.call("layer1.watch", **params)

    async def unwatch(self, name: str) -> None:
        """End a watch."""
        await self._host.call("layer1.unwatch", name=name)


@dataclass(frozen=True)
class HubResponse:
    """An HTTP hub's answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Hub:
    """The one connection to the plugin's operator; the proxy holds it and reconnects."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def send(self, message: Blob) -> None:
        """Send one WebSocket message. Raises HostError while the hub is away."""
        await self._host.call_with("hub.send", _message(message))

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: Blob | None = None
    ) -> HubResponse:
        """Ask an HTTP hub."""
        wire = None if body is None else _to_wire(body)
        row = await self._host.call("hub.request", method=method, path=path, headers=headers or {}, body=wire)
        raw = base64.b64decode(row["base64"]) if "base64" in row else str(row.get("body", "")).encode()
        return HubResponse(int(row["status"]), dict(row.get("headers") or {}), raw)


class State:
    """What sites see of the plugin."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.published: dict[str, Any] = {}
        self.is_whole = False  # `published` is all of it: what an earlier life published is known to the proxy alone

    async def update(
        self,
        state: Mapping[str, Any] | None = None,
        *,
        patch: Mapping[str, Any] | None = None,
        origin: str | None = None,
    ) -> int:
        """Publish a whole state or an RFC 7396 patch; with `origin` for that site alone. Return the revision."""
        whole: dict[str, Any] | None = None if state is None else plain(state)
        change: dict[str, Any] | None = None if patch is None else plain(patch)
        row = await self._host.call("updateLayer2State", state=whole, patch=change, origin=origin)
        if origin is None:
            self.published = whole if whole is not None else merge_patch(self.published, change or {})
            self.is_whole = self.is_whole or whole is not None
        return quantity(row.get("revision", 0), "revision")


class Schedule:
    """Durable timers: late with `missed=True` rather than never."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def __call__(self, id: str, *, block: int | None = None, time: int | None = None, data: Any = None) -> None:  # noqa: A002 - the wire's name
        """Have `on_scheduled` called at a block number or a unix time; the same id replaces."""
        params: dict[str, Any] = {"id": id, "data": data}
        if block is not None:
            params["block"] = hex(block)
        if time is not None:
            params["time"] = time
        await self._host.call_with("schedule", params)

    async def cancel(self, id: str) -> None:  # noqa: A002 - the wire's name
        """Forget a timer."""
        await self._host.call("schedule", id=id, cancel=True)


class Log:
    """Lines for `l2proxy plugin logs`. `fields` are JSON values; never put a secret there."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def debug(self, message: str, **fields: Any) -> None:
        """Write a debug line."""
        self._write("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Write an info line."""
        self._write("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Write a warning."""
        self._write("warning", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Write an error."""
        self._write("error", message, fields)

    def _write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        text = str(message)[:LOGGED].encode("utf-8", "backslashreplace").decode()
        try:
            self._host.tell("log", {"level": level, "message": text, "fields": dict(fields)})
        except ValueError as error:  # a line of a log that cannot be written is no reason to fail
            self._host.tell("log", {"level": level, "message": f"{text} (its fields cannot be shown: {error})"})


def plain(value: Any, depth: int = 0) -> Any:
    """Return a copy of a JSON value as sites will see it: every name a text. Raises ValueError for one name twice, or depth."""
    if depth > MAX_NESTING:
        raise ValueError(f"a value nested deeper than {MAX_NESTING}")
    if isinstance(value, Mapping):
        return {name: plain(item, depth + 1) for name, item in named(value).items()}
    return [plain(item, depth + 1) for item in value] if isinstance(value, list | tuple) else value


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` with an RFC 7396 merge patch applied."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _message(blob: Blob) -> dict[str, Any]:
    return {"text": blob} if isinstance(blob, str) else {"base64": base64.b64encode(blob).decode()}


def _to_wire(blob: Blob) -> Any:
    return blob if isinstance(blob, str) else {"base64": base64.b64encode(blob).decode()}


def _from_wire(blob: Any) -> Blob:
    return base64.b64decode(blob["base64"]) if isinstance(blob, dict) else str(blob)
