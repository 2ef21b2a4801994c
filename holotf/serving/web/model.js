// The model behind the page: our server with its card and pictures, or TensorFlow Serving, which has :predict and metadata alone.

import { random } from "./objects.js";

// The server cannot be reached or is overfull: the same request may be answered later.
export class Away extends Error {}

// Ranges of a model that turns and has no card: a turn round, seen from the side to somewhat above.
const DEFAULT_RANGES = { azimuth_deg: [0, 360], elevation_deg: [0, 45], scale: [1, 1] };
const FRAMES = 36; // of a film
const ROWS = 8; // of a request for several images; a server takes 32 unless told otherwise
const ANSWER_MS = 30000; // after which a server that says nothing is away

async function ask(url, { body, signal, read = (response) => response.json() } = {}) {
  const limits = [AbortSignal.timeout(ANSWER_MS), ...(signal ? [signal] : [])];
  let response;
  try {
    // A string goes as text/plain, which another origin may send without asking first (CORS's preflight); no server of ours looks.
    const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
    response = await fetch(url, { ...options, signal: AbortSignal.any(limits) });
    if (response.ok) return await read(response);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Away(error.message);
  }
  if ([502, 503, 504].includes(response.status)) throw new Away(`status ${response.status}`);
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error ?? `${url}: status ${response.status}`);
}

