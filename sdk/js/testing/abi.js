// Params and results as the proxy hands them on: every declared name and no other, in the one form of rpc.md, "Layer 2": integers
// as 0x quantities, bytes as 0x data. It is the fake's half of proxy/host/abi_values.py; checksums of addresses it does not check.

const INTEGER = /^(u?)int(\d*)$/;
const LIST = /^(.*)\[(\d*)\]$/;
const BYTES = /^bytes(\d*)$/;
const PLAIN = {
  address: ["an address", (given) => /^0x[0-9a-f]{40}$/i.test(given)],
  bool: ["true or false", (given) => typeof given === "boolean"],
  string: ["a string", (given) => typeof given === "string"],
};

/** Return the declared values of an object in wire form. Throws an Error that names the place below `where`. */
export function checked(declared, given, where) {
  if (given === null || typeof given !== "object" || Array.isArray(given)) throw new Error(`${where}: an object of the declared names is needed`);
  const names = declared.map((param) => param.name);
  const odd = [...names.filter((name) => given[name] === undefined), ...Object.keys(given).filter((name) => !names.includes(name))];
  if (odd.length > 0) throw new Error(`${where}: ${odd.join(", ")}: the names are ${names.join(", ") || "none"}, neither more nor less`);
  return Object.fromEntries(declared.map((param) => [param.name, value(param, given[param.name], `${where}.${param.name}`)]));
}

function value(param, given, where) {
  const list = LIST.exec(param.type);
  if (list !== null) {
    const [, type, length] = list;
    if (!Array.isArray(given) || (length !== "" && given.length !== Number(length))) throw new Error(`${where}: an array (${param.type}) is needed`);
    return given.map((item, index) => value({ ...param, type }, item, `${where}[${index}]`));
  }
  if (param.type === "tuple") return checked(param.components ?? [], given, where);
  const integer = INTEGER.exec(param.type), bytes = BYTES.exec(param.type);
  if (integer !== null) return quantity(given, integer[1] === "u", BigInt(integer[2] || 256), where);
  if (bytes !== null) return data(given, bytes[1], where);
  const [needed, holds] = PLAIN[param.type] ?? [`a Solidity type (it has ${param.type})`, () => false];
  if (!holds(given)) throw new Error(`${where}: ${needed} is needed`);
  return given;
}

function data(given, length, where) {
  const text = given instanceof Uint8Array ? "0x" + given.toHex() : given;
  const fits = typeof text === "string" && /^0x([0-9a-f]{2})*$/i.test(text) && (length === "" || text.length === 2 + 2 * Number(length));
  if (!fits) throw new Error(`${where}: 0x data (bytes${length}) is needed`);
  return text.toLowerCase();
}

function quantity(given, unsigned, bits, where) {
  if (typeof given === "number" && !Number.isSafeInteger(given)) throw new Error(`${where}: ${given} is no safe integer; use a bigint`);
  const text = ["bigint", "number", "string"].includes(typeof given) ? String(given) : "";
  if (!/^-?(0x[0-9a-f]+|\d+)$/i.test(text)) throw new Error(`${where}: an integer is needed`);
  const magnitude = BigInt(text.replace("-", "")), number = text.startsWith("-") ? -magnitude : magnitude;
  const end = 1n << (unsigned ? bits : bits - 1n);
  if (number >= end || number < (unsigned ? 0n : -end)) throw new Error(`${where}: ${number} does not fit`);
  return (number < 0n ? "-0x" : "0x") + magnitude.toString(16);
}
