// What a dapp developer does on the first day, by ethers 6, viem 2 and web3.js 4, through the doors named on the command line.
// argv: http URL, ws URL, socket path, Probe.json, chain id, a funded private key for each. Prints what each saw as one JSON object.
import { readFileSync } from "node:fs";
import * as ethers from "ethers";
import * as viem from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { Web3 } from "web3";
import { IpcProvider } from "web3-providers-ipc";

const [http, ws, ipc, probeFile, chainId, ...keys] = process.argv.slice(2);
const { abi, bytecode } = JSON.parse(readFileSync(probeFile, "utf8"));
const nobody = "0x" + "00".repeat(32);

// No provider tells when its subscription stands: do it again until it was heard of.
async function until(heard, again) {
  let done = false;
  heard.then(() => { done = true; });
  await new Promise((resolve) => setTimeout(resolve));
  while (!done) await again();
}

function ethersProvider(way) {
  const options = { cacheTimeout: -1, pollingInterval: 20 };
  if (way === "http") return new ethers.JsonRpcProvider(http, undefined, options);
  if (way === "ws") return new ethers.WebSocketProvider(ws, undefined, options);
  return new ethers.IpcSocketProvider(ipc, undefined, options);
}

async function withEthers(way, key) {
  const provider = ethersProvider(way);
  const wallet = new ethers.NonceManager(new ethers.Wallet(key, provider));
  const contract = await new ethers.ContractFactory(abi, bytecode, wallet).deploy({ value: 3n });
  await contract.waitForDeployment();
  const address = await contract.getAddress();
  const heard = new Promise((resolve) => contract.once("Stored", (by, value, note) => resolve(note)));
  const block = new Promise((resolve) => provider.once("block", resolve));
  const receipt = await (await contract.store(11n, "ethers", { value: 5n })).wait();
  let reason, custom;
  try { await contract.failReason(); } catch (error) { reason = error.reason; }
  try { await contract.failCustom(); } catch (error) { custom = error.revert.name; }
  const [network, number, balance, logs, missing, latest] = await Promise.all([ // one batch
    provider.getNetwork(), contract.number(), provider.getBalance(address), contract.queryFilter("Stored", receipt.blockNumber, receipt.blockNumber),
    provider.getTransaction(nobody), provider.getBlock("latest", true),
  ]);
  await until(Promise.all([heard, block]), async () => (await contract.store(11n, "ethers")).wait());
  const answer = {
    network: String(network.chainId), number: String(number), balance: String(balance), status: receipt.status, reason, custom, missing,
    logs: logs.map((log) => log.args.note), heard: await heard, block: (await block) > 0,
    latest: latest.prefetchedTransactions.length > 0, unserved: await provider.send("eth_sign", []).catch((error) => (error.error ?? error.info?.error)?.code ?? error.code),
  };
  await provider.destroy();
  return answer;
}

