// Calls arrive as lines {id, method, params} and are answered as lines {id, result} or {id, error}, each when it is ready.
import { createInterface } from "node:readline";

export async function serve(request, errorOf) {
  const answer = (object) => process.stdout.write(JSON.stringify(object) + "\n");
  answer({ ready: true });
  const running = new Set();
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, method, params } = JSON.parse(line);
    const call = request(method, params).then(
      (result) => answer({ id, result: result ?? null }),
      (error) => {
        const { code, message, data } = errorOf(error);
        answer({ id, error: { code: code ?? -32603, message: String(message), data } });
      },
    );
    running.add(call.finally(() => running.delete(call)));
  }
  await Promise.allSettled(running);
}
