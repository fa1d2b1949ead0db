// Values between the wire (rpc.md: 0x quantities) and a plugin's code: integers of any ABI size are BigInt there.

const INTEGER = /^u?int\d*$/;
const LIST = /^(.*)\[\d*\]$/;

/** An invoke whose params the plugin's own declaration does not fit; nothing was spent. */
export class ActionRefused extends Error {}

/** Return a param's declaration with the ABI's full names: `uint` is `uint256`. */
export function normal(param) {
  const type = param.type.replace(/^(u?int)(?!\d)/, "$1256");
  return param.components ? { ...param, type, components: param.components.map(normal) } : { ...param, type };
}

/** Return a wire value as the plugin gets it. Throws ActionRefused. */
export function decode(param, value, where) {
  const list = LIST.exec(param.type);
  if (list !== null) {
    if (!Array.isArray(value)) throw new ActionRefused(`${where}: an array of ${list[1]} is needed`);
    return value.map((item, index) => decode({ ...param, type: list[1] }, item, `${where}[${index}]`));
  }
  if (param.type === "tuple") {
    const fields = (param.components ?? []).map((field) => [field.name, decode(field, value?.[field.name], `${where}.${field.name}`)]);
    return Object.fromEntries(fields);
  }
  if (value === undefined || value === null) throw new ActionRefused(`${where}: there is no value`);
  return INTEGER.test(param.type) ? integer(value, where) : value;
}

function integer(value, where) {
  const signed = typeof value === "string" && value.startsWith("-");
  try {
    const magnitude = BigInt(signed ? value.slice(1) : value);
    return signed ? -magnitude : magnitude;
  } catch {
    throw new ActionRefused(`${where}: an integer is needed`);
  }
}
