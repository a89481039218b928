// A model that `rnnstate export` wrote, run in the page itself. The session carries its state from push to push.
//
//   const session = await Session.open("model.onnx");
//   const y = await session.push([[0.4, 0.1], [0.5, 0.2]]); // two steps of two features
//   session.peek()["lstm/h"]; session.reset();

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // several threads need headers that a plain file server does not send

export class Session {
  /** Load a file and the manifest next to it. */
  static async open(address) {
    const [manifest, bytes] = await Promise.all([
      fetched(`${address}.json`).then((answer) => answer.json()),
      fetched(address).then((answer) => answer.arrayBuffer()),
    ]);
    await check(manifest, bytes);
    return new Session(manifest, await ort.InferenceSession.create(bytes));
  }

  constructor(manifest, runtime) {
    this.manifest = manifest;
    this.runtime = runtime;
    this.turn = Promise.resolve();
    this.reset();
  }

  get features() {
    return this.manifest.inputs[0].shape[2];
  }

  /** Return to the initial state. */
  reset() {
    this.state = Object.fromEntries(this.manifest.state.map((leaf) => [leaf.leaf, initial(leaf)]));
    this.steps = 0;
  }

  /** Return the leaves of the state by name. */
  peek() {
    return Object.fromEntries(Object.entries(this.state).map(([name, values]) => [name, values.slice()]));
  }

  /** Advance by some steps, a list of features each, and return the output after each step. Pushes run in their order. */
  push(x) {
    const done = this.turn.then(() => this.advance(x));
    this.turn = done.catch(() => {}); // an error concerns its push alone
    return done;
  }

  async advance(x) {
    const { inputs, outputs, state } = this.manifest;
    const fits = x.length > 0 && x.every((step) => step.length === this.features && step.every(Number.isFinite));
    if (!fits) throw new Error(`A push must have steps of ${this.features} finite numbers. Nothing has changed.`);
    const feeds = { [inputs[0].name]: new ort.Tensor("float32", x.flat(), [1, x.length, this.features]) };
    for (const leaf of state) feeds[leaf.input] = new ort.Tensor("float32", this.state[leaf.leaf], shape(leaf));
    const results = await this.runtime.run(feeds);
    const next = Object.fromEntries(state.map((leaf) => [leaf.leaf, results[leaf.output].data]));
    if (!Object.values(next).every((values) => values.every(Number.isFinite))) {
      throw new Error("The next state must be finite. Nothing has changed.");
    }
    this.state = next;
    this.steps += x.length;
    const y = results[outputs[0].name];
    const size = y.data.length / x.length;
    return x.map((_, step) => [...y.data.slice(step * size, (step + 1) * size)]);
  }
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address} must be next to the page. Received: status ${answer.status}.`);
  return answer;
}

async function check(manifest, bytes) {
  const { inputs, outputs, state, batch, time } = manifest;
  const series = (tensor) => tensor.shape.length === 3 && tensor.dtype === "float32";
  const whole = state.every((leaf) => leaf.dtype === "float32" && leaf.initial !== null);
  const one = inputs.length === 1 && outputs.length === 1 && series(inputs[0]) && series(outputs[0]);
  if (!one || !whole || manifest.initial || batch !== "any" || time !== "any") {
    throw new Error("This page needs a model with one float32 series as input, one as output, and a known initial state.");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hash = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hash !== manifest.sha256) throw new Error("The manifest must describe this file. Export the model again.");
}

function shape(leaf) {
  return [1, ...leaf.shape.slice(1)];
}

function initial(leaf) {
  const values = [leaf.initial].flat(Infinity);
  const size = shape(leaf).reduce((product, length) => product * length, 1);
  return Float32Array.from({ length: size }, (_, at) => values[at % values.length]);
}
