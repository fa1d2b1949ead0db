// What a caller reads when an action cannot be done: -32010 with a code of ours, and nothing spent.

/** Return the error to throw from an action. */
export function refusal(code, message) {
  return Object.assign(new Error(message), { name: "ActionError", code, spent: false });
}

/** The codes of this plugin (README.md). */
export const CODES = { recipient: 1, funds: 2, registered: 3, unknown: 4, nothing: 5, key: 6, refused: 7, gas: 8 };
