// The ordinary jobs of a dapp, done by ethers 6, viem 2 and web3.js 4 on the node at argv[2]; prints what each saw as JSON.
// argv[3]: the node_modules to load from; argv[4]: Probe.json; argv[5]: a funded private key.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [url, modules, probeFile, key] = process.argv.slice(2);
const require = createRequire(modules + "/");
const { abi, bytecode } = JSON.parse(readFileSync(probeFile, "utf8"));

async function withEthers() {
  const { ethers } = require("ethers");
  const provider = new ethers.JsonRpcProvider(url, undefined, { cacheTimeout: -1, pollingInterval: 20 });
  const wallet = new ethers.Wallet(key, provider);
  const contract = await new ethers.ContractFactory(abi, bytecode, wallet).deploy({ value: 3n });
  await contract.waitForDeployment();
  const receipt = await (await contract.store(11n, "ethers", { value: 5n })).wait();
  const logs = await contract.queryFilter("Stored", 0);
  let reason, custom, poor;
  try { await contract.failReason(); } catch (error) { reason = error.reason; }
  try { await contract.failCustom(); } catch (error) { custom = error.revert.name + error.revert.args.join(); }
  const nobody = new ethers.Wallet("0x" + "17".repeat(32), provider);
  const stranger = { to: wallet.address, value: 1n, gasLimit: 21000n };
  try { await nobody.sendTransaction(stranger); } catch (error) { poor = error.code; }
  const legacy = await (await wallet.sendTransaction({ to: nobody.address, value: 1n, type: 0 })).wait();
  const block = await provider.getBlock("latest", true);
  const fees = await provider.getFeeData();
  const seen = await new Promise((resolve, reject) => {
    provider.once("block", (number) => resolve(number));
    wallet.sendTransaction({ to: nobody.address, value: 1n }).catch(reject);
  });
  const answer = {
    network: (await provider.getNetwork()).chainId.toString(), number: (await contract.number()).toString(),
    status: receipt.status, logs: logs.map((log) => log.args.note), reason, custom, poor, legacy: legacy.type,
    prefetched: block.prefetchedTransactions[0].hash === legacy.hash, fees: fees.maxPriorityFeePerGas.toString(),
    seen: seen > block.number, code: (await provider.getCode(await contract.getAddress())).length > 2,
    storage: await provider.getStorage(await contract.getAddress(), 0), missing: await provider.getTransaction("0x" + "00".repeat(32)),
  };
  provider.destroy();
  return answer;
}

async function withViem() {
  const { createPublicClient, createWalletClient, defineChain, http, BaseError, ContractFunctionRevertedError } = require("viem");
  const { privateKeyToAccount } = require("viem/accounts");
  const nativeCurrency = { name: "Ether", symbol: "ETH", decimals: 18 };
  const chain = defineChain({ id: 1337, name: "dev", nativeCurrency, rpcUrls: { default: { http: [url] } } });
  const reader = createPublicClient({ chain, transport: http(url, { batch: true }), pollingInterval: 20 });
  const account = privateKeyToAccount(key);
  const wallet = createWalletClient({ account, chain, transport: http(url) });
  const mined = async (hash) => reader.waitForTransactionReceipt({ hash });
  const address = (await mined(await wallet.deployContract({ abi, bytecode }))).contractAddress;
  const { request } = await reader.simulateContract({ address, abi, functionName: "store", args: [12n, "viem"], account, value: 1n });
  const receipt = await mined(await wallet.writeContract(request));
  const reverted = async (functionName) => {
    try { await reader.readContract({ address, abi, functionName }); } catch (error) {
      const cause = error.walk((one) => one instanceof ContractFunctionRevertedError);
      return cause.data ? cause.data.errorName + ":" + cause.data.args.join() : cause.reason;
    }
  };
  let low, poor;
  try { await wallet.sendTransaction({ to: address, nonce: 0, gas: 21000n }); } catch (error) { low = error.walk((one) => one.name !== "TransactionExecutionError").name; }
  const nobody = createWalletClient({ account: privateKeyToAccount("0x" + "17".repeat(31) + "18"), chain, transport: http(url) });
  try { await nobody.sendTransaction({ to: address, value: 10n ** 24n, gas: 21000n }); } catch (error) { poor = error.walk((one) => one.name !== "TransactionExecutionError").name; }
  const events = await reader.getContractEvents({ address, abi, eventName: "Stored", fromBlock: 0n });
  const block = await reader.getBlock({ includeTransactions: true });
  const history = await reader.getFeeHistory({ blockCount: 2, rewardPercentiles: [25, 75] });
  const [number, balance, chainId] = await Promise.all([
    reader.readContract({ address, abi, functionName: "number" }), reader.getBalance({ address }), reader.getChainId(),
  ]);
  const { accessList } = await reader.createAccessList({ account, to: address, data: "0x8381f58a" });
  const override = await reader.readContract({ address, abi, functionName: "number", stateOverride: [{ address, stateDiff: [{ slot: "0x" + "00".repeat(32), value: "0x" + "09".padStart(64, "0") }] }] });
  return {
    network: String(chainId), number: String(number), balance: String(balance), status: receipt.status,
    logs: events.map((event) => event.args.note), reason: await reverted("failReason"), custom: await reverted("failCustom"),
    low, poor, type: block.transactions[0].type, rewards: history.reward.map((row) => row.length), override: String(override),
    slots: accessList.map((entry) => entry.storageKeys.length), missing: await reader.getTransaction({ hash: "0x" + "00".repeat(32) }).catch((error) => error.name),
  };
}

async function withWeb3() {
  const { Web3 } = require("web3");
  const web3 = new Web3(url);
  web3.eth.transactionPollingInterval = 20;
  const account = web3.eth.accounts.wallet.add(key)[0];
  const contract = await new web3.eth.Contract(abi).deploy({ data: bytecode }).send({ from: account.address });
  const receipt = await contract.methods.store(13, "web3").send({ from: account.address, value: "7" });
  const events = await contract.getPastEvents("Stored", { fromBlock: 0 });
  let reason;
  try { await contract.methods.failReason().call(); } catch (error) { reason = error.cause?.message ?? error.message; }
  const block = await web3.eth.getBlock("latest", true);
  return {
    network: String(await web3.eth.getChainId()), number: String(await contract.methods.number().call()), status: String(receipt.status),
    logs: events.map((event) => event.returnValues.note), reason, paid: String(await web3.eth.getBalance(contract.options.address)),
    fees: (await web3.eth.getFeeHistory(1, "latest", [])).oldestBlock === block.number, accounts: await web3.eth.getAccounts(),
  };
}

console.log(JSON.stringify({ ethers: await withEthers(), viem: await withViem(), web3: await withWeb3() }));
process.exit(0);
