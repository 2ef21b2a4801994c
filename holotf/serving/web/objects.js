// Objects: {seed} or {z}, their text in links and in what is kept, and the way between two of them.

const SEEDS = 1000000; // few enough to be read out

export const drawn = (below = SEEDS) => ({ seed: Math.floor(Math.random() * below) });

// "seed=5" or "z=<base64url of float32, little-endian>"
export function written(object) {
  if ("seed" in object) return `seed=${object.seed}`;
  const text = btoa(String.fromCharCode(...new Uint8Array(object.z.buffer)));
  return `z=${text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

// The object of such a text, also with more behind it; null where it is none, or of another model.
export function read(text, zDim) {
  const told = new URLSearchParams(text);
  if (/^\d{1,10}$/.test(told.get("seed") ?? "") && Number(told.get("seed")) < 2 ** 31) return { seed: Number(told.get("seed")) };
  try {
    const bytes = Uint8Array.from(atob((told.get("z") ?? "").replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const z = new Float32Array(bytes.buffer);
    return z.length === zDim && z.every(Number.isFinite) ? { z } : null;
  } catch {
    return null; // no base64, or no whole numbers
  }
}

export const named = (object) => ("seed" in object ? `Object ${object.seed}` : "Object without a number");

// Random numbers in [0, 1) of a seed: mulberry32, a hash of a counter. Math.random takes no seed.
export function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Latents at a fraction of the way from a to b. Of a uniform distribution the straight line stays inside it; normal latents lie
// near a sphere, so the way goes along it: slerp(a, b; t) = (sin((1 - t) w) a + sin(t w) b) / sin w, w the angle between them.
export function between(a, b, t, uniform) {
  let [of_a, of_b] = [1 - t, t];
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  if (!uniform && Math.abs(cosine) < 0.999) {
    const angle = Math.acos(cosine);
    [of_a, of_b] = [Math.sin(of_a * angle) / Math.sin(angle), Math.sin(of_b * angle) / Math.sin(angle)];
  }
  return a.map((value, i) => of_a * value + of_b * b[i]);
}

// The browser's store; where it is locked or full, what would be kept is gone when the page is closed.
export const store = {
  get(key) {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  },
  set(key, text) {
    try {
      localStorage.setItem(key, text);
    } catch {
      // see above
    }
  },
};

// What the visitor keeps of a model, in the browser's store: [{object: text, picture: address of data}], the last one first.
export class Kept {
  #key;

  constructor(model, most = 24) {
    this.#key = `holotf.kept.${model.name}.${model.zDim}`;
    this.most = most;
    try {
      const told = JSON.parse(store.get(this.#key) ?? "[]");
      this.list = told.filter(({ object, picture }) => read(object, model.zDim) && /^data:image\/png;/.test(picture));
    } catch {
      this.list = []; // the store holds something else
    }
  }

  add(object, picture) {
    this.#set([{ object, picture }, ...this.list.filter((kept) => kept.object !== object)].slice(0, this.most));
  }

  drop(object) {
    this.#set(this.list.filter((kept) => kept.object !== object));
  }

  #set(list) {
    this.list = list;
    store.set(this.#key, JSON.stringify(list));
  }
}
