// What the author reads of an error: where in the plugin it happened, as plugin:LINE:COLUMN, and nothing of our own modules.
//
// Both are data: URLs here, which deno writes whole or as `data:text/javascript;base64,......` and the last characters. Text in, text
// out; it is for the plugin's log alone, never for a caller.

const DATA = /data:text\/javascript;base64,[\w+/=.]*/g;
const OURS = "l2proxy:";
const LAST = 20; // characters of a URL that deno keeps
const RELATIVE = "invalid URL: relative URL with a cannot-be-a-base base"; // what deno says of an import of another file
const BUNDLED = "an npm plugin is one module: run `npm shrinkwrap`, name npm-shrinkwrap.json in `dependencies`, and it is bundled";
const ONE_MODULE = `it imports another file; ${BUNDLED}`;
const PACKAGE = /Import "([^"\n]{1,214})" not a dependency/; // and of a package
const FLAG = /, run again with the --allow-[\w-]+ flag/g; // what deno advises where a permission is missing
const NO_FLAG = ", which no plugin has";

/** Return a function from text to text for a plugin whose module is at `url`; before it is known every place is ours. */
export function reader(url) {
  const tail = url?.slice(-LAST);
  const named = (found) => tail !== undefined && found.endsWith(tail) ? "plugin" : OURS;
  return (said) => {
    const text = said.replaceAll(FLAG, NO_FLAG).replace(PACKAGE, `it imports the package $1; ${BUNDLED}`);
    if (!text.includes("data:text/javascript;base64,")) return text;
    const lines = text.replace(RELATIVE, ONE_MODULE).replaceAll(DATA, named).split("\n");
    const last = lines.findLastIndex((line) => line.includes("plugin:"));
    return lines.filter((line, index) => !line.includes(OURS) && !(last >= 0 && index > last && /^\s+at /.test(line))).join("\n");
  };
}

/** Return an error with its stack and its causes, any other value as it is. */
export function told(value, depth = 0) {
  if (!(value instanceof Error)) return value;
  const stack = typeof value.stack === "string" ? value.stack : String(value);
  return value.cause instanceof Error && depth < 4 ? `${stack}\nCaused by ${told(value.cause, depth + 1)}` : stack;
}

/** What an author is told once, with the first error that says no. */
export const ADVICE = "a plugin opens no file or socket and starts no process or worker: it keeps data by localDatabase, and reaches its operator " +
  "by hub and L1 by layer1Provider (docs/plugin-authors.md)";

/** Tell whether an error, or one it came of, is how the sandbox says no. */
export function wasDenied(error, depth = 0) {
  if (!(error instanceof Error)) return false;
  return error.name === "NotCapable" || error.name === "PermissionDenied" || (depth < 4 && wasDenied(error.cause, depth + 1));
}

/** Return one line for who asked to have the plugin's module read: what is wrong, and where in the plugin. */
export function summary(text) {
  const [first, ...rest] = text.split("\n");
  const at = rest.find((line) => line.includes("plugin:"))?.trim() ?? "";
  return at === "" ? first : `${first} (${at})`;
}
