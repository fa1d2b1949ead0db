// What the tests look into: the plugin, its modules, and the SDK it is compared with.

export { default } from "../../../../plugins/stealth/stealth.js";
export * from "../../../../plugins/stealth/scheme.js";
export { Chain } from "../../../../plugins/stealth/chain.js";
export * as sdk from "@scopelift/stealth-address-sdk";
export { encodeAbiParameters, encodeFunctionResult, getAddress, hexToBytes, keccak256 } from "viem/utils";
export { parseTransaction as parse, recoverTransactionAddress as signer } from "viem";
export { privateKeyToAccount } from "viem/accounts";
