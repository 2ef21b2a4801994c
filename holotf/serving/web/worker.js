// The model of a page without a server, aside of the page, which stays free to follow the hand.
//
// Messages: {id, parts: {name: address}} loads the ONNX models, once; {id, feeds: {input: {shape, data}}, show} asks for an image, or
// for what the part that `show` names gives.
// Answers: {id, found: {shape, data}} or {id, error}.

import * as ort from "../runtime/ort.wasm.min.mjs";

const KEPT = 24; // volumes: objects that were made and are only turned

ort.env.wasm.numThreads = 1; // more need a host that sets cross-origin isolation's headers
ort.env.wasm.wasmPaths = new URL("../runtime/", import.meta.url).href;

let sessions, later; // of what every image needs; addresses of what is only loaded where it is asked for
const volumes = new Map(); // latent -> tensor, the one asked for last at the end

const opened = (url) => ort.InferenceSession.create(url, { executionProviders: ["wasm"] });

async function load({ depth, ...parts }) {
  later = { depth };
  sessions = Object.fromEntries(await Promise.all(Object.entries(parts).map(async ([name, url]) => [name, await opened(url)])));
}

async function volumeOf(z) {
  const key = z.data.join();
  const volume = volumes.get(key) ?? (await sessions.volume.run({ z })).volume;
  volumes.delete(key);
  volumes.set(key, volume);
  if (volumes.size > KEPT) volumes.delete(volumes.keys().next().value);
  return volume;
}

async function made(feeds, show) {
  const tensors = Object.fromEntries(
    Object.entries(feeds).map(([name, { shape, data }]) => [name, new ort.Tensor("float32", data, shape)]),
  );
  if (show && !sessions[show]) sessions[show] = await opened(later[show]);
  const last = sessions[show] ?? sessions.render ?? Object.values(sessions)[0]; // which is all of it in one
  if (sessions.volume) tensors.volume = await volumeOf(tensors.z);
  const asked = last.inputNames.map((name) => [name, tensors[name]]);
  const found = await last.run(Object.fromEntries(asked));
  const { dims, data } = found[show] ?? found.images;
  return { shape: dims, data };
}

addEventListener("message", async ({ data: { id, parts, feeds, show } }) => {
  try {
    postMessage({ id, found: parts ? await load(parts) : await made(feeds, show) });
  } catch (error) {
    postMessage({ id, error: error.message || String(error) });
  }
});
