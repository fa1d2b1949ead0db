"""The hub's door: one WebSocket per user, requests `{id, method, params}`, answers, and pushed credits.

Stands between the network and the book. A connection is nobody until it shows the channel's session secret or signs a
challenge with the channel's state key. It must never act for a channel other than the one it was shown for, and never
answer with more than a sentence when something of ours fails.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from aiohttp import WSMsgType, web

from .book import Book, Outcome, Refused
from .digests import Domain, recover
from .layer1 import NodeError
from .ledger import Ledger, Voucher
from .watch import Watch

log = logging.getLogger("paychan.hub")
MAX_MESSAGE = 64 * 1024
MAX_CONNECTIONS = 10_000
FUND_WAIT = 15.0  # seconds a payer waits for collateral to be mined
IN_FLIGHT = 32  # requests of one connection at a time
Handler = Callable[["Connection", dict[str, Any]], Awaitable[Any]]
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_AMOUNT = re.compile(r"[0-9]{1,39}", re.ASCII)  # below 2^128


class Connection:
    """One user's WebSocket."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.challenge = secrets.token_bytes(32)
        self.owner: str | None = None
        self.channel: str | None = None  # set once it has shown whose it is

    async def send(self, message: dict[str, Any]) -> None:
        """Send one message; a connection that has gone is no error."""
        try:
            await self.socket.send_str(json.dumps(message, separators=(",", ":")))
        except (ConnectionError, RuntimeError):
            log.debug("a message to a closed connection was dropped")


