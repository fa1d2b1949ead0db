// The plugin itself: one action that makes the attempts it is told to, one after another.

/** Try one; return "done" or what refused it. */
export async function tried(name, scene) {
  try {
    await ATTEMPTS[name].work(scene);
    return "done";
  } catch (error) {
    const causes = [];
    for (let cause = error; cause != null && causes.length < 4; cause = cause.cause) causes.push(`${cause.name}: ${cause.message ?? cause}`);
    return causes.join("; ").slice(0, 400);
  }
}

export default class {
  constructor() {
    const call = async (scene, name) => ({ outcome: await tried(name, JSON.parse(scene)) });
    const params = [{ name: "scene", type: "string" }, { name: "name", type: "string" }];
    this.layer2Interface = { actions: [{ name: "try", call, params }] };
  }
}
