// L1 as this plugin asks it: the registry, balances, nonces, fees. Reads alone; amounts are wei as bigint.

import { ERC6538RegistryAbi } from "@scopelift/stealth-address-sdk";
import { decodeFunctionResult, encodeFunctionData, parseAbi } from "viem/utils";
import { SCHEME } from "./scheme.js";

const LOOKUP = { abi: ERC6538RegistryAbi, functionName: "stealthMetaAddressOf" };

const TOKEN = parseAbi(["function balanceOf(address) view returns (uint256)", "function transfer(address, uint256) returns (bool)"]);

/** Return the calldata that moves `value` of a token to `to`. */
export function transferOf(to, value) {
  return encodeFunctionData({ abi: TOKEN, functionName: "transfer", args: [to, value] });
}

/** Reads L1 through the provider of the constructor. */
export class Chain {
  constructor(provider, registry) {
    this.ask = (method, ...params) => provider.request({ method, params });
    this.registry = registry;
  }

  /** Return what an account registered for scheme 1 as 0x data, "0x" where it registered nothing. */
  async registered(account) {
    const data = encodeFunctionData({ ...LOOKUP, args: [account, BigInt(SCHEME)] });
    const answer = await this.ask("eth_call", { to: this.registry, data }, "latest");
    return decodeFunctionResult({ ...LOOKUP, data: answer });
  }

  async balance(address) {
    return BigInt(await this.ask("eth_getBalance", address, "latest"));
  }

  /** Return what of a token lies at an address; nothing where the token, which may be anybody's, does not say. */
  async held(token, address) {
    const call = { abi: TOKEN, functionName: "balanceOf" };
    try {
      const data = await this.ask("eth_call", { to: token, data: encodeFunctionData({ ...call, args: [address] }) }, "latest");
      return decodeFunctionResult({ ...call, data });
    } catch {
      return 0n;
    }
  }

  async nonce(address) {
    return Number(await this.ask("eth_getTransactionCount", address, "latest"));
  }

  async knows(transactionHash) {
    return await this.ask("eth_getTransactionByHash", transactionHash) !== null;
  }

  /** Return the gas a payment of `value` wei needs: 21000, or more where the receiver is a contract. */
  async gas(from, to, value) {
    return BigInt(await this.ask("eth_estimateGas", { from, to, value: "0x" + value.toString(16) }));
  }

  /** Return the gas a call needs, with a fifth to spare: what a token does may cost more in the next block. */
  async gasOfCall(from, to, data) {
    return BigInt(await this.ask("eth_estimateGas", { from, to, data })) * 6n / 5n;
  }

  /** Return `{price, dynamic}`: wei per gas that the next blocks take, and whether the chain has EIP-1559's fees. */
  async price() {
    const { baseFeePerGas } = await this.ask("eth_getBlockByNumber", "latest", false);
    if (baseFeePerGas === undefined) return { price: BigInt(await this.ask("eth_gasPrice")), dynamic: false };
    const tip = BigInt(await this.ask("eth_maxPriorityFeePerGas"));
    return { price: BigInt(baseFeePerGas) * 5n / 4n + tip, dynamic: true }; // two full blocks in a row raise the base fee by 27 %
  }
}
