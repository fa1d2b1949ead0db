// ERC-5564 scheme 1 (secp256k1 with view tags): meta-addresses, stealth addresses, announcements. Pure; knows no host.
//
// The mathematics is @scopelift/stealth-address-sdk's. What it is given is checked here first, for the announcer takes any bytes
// from anybody: an announcement that cannot be read is nobody's, and never an error that stops a scan.

import { checkStealthAddress, computeStealthKey, generateStealthAddress } from "@scopelift/stealth-address-sdk";
import { getPublicKey } from "@noble/secp256k1";
import { bytesToHex, concatHex, decodeAbiParameters, getAddress, hexToBytes, numberToHex } from "viem/utils";

export const SCHEME = 1;
/** keccak256("Announcement(uint256,address,address,bytes,bytes)") */
export const ANNOUNCEMENT = "0x5f0eab8057630ba7676c49b4f21a0231414e79474595be8e4c432fbf6bf0f4e7";
export const SCHEME_TOPIC = numberToHex(SCHEME, { size: 32 });

const META = /^(?:st:[a-z0-9-]{1,32}:)?(0x(?:0[23][0-9a-f]{64}){1,2})$/i;
const ETH_SELECTOR = "0xeeeeeeee", ETH_ADDRESS = "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"; // ERC-5564, "metadata" of a payment in ETH
const TRANSFER_SELECTOR = "0xa9059cbb"; // transfer(address,uint256)
const TOKEN = /^0x..(?!eeeeeeee)[0-9a-f]{8}(?!e{40}|0{40})([0-9a-f]{40})[0-9a-f]{64}/; // ERC-5564, "metadata" of a payment in a token
const CONTENT = [{ type: "bytes" }, { type: "bytes" }];

/** Both keys of one receiver: private keys as 0x data, public ones compressed. */
export function keysFrom(spendingPrivateKey, viewingPrivateKey) {
  const publicKey = (privateKey) => bytesToHex(getPublicKey(hexToBytes(privateKey), true));
  return {
    spendingPrivateKey,
    viewingPrivateKey,
    spendingPublicKey: publicKey(spendingPrivateKey),
    viewingPublicKey: publicKey(viewingPrivateKey),
  };
}

/** Return the meta-address as 66 bytes of 0x data: spending key, then viewing key. */
export function metaAddressOf({ spendingPublicKey, viewingPublicKey }) {
  return concatHex([spendingPublicKey, viewingPublicKey]);
}

/** Return the 0x data of a meta-address, with or without its `st:chain:`; null for what is none (a key off the curve is found by `newStealthAddress`). */
export function readMetaAddress(text) {
  return META.exec(text)?.[1].toLowerCase() ?? null;
}

/** Return `{stealthAddress, ephemeralPublicKey, viewTag}` for a payment to a meta-address. Throws for keys off the curve. */
export function newStealthAddress(metaAddress, ephemeralPrivateKey) {
  return generateStealthAddress({ stealthMetaAddressURI: metaAddress, schemeId: SCHEME, ephemeralPrivateKey });
}

/** Return the metadata that announces `value` of `token` (null: ETH): view tag, then what ERC-5564 recommends. */
export function metadataOf(viewTag, value, token = null) {
  const what = token === null ? [ETH_SELECTOR, ETH_ADDRESS] : [TRANSFER_SELECTOR, token];
  return concatHex([viewTag, ...what, numberToHex(value, { size: 32 })]);
}

/** Return the token that a readable log's metadata names, null for ETH, or for what says nothing. Anybody may write anything there. */
export function tokenOf({ data }) {
  const found = TOKEN.exec(decodeAbiParameters(CONTENT, data)[1].toLowerCase());
  return found === null ? null : getAddress(`0x${found[1]}`);
}

/** Return `{stealthAddress, ephemeralPublicKey, viewTag}` of a log, null for what no payment of scheme 1 could have announced. */
export function readAnnouncement({ topics, data }) {
  try {
    if (topics.length !== 4 || topics[0] !== ANNOUNCEMENT || topics[1] !== SCHEME_TOPIC) return null;
    const [ephemeralPublicKey, metadata] = decodeAbiParameters(CONTENT, data);
    if (![68, 132].includes(ephemeralPublicKey.length) || metadata.length < 4) return null; // a point is 33 bytes, or 65
    return { stealthAddress: getAddress("0x" + topics[2].slice(26)), ephemeralPublicKey, viewTag: metadata.slice(0, 4) };
  } catch {
    return null;
  }
}

/** Tell whether an announcement is for these keys: the view tag is compared first and settles 255 of 256. */
export function isFor({ spendingPublicKey, viewingPrivateKey }, { stealthAddress, ephemeralPublicKey, viewTag }) {
  try {
    return checkStealthAddress({
      ...{ ephemeralPublicKey, spendingPublicKey, viewingPrivateKey, viewTag },
      ...{ schemeId: SCHEME, userStealthAddress: stealthAddress },
    });
  } catch {
    return false; // the ephemeral key is no point of the curve
  }
}

/** Return the private key of a stealth address. */
export function stealthKey({ spendingPrivateKey, viewingPrivateKey }, ephemeralPublicKey) {
  return computeStealthKey({ ephemeralPublicKey, schemeId: SCHEME, spendingPrivateKey, viewingPrivateKey });
}
