// Providers that live longer than the daemon: each is used, the daemon is started again on the same port, each is used again.
// argv: http URL, ws URL. Prints {"before": {…}}, waits for a line on stdin, prints {"after": {…}}: a balance of each provider,
// and of which of them heard of a block.
import { once } from "node:events";
import { createInterface } from "node:readline";
import * as ethers from "ethers";
import * as viem from "viem";
import { Web3 } from "web3";
import { WebSocketProvider } from "web3-providers-ws";

const [http, ws] = process.argv.slice(2);
const address = "0x00000000000000000000000000000000000000ab";
const viemOptions = { retryCount: 20, retryDelay: 100 };

const ethersHttp = new ethers.JsonRpcProvider(http, undefined, { cacheTimeout: -1, pollingInterval: 50 });
const viemHttp = viem.createPublicClient({ transport: viem.http(http, viemOptions), pollingInterval: 50 });
// viem finds out at its next sign of life that connecting again was refused: by default half a minute later.
const viemWs = viem.createPublicClient({ transport: viem.webSocket(ws, { ...viemOptions, reconnect: { attempts: 10_000, delay: 100 }, keepAlive: { interval: 1000 } }) });
const web3Http = new Web3(http);
const web3Provider = new WebSocketProvider(ws, {}, { autoReconnect: true, delay: 100, maxAttempts: 10_000 });
web3Provider.on("error", () => {}); // a refused connection while the daemon is away
const web3Ws = new Web3(web3Provider);

// A WebSocket that was lost is connected again by the library in its own time: ask until it answers.
async function patiently(ask) {
  for (let left = 1000; ; left -= 1) {
    try {
      return await Promise.race([ask(), new Promise((_, fail) => setTimeout(() => fail(new Error("no answer")), 1000))]);
    } catch (error) {
      if (!left) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function balances() {
  const asked = {
    "ethers-http": () => ethersHttp.getBalance(address),
    "viem-http": () => viemHttp.getBalance({ address }),
    "viem-ws": () => viemWs.getBalance({ address }),
    "web3-http": () => web3Http.eth.getBalance(address),
    "web3-ws": () => web3Ws.eth.getBalance(address),
  };
  const answered = await Promise.all(Object.entries(asked).map(async ([name, ask]) => [name, String(await patiently(ask))]));
  return Object.fromEntries(answered);
}

const heard = { "ethers-http": 0, "viem-http": 0, "viem-ws": 0, "web3-ws": 0 };
ethersHttp.on("block", () => { heard["ethers-http"] += 1; });
viemHttp.watchBlockNumber({ onBlockNumber: () => { heard["viem-http"] += 1; }, onError() {} });
viemWs.watchBlockNumber({ onBlockNumber: () => { heard["viem-ws"] += 1; }, onError() {} });
async function subscribeWithWeb3() {
  const heads = await web3Ws.eth.subscribe("newHeads");
  heads.on("data", () => { heard["web3-ws"] += 1; });
  heads.on("error", () => {});
}
await subscribeWithWeb3();
web3Provider.on("connect", subscribeWithWeb3); // web3.js connects again by itself, and leaves subscribing again to the dapp

// The other side makes blocks for as long as we are not satisfied.
async function everybodyHears() {
  for (const name of Object.keys(heard)) heard[name] = 0;
  console.log(JSON.stringify({ listening: true }));
  while (Object.values(heard).includes(0)) await new Promise((resolve) => setTimeout(resolve, 20));
}

console.log(JSON.stringify({ balances: await balances() }));
await everybodyHears();
console.log(JSON.stringify({ heard: Object.keys(heard).sort() }));
await once(createInterface({ input: process.stdin }), "line");
console.log(JSON.stringify({ balances: await balances() }));
await everybodyHears();
console.log(JSON.stringify({ heard: Object.keys(heard).sort() }));
process.exit(0);
