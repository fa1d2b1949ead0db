// An action's result as the proxy hands it on: every declared name and no other, integers as 0x quantities (rpc.md, "Layer 2").

const INTEGER = /^(u?)int(\d*)$/;
const LIST = /^(.*)\[\d*\]$/;

/** Return the result in the one form a caller sees. Throws an Error that names the place; for the author it is a bug. */
export function returned(declared, result, where = "result") {
  if (declared.length === 0) {
    if (result !== null && !(typeof result === "object" && Object.keys(result).length === 0)) throw new Error(`${where}: the action declares no returns`);
    return null;
  }
  if (result === null || typeof result !== "object" || Array.isArray(result)) throw new Error(`${where}: an object of the declared returns is needed`);
  const names = declared.map((param) => param.name);
  const odd = [...names.filter((name) => !(name in result)), ...Object.keys(result).filter((name) => !names.includes(name))];
  if (odd.length > 0) throw new Error(`${where}: ${odd.join(", ")}: the names are ${names.join(", ")}, neither more nor less`);
  return Object.fromEntries(declared.map((param) => [param.name, value(param, result[param.name], `${where}.${param.name}`)]));
}

function value(param, given, where) {
  const list = LIST.exec(param.type);
  if (list !== null) {
    if (!Array.isArray(given)) throw new Error(`${where}: an array is needed`);
    return given.map((item, index) => value({ ...param, type: list[1] }, item, `${where}[${index}]`));
  }
  if (param.type === "tuple") return returned(param.components ?? [], given, where);
  const kind = INTEGER.exec(param.type);
  return kind === null ? given : quantity(given, kind[1] === "u", BigInt(kind[2] || 256), where);
}

function quantity(given, unsigned, bits, where) {
  const negative = typeof given === "string" && given.startsWith("-");
  if (typeof given === "number" && !Number.isSafeInteger(given)) throw new Error(`${where}: ${given} is no safe integer; use a bigint`);
  if (typeof given !== "string" && typeof given !== "number") throw new Error(`${where}: an integer is needed`);
  const magnitude = BigInt(negative ? given.slice(1) : given), number = negative ? -magnitude : magnitude;
  const end = 1n << (unsigned ? bits : bits - 1n);
  if (number >= end || number < (unsigned ? 0n : -end)) throw new Error(`${where}: ${number} does not fit`);
  return (number < 0n ? "-0x" : "0x") + (number < 0n ? -number : number).toString(16);
}
