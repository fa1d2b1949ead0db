"""Honest plugins that say what cannot be said, or much at once: the caller gets a sentence, the log the reason, and the process goes on.

Both runtimes, real processes. Before, half of a character in a text or a value nested too deeply ended the process as if it were hostile,
and a JavaScript plugin that was asked for much at once stood still for ever, writing, while the proxy waited for it to read.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import PluginFailed
from tests.host.neighbours import Home, package

MANIFEST = """
[[action]]
name = "go"
params = [{ name = "code", type = "string" }]
returns = [{ name = "out", type = "string" }]
approval = "never"
"""
PYTHON = '''
import asyncio
from typing import TypedDict
from l2proxy_sdk import ActionError, Plugin, action

class Out(TypedDict):
    out: str

def nested():
    value = {}
    for _ in range(100):
        value = {"a": value}
    return value

class Main(Plugin):
    @action(approval="never")
    async def go(self, code: str) -> Out:
        """Run code."""
        scope = {"plugin": self, **globals()}
        exec("async def main():\\n    " + code.replace("\\n", "\\n    "), scope)
        return {"out": await scope["main"]()}
'''
JAVASCRIPT = """
const AsyncFunction = (async () => {}).constructor;
function nested() {
  let value = {};
  for (let n = 0; n < 100; n++) value = { a: value };
  return value;
}
const refusal = (message, data) => Object.assign(new Error(message), { name: "ActionError", code: 5, data });
export default class {
  constructor(given) {
    const params = [{ name: "code", type: "string" }], returns = [{ name: "out", type: "string" }];
    const call = async (code) => ({ out: await new AsyncFunction("given", "nested", "refusal", code)(given, nested, refusal) });
    this.layer2Interface = { actions: [{ name: "go", call, params, returns }] };
  }
}
"""
UNSAYABLE = {
    "python": {
        "half of a character": 'return "\\ud83d"',
        "too long": 'return "x" * (1 << 20)',
        "an error with half of a character": 'raise ActionError(5, "\\ud83d")',
        "an error that holds itself": 'data = {}\ndata["data"] = data\nraise ActionError(5, "m", data)',
        "an error nested deeply": 'raise ActionError(5, "m", nested())',
        "what was cancelled": "task = asyncio.create_task(asyncio.sleep(60))\ntask.cancel()\nawait task",
        "a state nested deeply": 'await plugin.state.update(nested())\nreturn ""',
        "a state with one name twice": 'await plugin.state.update({1: "a", "1": "b"})\nreturn ""',
        "an error with one name twice": 'raise ActionError(5, "m", [{None: 1, "null": 2}])',
        "an item with one name twice": 'await plugin.schedule("t", block=9, data={"a": {True: 1, "true": 2}})\nreturn ""',
    },
    "npm": {
        "half of a character": 'return "a\\u{1f600}".slice(0, 2)',
        "too long": 'return "x".repeat(1 << 20)',
        "an error with half of a character": 'throw refusal("\\ud83d")',
        "an error that holds itself": 'const data = {}; data.data = data; throw refusal("m", data)',
        "an error nested deeply": 'throw refusal("m", nested())',
        "an error that throws": "throw { get name() { throw new Error('again') } }",
        "a state nested deeply": 'await given.state.update({ state: nested() }); return ""',
        "nothing to be stored": 'await given.localDatabase.put("a", undefined); return ""',
    },
}
LOGGED = {
    "python": 'plugin.log.info("\\ud83d", a="b")\nplugin.log.info("deep", a=nested())\nplugin.log.info("long" * 300000)\nreturn "logged"',
    "npm": """
const self = {}; self.self = self;
given.log.info("\\ud83d", { a: "b" }); given.log.info("deep", self); given.log.info("long".repeat(300000)); return "logged";""",
}
MUCH = {
    "python": """
put = [plugin.store.put(f"k{n}", "v" * 4000) for n in range(1000)]
await asyncio.gather(*put)
got = await asyncio.gather(*(plugin.store.get(f"k{n}") for n in range(1000)))
return str(sum(map(len, got)))""",
    "npm": """