async function withViem(way, key) {
  const transport = way === "ws" ? viem.webSocket(ws) : viem.http(http, { batch: true });
  const native = { name: "Ether", symbol: "ETH", decimals: 18 };
  const chain = viem.defineChain({ id: Number(chainId), name: "dev", nativeCurrency: native, rpcUrls: { default: { http: [http] } } });
  const reader = viem.createPublicClient({ chain, transport, pollingInterval: 20 });
  const account = privateKeyToAccount(key);
  const wallet = viem.createWalletClient({ account, chain, transport });
  const mined = (hash) => reader.waitForTransactionReceipt({ hash });
  const address = (await mined(await wallet.deployContract({ abi, bytecode }))).contractAddress;
  const unwatch = [];
  const heard = new Promise((resolve) => unwatch.push(reader.watchContractEvent({ address, abi, eventName: "Stored", onLogs: (logs) => resolve(logs[0].args.note) })));
  const block = new Promise((resolve, reject) => unwatch.push(reader.watchBlocks({ onBlock: resolve, onError: reject })));
  const filter = await reader.createContractEventFilter({ address, abi, eventName: "Stored", fromBlock: 0n });
  const blocks = await reader.createBlockFilter();
  const { request } = await reader.simulateContract({ address, abi, functionName: "store", args: [12n, "viem"], account, value: 1n });
  const receipt = await mined(await wallet.writeContract(request));
  const reverted = async (functionName) => {
    try { await reader.readContract({ address, abi, functionName }); } catch (error) {
      const cause = error.walk((one) => one instanceof viem.ContractFunctionRevertedError);
      return cause.reason ?? cause.data.errorName;
    }
  };
  const changes = await reader.getFilterChanges({ filter });
  const [network, number, balance, again, made] = await Promise.all([ // one batch over HTTP
    reader.getChainId(), reader.readContract({ address, abi, functionName: "number" }), reader.getBalance({ address }),
    reader.getFilterChanges({ filter }), reader.getFilterChanges({ filter: blocks }),
  ]);
  const all = (await reader.getFilterLogs({ filter })).length;
  await until(Promise.all([heard, block]), async () => mined(await wallet.writeContract(request)));
  const answer = {
    network: String(network), number: String(number), balance: String(balance), status: receipt.status,
    reason: await reverted("failReason"), custom: await reverted("failCustom"), changes: changes.map((log) => log.args.note),
    again: again.length, made: made.includes(receipt.blockHash), all,
    gone: [await reader.uninstallFilter({ filter }), await reader.uninstallFilter({ filter })],
    heard: await heard, block: (await block).number > 0n,
    missing: await reader.getTransaction({ hash: nobody }).catch((error) => error.name),
    unserved: await reader.request({ method: "eth_sign", params: [] }).catch((error) => error.walk((one) => typeof one.code === "number").code),
  };
  unwatch.forEach((stop) => stop());
  return answer;
}

async function withWeb3(way, key) {
  const web3 = new Web3(way === "http" ? http : way === "ws" ? ws : new IpcProvider(ipc));
  web3.eth.transactionPollingInterval = 20;
  const account = web3.eth.accounts.wallet.add(key)[0];
  const contract = await new web3.eth.Contract(abi).deploy({ data: bytecode }).send({ from: account.address });
  contract.setProvider(web3.currentProvider);
  let heard, block;
  if (way === "ws") { // over IPC web3.js drops what follows a notification in the same piece of the stream, on a node as well
    const blocks = await web3.eth.subscribe("newHeads");
    block = new Promise((resolve) => blocks.once("data", resolve));
    const logs = await web3.eth.subscribe("logs", { address: contract.options.address });
    heard = new Promise((resolve) => logs.once("data", (log) => resolve(log.topics.length)));
  }
  const receipt = await contract.methods.store(13, "web3").send({ from: account.address, value: "7" });
  let reason;
  try { await contract.methods.failReason().call(); } catch (error) { reason = error.cause?.message ?? error.message; }
  const batch = new web3.BatchRequest();
  const both = [batch.add({ method: "eth_chainId", params: [] }), batch.add({ method: "eth_getBalance", params: [contract.options.address, "latest"] })];
  await batch.execute();
  const [network, balance] = await Promise.all(both);
  const events = await contract.getPastEvents("Stored", { fromBlock: receipt.blockNumber });
  const answer = {
    network, balance, number: String(await contract.methods.number().call()), status: String(receipt.status), reason,
    logs: events.map((event) => event.returnValues.note), heard: await heard, block: block && (await block).number > 0n,
    unserved: await web3.provider.request({ method: "eth_sign", params: [] , id: 1, jsonrpc: "2.0" }).then((a) => a.error?.code, (error) => error.code ?? error.error?.code ?? error.cause?.code),
  };
  if (way !== "http") web3.provider.disconnect();
  return answer;
}

const jobs = { ethers: withEthers, viem: withViem, web3: withWeb3 };
const runs = [
  ["ethers", "http"], ["ethers", "ws"], ["ethers", "ipc"], ["viem", "http"], ["viem", "ws"], ["web3", "http"], ["web3", "ws"], ["web3", "ipc"],
];
const seen = await Promise.all(runs.map(async ([library, way], index) => {
  const answer = await jobs[library](way, keys[index]).catch((error) => error.stack);
  return [`${library}-${way}`, answer];
}));
console.log(JSON.stringify(Object.fromEntries(seen)));
process.exit(0);