class Server:
    """Everything a user can ask of the hub."""

    def __init__(self, book: Book, ledger: Ledger, watch: Watch, domain: Domain, facts: dict[str, Any]) -> None:
        self._book = book
        self._ledger = ledger
        self._watch = watch
        self._domain = domain
        self._facts = facts
        self._collateral = int(facts["collateral"])
        self._online: dict[str, Connection] = {}
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._methods: dict[str, Handler] = {
            "hello": self._hello,
            "login": self._login,
            "sync": self._sync,
            "route": self._route,
            "pay": self._pay,
            "credited": self._credited,
            "withdraw": self._withdraw,
            "finish": self._finish,
            "close": self._close,
        }

    async def accept(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one WebSocket until it closes."""
        if len(self._connections) >= MAX_CONNECTIONS:
            raise web.HTTPServiceUnavailable(text="the hub has too many connections; try again later")
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=30)
        await socket.prepare(request)
        connection = Connection(socket)
        self._connections.add(connection)
        serving: set[asyncio.Task[None]] = set()
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                if len(serving) >= IN_FLIGHT:
                    await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._serve(connection, message.data))
                serving.add(task)
                task.add_done_callback(serving.discard)
        finally:
            self._connections.discard(connection)
            self._forget(connection)
            await asyncio.gather(*serving, return_exceptions=True)
        return socket

    def channel_changed(self, channel: str) -> None:
        """L1 moved a channel: tell its user."""
        seen = self._book.view(channel)
        for connection in self._connections:
            if connection.owner == seen.owner.lower():
                self._push(connection, "channel", {"channel": channel, "status": seen.status})

    async def close(self) -> None:
        """Say goodbye to everyone."""
        for connection in list(self._connections):
            await connection.socket.close(code=1001, message=b"the hub stops")
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, connection: Connection, text: str) -> None:
        number: Any = None
        try:
            number, handler, params = self._read(text)
            answer = {"id": number, "result": await handler(connection, params)}
        except Refused as refused:
            answer = {"id": number, "error": {"code": refused.code, "message": str(refused)}}
        except NodeError:
            answer = {
                "id": number,
                "error": {"code": "layer1", "message": "the hub cannot reach its L1 node; try again"},
            }
        except Exception:
            log.exception("a request failed")
            answer = {"id": number, "error": {"code": "internal", "message": "the hub failed; its log has the cause"}}
        await connection.send(answer)

    def _read(self, text: str) -> tuple[Any, Handler, dict[str, Any]]:
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            raise Refused("request", "a message is one JSON object") from None
        if not isinstance(request, dict) or not isinstance(request.get("params"), dict):
            raise Refused("request", "a message is a JSON object with params by name")
        handler = self._methods.get(str(request.get("method")))
        if handler is None:
            raise Refused("request", "the hub has no such method")
        return request.get("id"), handler, request["params"]

    async def _hello(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        self._forget(connection)  # it may greet anew, after its channel was closed and another opened
        connection.owner = _address(params, "owner")
        channel = await self._channel_now(connection.owner)
        session = params.get("session")
        if channel is not None and isinstance(session, str):
            known = self._ledger.side(channel).session or ""
            if hmac.compare_digest(known, sha256(session.encode()).hexdigest()):
                self._welcome(connection, channel)
        answer: dict[str, Any] = {name: self._facts[name] for name in ("chainId", "gateway", "hub", "challengeWindow")}
        answer |= {"challenge": "0x" + connection.challenge.hex(), "channel": channel}
        answer["sync"] = self._book.sync(connection.channel) if connection.channel else None
        return answer

    async def _login(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        if connection.owner is None:
            raise Refused("request", "say hello first")
        channel = await self._channel_now(connection.owner)
        if channel is None:
            raise Refused("unknown", "the hub sees no confirmed channel of this owner yet")
        digest = self._domain.login(connection.owner, connection.challenge)
        connection.challenge = secrets.token_bytes(32)
        if recover(digest, _data(params, "signature", 65)) != self._book.view(channel).signer:
            raise Refused("signature", "the channel's key did not sign the challenge")
        session = secrets.token_hex(32)
        with self._ledger.transaction():
            self._ledger.change(self._ledger.side(channel), session=sha256(session.encode()).hexdigest())
        self._welcome(connection, channel)
        return {"session": session, "sync": self._book.sync(channel)}

    async def _sync(self, connection: Connection, _params: dict[str, Any]) -> dict[str, Any]:
        return self._book.sync(_channel(connection))

    async def _route(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        channel, to, value = _channel(connection), _address(params, "to"), _amount(params, "value")
        try:
            payee = self._book.payee(channel, to, value)
        except Refused as refused:
            if refused.code not in ("balance", "payee"):
                raise
            await self._watch.scan()  # perhaps its deposit was confirmed a moment ago
            payee = self._book.payee(channel, to, value)
        try:
            self._book.keep_route(channel, payee, value)
        except Refused:
            await self._add_collateral(payee, value)
            self._book.payee(channel, to, value)
            self._book.keep_route(channel, payee, value)
        return {}

    async def _pay(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        channel, to, value = _channel(connection), _address(params, "to"), _amount(params, "value")
        nonce, order = params.get("nonce"), "0x" + _data(params, "order", 32).hex()
        if type(nonce) is not int or not 0 < nonce < 2**63:
            raise Refused("nonce", "a nonce is a positive integer")
        signature = "0x" + _data(params, "signature", 65).hex()
        outcome: Outcome = self._book.pay(
            channel, Voucher(nonce, _amount(params, "amount"), order, signature), to, value
        )
        if outcome.credited is not None and outcome.credited in self._online:
            credit = self._book.newest_credit(outcome.credited)
            if credit is not None:
                self._push(self._online[outcome.credited], "credit", credit)
        return outcome.answer

    async def _credited(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        nonce = params.get("nonce")
        if type(nonce) is not int or nonce < 0:
            raise Refused("nonce", "a nonce is an integer")
        channel = _channel(connection)
        self._book.confirm(channel, nonce)
        return {}

    async def _withdraw(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        await self._watch.scan()
        return self._book.withdraw(_channel(connection), _amount(params, "total"))

    async def _finish(self, connection: Connection, _params: dict[str, Any]) -> dict[str, Any]:
        return self._book.finish(_channel(connection))

    async def _close(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        signature = "0x" + _data(params, "signature", 65).hex()
        return self._book.close(_channel(connection), _amount(params, "sent"), _amount(params, "received"), signature)

    async def _add_collateral(self, payee: str, value: int) -> None:
        missing = value - self._book.room(payee)
        wanted = max(missing, self._collateral)
        if not await self._watch.fund(payee, wanted, FUND_WAIT):
            raise Refused("collateral", "the hub is adding collateral for this payee; try again in a minute")

    async def _channel_now(self, owner: str) -> str | None:
        channel = self._book.channel_of(owner)
        if channel is None:
            await self._watch.scan()
            channel = self._book.channel_of(owner)
        return channel

    def _welcome(self, connection: Connection, channel: str) -> None:
        before = self._online.get(channel)
        if before is not None and before is not connection:
            before.channel = None
            self._later(before.socket.close(code=4001, message=b"another connection of this channel"))
        connection.channel = channel
        self._online[channel] = connection

    def _forget(self, connection: Connection) -> None:
        if connection.channel is not None and self._online.get(connection.channel) is connection:
            del self._online[connection.channel]
        connection.channel = None

    def _push(self, connection: Connection, method: str, params: dict[str, Any]) -> None:
        self._later(connection.send({"method": method, "params": params}))

    def _later(self, work: Awaitable[Any]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _channel(connection: Connection) -> str:
    if connection.channel is None:
        raise Refused("login", "sign in first: `hello` with the session, or `login`")
    return connection.channel


def _address(params: dict[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise Refused("request", f"{name} must be an address")
    return value.lower()


def _amount(params: dict[str, Any], name: str) -> int:
    value = params.get(name)
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value) or int(value) >= 2**128:
        raise Refused("request", f"{name} must be an amount of wei as a decimal string")
    return int(value)


def _data(params: dict[str, Any], name: str, size: int) -> bytes:
    value = params.get(name)
    if not isinstance(value, str) or not re.fullmatch(f"0x[0-9a-fA-F]{{{2 * size}}}", value, re.ASCII):
        raise Refused("request", f"{name} must be {size} bytes of 0x data")
    return bytes.fromhex(value[2:])