const keys = Array.from({ length: 1000 }, (_, n) => `k${n}`);
await Promise.all(keys.map((key) => given.localDatabase.put(key, "v".repeat(4000))));
const got = await Promise.all(keys.map((key) => given.localDatabase.get(key)));
return String(got.reduce((sum, value) => sum + value.length, 0));""",
}


async def add(home: Home, folder: Path, runtime: str) -> str:
    """Install the plugin of a runtime and return its id."""
    if runtime == "python":
        await home.add(package(folder, "clumsy", PYTHON, MANIFEST))
        return "clumsy"
    made = folder / "clumsy"
    made.mkdir()
    head = 'id = "clumsy"\nname = "Test"\nversion = "1"\nruntime = "npm"\nentry = "main.js"\n[permissions]\n'
    (made / "plugin.toml").write_text(head + MANIFEST)
    (made / "main.js").write_text(JAVASCRIPT)
    await home.add(made)
    return "clumsy"


async def go(home: Home, code: str) -> Any:
    async with asyncio.timeout(60):
        return (await home.invoke("clumsy", "go", [code]))["out"]


def log(home: Home) -> str:
    return "\n".join(home.plugins.catalog.log("clumsy").read()[0])


@pytest.mark.parametrize("runtime", UNSAYABLE)
async def test_what_cannot_be_said_is_in_the_log_and_ends_nothing(home: Home, tmp_path: Path, runtime: str) -> None:
    await add(home, tmp_path, runtime)
    for name, code in UNSAYABLE[runtime].items():
        before = len(log(home))
        with pytest.raises(PluginFailed) as failed:
            await go(home, code)
        shown = json.dumps(failed.value.to_json())
        assert shown.count("the plugin failed; the reason is in its log") == 2, (name, shown)
        async with asyncio.timeout(60):
            while len(log(home)) == before:  # noqa: ASYNC110 - another process is polled
                await asyncio.sleep(0.01)
    assert home.plugins.status("clumsy")["restarts"] == 0


@pytest.mark.parametrize("runtime", LOGGED)
async def test_a_line_of_the_log_that_cannot_be_written_is_no_failure(home: Home, tmp_path: Path, runtime: str) -> None:
    await add(home, tmp_path, runtime)
    assert await go(home, LOGGED[runtime]) == "logged"
    said = log(home)
    assert '{"a": "b"}' in said
    assert "deep (its fields cannot be shown: " in said
    assert "longlonglong" in said


DENIED = {
    "python": ("a plugin opens no file, socket, thread or process: it keeps data by self.store", "PermissionError"),
    "npm": (
        "a plugin opens no file or socket and starts no process or worker: it keeps data by localDatabase",
        "NotCapable",
    ),
}
OPENING = {
    "python": 'import pathlib\npathlib.Path("data.json").write_text("x")',
    "npm": 'Deno.writeTextFileSync("data.json", "x")',
}


@pytest.mark.parametrize("runtime", DENIED)
async def test_who_opens_a_file_reads_once_where_data_is_kept(home: Home, tmp_path: Path, runtime: str) -> None:
    await add(home, tmp_path, runtime)
    advice, error = DENIED[runtime]
    for count in (1, 2):
        with pytest.raises(PluginFailed, match="clumsy: the plugin failed; the reason is in its log"):
            await go(home, OPENING[runtime])
        async with asyncio.timeout(60):
            while log(home).count(f"{error}: ") < count:  # noqa: ASYNC110 - another process is polled
                await asyncio.sleep(0.01)
    assert log(home).count(advice) == 1


async def test_whatever_javascript_prints_goes_to_the_log_and_the_environment_is_empty(
    home: Home, tmp_path: Path
) -> None:
    """Every method of `console` and the streams of `process`; packages look for `process.env.DEBUG` when they are imported."""
    await add(home, tmp_path, "npm")
    code = """
const names = Object.keys(console).filter((name) => typeof console[name] === "function" && !/^[A-Z]/.test(name));
for (const name of names) console[name](`by ${name}`);
console.time("t"); console.timeLog("t"); console.timeEnd("t"); console.count(); console.groupEnd();
process.stdout.write("by stdout\\n"); process.stderr.write("by stderr\\n");
process.env.SET = "set";
const named = await import("node:process"), os = await import("node:os");
const started = [named.argv, named.execPath, named.argv0, named.execArgv, process.execPath, Deno.execPath(), os.tmpdir()];
const own = [named.env, process.env, named.default.env].map((env) => [env.DEBUG ?? null, "HOME" in env, Object.keys(env)]);
return JSON.stringify([own, Deno.env.toObject(), started]);"""
    environment = [None, False, ["SET"]]
    started = [["deno", "plugin"], "deno", "deno", [], "deno", "deno", "/tmp"]
    assert json.loads(await go(home, code)) == [[environment] * 3, {"SET": "set"}, started]
    async with asyncio.timeout(60):
        while "by stderr" not in log(home):  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.01)
    said = log(home)
    for name in ("debug", "dir", "error", "group", "info", "log", "table", "trace", "warn", "stdout"):
        assert f"by {name}" in said, name
    assert "data:text" not in said
    assert home.plugins.status("clumsy")["restarts"] == 0


@pytest.mark.parametrize("runtime", MUCH)
async def test_a_thousand_host_calls_at_once_wait_for_their_turn(home: Home, tmp_path: Path, runtime: str) -> None:
    await add(home, tmp_path, runtime)
    assert await go(home, MUCH[runtime]) == "4000000"


LONG = {
    "python": """
asked = [plugin.store.put(f"k{n}", "v" * 500_000) for n in range(200)]
done = await asyncio.gather(*asked, return_exceptions=True)
return " ".join(sorted({str(getattr(one, "code", one)) for one in done}))""",
    "npm": """
const asked = Array.from({ length: 200 }, (_, n) => given.localDatabase.put(`k${n}`, "v".repeat(500_000)));
const done = await Promise.allSettled(asked);
return [...new Set(done.map((one) => one.status === "fulfilled" ? "None" : one.reason.code))].sort().join(" ");""",
}


@pytest.mark.parametrize("runtime", LONG)
async def test_long_calls_at_once_do_not_take_the_plugins_memory(home: Home, tmp_path: Path, runtime: str) -> None:
    """200 of 500 KB in 256 MB: as lines, and joined to one, they ended in a MemoryError and calls that nobody answered."""
    await add(home, tmp_path, runtime)
    assert await go(home, LONG[runtime]) == "-32005 None"  # the store is full at 64 MiB
    assert " stderr " not in log(home)
    assert home.plugins.status("clumsy")["restarts"] == 0


@pytest.mark.parametrize("runtime", MUCH)
async def test_long_answers_to_many_at_once_stop_nobody(home: Home, tmp_path: Path, runtime: str) -> None:
    await add(home, tmp_path, runtime)
    said = "x" * 300_000
    code = f'return "{said}"'
    assert await asyncio.gather(*(go(home, code) for _ in range(24))) == [said] * 24
    assert " stderr " not in log(home)  # nor does V8 complain there that it may not ask for the priority of its threads
    assert home.plugins.status("clumsy")["restarts"] == 0
