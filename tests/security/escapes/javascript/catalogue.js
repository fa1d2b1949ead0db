// What an npm plugin tries, by name. The files of this folder are joined to one module: this one first, plugin.js last.
//
// An attempt throws where it is refused. Run free by `deno run -A`, where each must get through, and as a plugin in the jail.
// `expected`: what must refuse it there (the names of REFUSALS in test_escape_javascript.py); `bare`: what must refuse it by a deno
// that grants everything, so that the kernel is alone. `needs`: a member of the scene that this machine may not have.

export const ATTEMPTS = {};

/** Enter an attempt. */
function attempt(name, { expected = "permission", bare = "kernel", needs }, work) {
  if (name in ATTEMPTS) throw new Error(`two attempts: ${name}`);
  ATTEMPTS[name] = { expected, bare, needs, work };
}

const node = (name) => import(`node:${name}`);

/** Wait for an event of node's; an error event throws. What was opened is closed again. */
function heard(emitter, event) {
  return new Promise((resolve, reject) => {
    emitter.once(event, () => resolve(emitter.close?.() ?? emitter.destroy?.()));
    emitter.once("error", reject);
  });
}

/** Throw unless something was found: an attempt that found nothing did not get through. */
function found(value) {
  if (value === undefined || value === null || value === "" || value.length === 0) throw new Error("nothing was found");
  return value;
}
