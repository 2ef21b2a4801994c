// The model behind a page without a server: web/worker.js runs it in this browser.

import { latent } from "./draw.js";
import { Model, imageData } from "./model.js";

const FRAMES = 36; // of a film
const FRAME_MS = 60;

const told = async (url) => {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: status ${response.status}`);
  return response;
};

// Depths in [-1, 1], a square of them, as grey pixels, enlarged bilinearly: RGB, [size * size * 3].
function grey(depths, size) {
  const side = Math.sqrt(depths.length);
  const taps = Array.from({ length: size }, (_, i) => {
    const at = Math.min(Math.max(((i + 0.5) * side) / size - 0.5, 0), side - 1);
    const low = Math.min(Math.floor(at), side - 2);
    return [low, at - low];
  });
  const rgb = new Uint8ClampedArray(size * size * 3);
  for (const [y, [row, below]] of taps.entries()) {
    for (const [x, [column, right]] of taps.entries()) {
      const across = (i) => depths[i] + right * (depths[i + 1] - depths[i]);
      const [above, under] = [across(row * side + column), across((row + 1) * side + column)];
      const at = 3 * (y * size + x);
      rgb.fill((above + below * (under - above) + 1) * 127.5, at, at + 3);
    }
  }
  return rgb;
}

export class Local extends Model {
  #worker;
  #asked = new Map(); // id -> {resolve, reject}
  #last = Promise.resolve(); // what the worker does, one after the other
  #count = 0;

  // url: of model.json; said: what it holds (holotf/static_page.py); worker: that has the model.
  constructor(url, said, card, worker) {
    const { name, inputs, latents } = said;
    super(`models/${encodeURIComponent(name)}`, card, { serving_default: { inputs }, ...(latents ? { latents: {} } : {}) }, true);
    Object.assign(this, { latents, seeds: latents?.seeds, base: url, depths: "depth" in said.parts, meshes: false });
    this.#worker = worker;
    worker.addEventListener("message", ({ data: { id, error, found } }) => {
      const { resolve, reject } = this.#asked.get(id);
      this.#asked.delete(id);
      if (error) reject(new Error(error));
      else resolve(found);
    });
    worker.addEventListener("error", (event) => {
      for (const { reject } of this.#asked.values()) reject(new Error(`The model broke: ${event.message}`));
      this.#asked.clear();
    });
  }

  static async open(url) {
    const beside = (name) => new URL(name, url);
    const [said, card] = await Promise.all(["model.json", "card.json"].map(async (name) => (await told(beside(name))).json()));
    const model = new Local(url, said, card, new Worker(new URL("worker.js", import.meta.url), { type: "module" }));
    const parts = Object.fromEntries(Object.entries(said.parts).map(([name, file]) => [name, beside(file).href]));
    await model.#ask({ parts });
    return model;
  }

  // One request at a time, so that those which nobody wants any more are dropped before the worker has them.
  #ask(message, signal) {
    const asked = this.#last.then(() => {
      signal?.throwIfAborted();
      const id = ++this.#count;
      return new Promise((resolve, reject) => {
        this.#asked.set(id, { resolve, reject });
        this.#worker.postMessage({ id, ...message });
      });
    });
    this.#last = asked.catch(() => {});
    return asked;
  }

  async image(object, view, signal) {
    return createImageBitmap(await this.#drawn(await this.latent(object), view, signal));
  }

  async #drawn(z, view, signal) {
    const data = await this.#made(z, view, signal, view.show);
    return imageData(view.show === "depth" ? grey(data, this.size) : data);
  }

  async made(latents, views, signal) {
    const images = [];
    for (const [i, z] of latents.entries()) images.push(await this.#made(z, views[i], signal));
    return images;
  }

  // What the model makes of a latent: RGB, or how near it is where `show` is "depth".
  async #made(z, view, signal, show) {
    const feeds = Object.fromEntries(
      Object.entries(this.inputs).map(([key, shape]) => {
        const size = shape.reduce((product, n) => product * n, 1);
        return [key, { shape, data: key === "z" ? z : new Float32Array(size).fill(view[key] ?? 0) }];
      }),
    );
    return (await this.#ask({ feeds, show }, signal)).data;
  }

  async latent(object) {
    if ("z" in object) return object.z;
    if (!this.latents?.file) return this.latents ? latent(object.seed, this.zDim, this.latents) : super.latent(object);
    if (object.seed >= this.seeds) throw new Error(`This page has objects 0 to ${this.seeds - 1}.`);
    this.table ??= told(new URL(this.latents.file, this.base)).then(async (response) => new Float32Array(await response.arrayBuffer()));
    return (await this.table).slice(object.seed * this.zDim, (object.seed + 1) * this.zDim);
  }

  // A GIF of a turn: through the whole range of azimuths, there and back where that is no circle.
  async film(object, view) {
    const { GIFEncoder, applyPalette, quantize } = await import("../runtime/gifenc.esm.js");
    const z = await this.latent(object);
    const [low, high] = this.ranges.azimuth_deg;
    const film = GIFEncoder();
    for (let frame = 0; frame < FRAMES; frame++) {
      const phase = frame / FRAMES;
      const way = this.closes ? phase : 1 - Math.abs(2 * phase - 1);
      const { data, width, height } = await this.#drawn(z, { ...view, azimuth_deg: low + (high - low) * way });
      const palette = quantize(data, 256);
      film.writeFrame(applyPalette(data, palette), width, height, { palette, delay: FRAME_MS });
    }
    film.finish();
    return new Blob([film.bytes()], { type: "image/gif" });
  }
}