// A square of pixels, RGB, as canvases have them.
export function imageData(rgb) {
  const side = Math.sqrt(rgb.length / 3);
  const image = new ImageData(side, side);
  for (let pixel = 0; pixel < side * side; pixel++) {
    image.data.set(rgb.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
    image.data[4 * pixel + 3] = 255;
  }
  return image;
}

export class Model {
  // url: .../v1/models/NAME; card: of the export, or null; signatures: {name: {inputs: {name: [sizes]}}};
  // ours: whether the server makes pictures and films.
  constructor(url, card, signatures, ours) {
    Object.assign(this, { url, card, signatures, ours, name: decodeURIComponent(url.split("/").pop()) });
    const { inputs } = signatures.serving_default;
    this.zDim = inputs.z?.at(-1);
    this.inputs = inputs;
    this.turns = "azimuth_deg" in inputs && (!card || card.views !== null);
    const ranges = card?.views?.ranges ?? DEFAULT_RANGES;
    this.ranges = Object.fromEntries(Object.keys(DEFAULT_RANGES).map((key) => [key, ranges[key]]));
    this.closes = card?.views?.azimuth_closes_circle ?? true;
    this.uniform = !card || (card.latent?.distribution ?? "").startsWith("uniform");
    this.latentRange = (this.uniform && card?.latent?.range) || [-1, 1];
    this.size = card?.model.image_size;
    const has = (...names) => ours && names.every((name) => name in (card?.endpoints ?? {}));
    this.depths = has("volume", "depth"); // whether it shows how near an object is
    this.meshes = has("volume", "density"); // whether it makes meshes
    // What the last numbers of a latent say of an object, each 1 where it is to be shown and 0 where not.
    this.labels = card?.latent?.labels === card?.classes?.length ? (card?.classes ?? []) : [];
    this.mostLabels = card?.model.most_labels ?? this.labels.length;
  }

  // address: of a server, or .../v1/models/NAME below it; cardUrl: of a card that the server does not have, or null.
  static async open(address, cardUrl) {
    let url = address.replace(/\/+$/, "");
    let named = false; // by /healthz, which only our server has
    if (!/\/v1\/models\/[^/]+/.test(url)) {
      const health = await ask(`${url}/healthz`).catch((error) => {
        if (error instanceof Away) throw error;
        throw new Error("This server does not name its model: use ?server=http://HOST:PORT/v1/models/NAME");
      });
      url = `${url}/v1/models/${health.model}`;
      named = true;
    }
    // TensorFlow Serving has no card, and says so without what lets another origin read it: then only metadata tells who it is.
    const own = await ask(`${url}/card`).catch((error) => {
      if (named) throw error; // it is ours, and busy
      return null;
    });
    const metadata = await ask(`${url}/metadata`);
    const told = metadata.metadata.signature_def.signature_def;
    const sizes = ([key, { tensor_shape: shape }]) => [key, (shape.dim ?? []).map((dim) => Number(dim.size))];
    const signatures = Object.fromEntries(
      Object.entries(told).map(([key, { inputs }]) => [key, { inputs: Object.fromEntries(Object.entries(inputs).map(sizes)) }]),
    );
    if (!("z" in (signatures.serving_default?.inputs ?? {}))) throw new Error("This model makes no images of latents: there is nothing to show.");
    return new Model(url, own ?? (cardUrl ? await ask(cardUrl) : null), signatures, own !== null);
  }

  // Whether it answers again, and as the same model.
  async alive() {
    const told = await ask(`${this.url}/metadata`);
    return this.zDim === Number(told.metadata.signature_def.signature_def.serving_default.inputs.z?.tensor_shape.dim.at(-1).size);
  }

  // An ImageBitmap of an object ({seed} or {z}) from a view; its depth where the view has {show: "depth"}.
  async image(object, view, signal) {
    if (!this.ours) return this.#predicted(object, view, signal);
    const read = async (response) => createImageBitmap(await response.blob());
    return this.#file("image", object, { ...(this.turns ? view : {}), format: "png" }, { signal, read });
  }

  // What the server makes of an object.
  async #file(route, object, asked, { signal, read = (response) => response.blob() } = {}) {
    if ("seed" in object && !("latents" in this.signatures)) object = { z: await this.latent(object) };
    if ("seed" in object) return ask(`${this.url}/${route}?${new URLSearchParams({ seed: object.seed, ...asked })}`, { signal, read });
    return ask(`${this.url}/${route}`, { body: { z: [...object.z], ...asked }, signal, read });
  }

  async #predicted(object, view, signal) {
    const [rgb] = await this.made([await this.latent(object)], [view], signal);
    return createImageBitmap(imageData(rgb));
  }

  // The pixels of latents from views, one each: RGB, [size * size * 3] each.
  async made(latents, views, signal) {
    const row = (z, view) => {
      const told = { z: [...z], ...(this.turns ? view : {}) };
      return Object.fromEntries(Object.entries(this.inputs).map(([key, sizes]) => [key, told[key] ?? Array(sizes.at(-1)).fill(0)]));
    };
    const instances = latents.map((z, i) => row(z, views[i]));
    const images = [];
    for (let rows = ROWS; images.length < instances.length; ) {
      try {
        const asked = instances.slice(images.length, images.length + rows);
        const { predictions } = await ask(`${this.url}:predict`, { body: { instances: asked }, signal });
        images.push(...predictions.map((told) => Uint8ClampedArray.from((told.images ?? told).flat(2))));
      } catch (error) {
        if (rows === 1 || !/maximum input batch size/.test(error.message)) throw error;
        rows /= 2; // what the server takes at once is its operator's choice
      }
    }
    return images;
  }

  // The latent of an object; of a seed the one that the model's own files have, where the export can tell.
  async latent(object) {
    if ("z" in object) return object.z;
    if (!("latents" in this.signatures)) return this.#drawn(object.seed);
    const { outputs } = await ask(`${this.url}:predict`, { body: { signature_name: "latents", inputs: { seed: [object.seed] } } });
    return Float32Array.from((outputs.z ?? outputs)[0]);
  }

  // Which labels a latent has, 0 and 1 in the order of `labels`: the nearest of what can be told, between two objects, too.
  labelsOf(z) {
    const numbers = [...z.slice(z.length - this.labels.length)];
    const most = numbers.indexOf(Math.max(...numbers));
    return Float32Array.from(numbers, (number, i) => Number(number > 0.5 || i === most));
  }

  // The latent with others.
  labelled(z, labels) {
    const other = Float32Array.from(z);
    other.set(labels, z.length - labels.length);
    return other;
  }

  #drawn(seed) {
    const uniform = random(seed);
    const [low, high] = this.latentRange;
    const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    const z = Float32Array.from({ length: this.zDim }, () => (this.uniform ? low + (high - low) * uniform() : normal()));
    if (!this.labels.length) return z;
    const shown = Math.floor(uniform() * this.labels.length);
    return this.labelled(z, this.labels.map((_, i) => Number(i === shown)));
  }

  // A GIF of a turn, made by the server.
  film(object, { azimuth_deg, ...view }) {
    return this.#file("turntable", object, { ...view, frames: FRAMES, format: "gif" });
  }

  // Its surface, a GLB.
  mesh(object) {
    return this.#file("mesh", object, {});
  }
}
