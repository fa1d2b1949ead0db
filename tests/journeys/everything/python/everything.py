"""Uses every service of the host once, and keeps what it is told. Its twin is npm/everything.js; one test drives both."""

import json
from typing import TypedDict

from l2proxy_sdk import Plugin, action

TYPES = {"Note": [{"name": "text", "type": "string"}]}


class Answered(TypedDict):
    answer: str


class Everything(Plugin):
    async def start(self, info):
        self.told = {"operations": {}, "hub": [], "blocks": [], "logs": [], "timers": []}
        await self.layer1.watch("blocks", blocks=True)
        await self.layer1.watch("released", logs={"address": info.gateways["main"].address}, from_block=0)
        await self.ready()

    @action(approval="never")
    async def use(self, what: str, given: str) -> Answered:
        return {"answer": json.dumps(await getattr(self, f"use_{what}")(**json.loads(given)))}

    async def use_keys(self):
        account, derived = await self.keys.account(0), await self.keys.derive("1'/7'")
        domain = {
            "name": "Everything",
            "chainId": self.layer1_network_id,
            "verifyingContract": self.gateways["main"].address,
        }
        typed = {"domain": domain, "primaryType": "Note", "types": TYPES, "message": {"text": "hello"}}
        found = {"account": account.address, "derived": derived.address, "new": (await self.keys.account()).address}
        for who in (account, "owner"):
            name = "own" if who is account else "owner"
            by_message = await self.keys.sign(who, message="hello")
            by_type = await self.keys.sign(who, typed_data=typed)
            found[f"{name}Message"] = await self.keys.recover(by_message, message="hello")
            found[f"{name}Typed"] = await self.keys.recover(by_type, typed_data=typed)
        found["hash"] = await self.keys.hash(data=b"hello")
        found["abiHash"] = await self.keys.hash(abi=["uint256"], values=[2**70])
        return found

    async def use_store(self):
        await self.store.write({"a": "1", "b": bytes([1, 255]), "c": "3"})
        await self.store.write({"d": "4"}, ["a"])
        rows = await self.store.scan(start="a", end="d", reverse=True)
        return [[key, value if isinstance(value, str) else list(value)] for key, value in rows]

    async def use_state(self, origin):
        first = await self.state.update({"seen": 1, "gone": 2})
        second = await self.state.update(patch={"gone": None})
        return [second - first, await self.state.update({"mine": 3}, origin=origin) > second]

    async def use_layer1(self):
        return await self.layer1.request("eth_chainId")

    async def use_deposit(self):
        return (await self.gateway.deposit(function="open()", value=10**15)).id

    async def use_withdraw(self):
        return (await self.gateway.withdraw(function="take(uint256)", args=[5])).id

    async def use_plan(self):
        step = {"function": "take(uint256)", "args": [1]}
        return (await self.gateway.plan([step, {**step, "waitFor": {"blocks": 2}}])).id

    async def use_transfer(self):
        account = await self.keys.account(0)
        return (await self.gateway.transfer(account.address, 10**16)).id

    async def use_send(self):
        return (await self.gateway.send(function="answer(uint256)", args=[0])).id

    async def use_hub(self):
        await self.hub.send("ping")
        await self.hub.send(bytes([1, 255]))

    async def use_request(self):
        answer = await self.hub.request("POST", "/hub", headers={"X-Asked": "yes"}, body="ping")
        return [answer.status, answer.body.decode()]

    async def use_schedule(self, id, block):  # noqa: A002 - the wire's name
        await self.schedule(id, block=block, data={"for": id})
        await self.schedule("never", block=10**6)
        await self.schedule.cancel("never")

    async def use_log(self):
        self.log.warning("something\x1b[31m was said", number=7)

    async def use_told(self):
        return self.told

    async def on_operation(self, operation):
        self.told["operations"][operation.id] = operation.status

    async def on_hub_message(self, message):
        self.told["hub"].append(message if isinstance(message, str) else list(message))

    async def on_block(self, number, block_hash, timestamp):
        self.told["blocks"].append(number)

    async def on_logs(self, watch, logs, removed):
        self.told["logs"] += [[watch, int(log["blockNumber"], 16), removed] for log in logs]

    async def on_scheduled(self, id, data, missed):  # noqa: A002 - the wire's name
        self.told["timers"].append([id, data, missed])
