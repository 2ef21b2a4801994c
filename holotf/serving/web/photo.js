// Which object is in a picture, seen from where? A search through what the model can make, which needs no gradient of it.

import { random } from "./objects.js";

const AZIMUTHS = 24; // from which the first guess is looked at
const SCALES = [1, 2, 4, 8]; // of the first guess: what a discriminator reads of a latent is timid
const DRAWN = 92; // latents beside them
const ROUNDS = 6;
const BORN = 40; // of each round
const PARENTS = 16; // those of least error, of which the next round is born
const LEAST = 0.05; // standard deviation of what is born, in half ranges: else a round stands still
const TURN_DEG = 7.5; // standard deviation of a round's azimuths at first, half a step of the first ones

// The square in the middle of a picture (anything that can be drawn) as the model sees it: RGB, [size * size * 3], on white.
export function pixels(picture, size) {
  const canvas = new OffscreenCanvas(size, size);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const side = Math.min(picture.width, picture.height);
  context.fillStyle = "white";
  context.fillRect(0, 0, size, size);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, size, size);
  return context.getImageData(0, 0, size, size).data.filter((_, i) => i % 4 < 3);
}

// Root mean square difference, of pixels in [0, 255].
export function apart(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return Math.sqrt(sum / a.length);
}

// {z, azimuth_deg, elevation_deg, error}: of what was tried that whose image is most like `photo`.
//
// The cross-entropy method (Rubinstein 1999): each round is drawn about the best of the rounds before. It begins with the latent that
// the model reads off the photo, seen from all round, and goes on with the best azimuth. The same photo gives the same answer.
// model: has encode(photo) -> z, made(latents, views) -> images like `photo`, ranges, closes, uniform, latentRange, zDim.
// tell(share): how much is done, from 0 to 1.
export async function explain(photo, model, tell = () => {}) {
  const draw = random(1);
  const normal = () => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
  const [least, most] = model.uniform ? model.latentRange : [-3, 3];
  const inside = (z) => z.map((value) => Math.min(most, Math.max(least, value)));
  const ranges = ["azimuth_deg", "elevation_deg"].map((key) => model.ranges[key]);
  const rest = { elevation_deg: (ranges[1][0] + ranges[1][1]) / 2, scale: (model.ranges.scale[0] + model.ranges.scale[1]) / 2 };
  const all = AZIMUTHS + SCALES.length + DRAWN + ROUNDS * BORN;
  let done = 0;

  async function tried(candidates) {
    const images = await model.made(candidates.map(({ z }) => z), candidates.map(({ view }) => view));
    done += candidates.length;
    tell(done / all);
    return candidates.map((one, i) => ({ ...one, error: apart(images[i], photo) }));
  }

  const best = (found) => found.toSorted((a, b) => a.error - b.error);
  const guess = inside(await model.encode(photo));
  const [low, high] = ranges[0];
  const steps = AZIMUTHS - (model.closes ? 0 : 1);
  const round = Array.from({ length: AZIMUTHS }, (_, i) => ({
    z: guess,
    view: { ...rest, azimuth_deg: low + ((high - low) * i) / Math.max(steps, 1) },
  }));
  const [{ view }] = best(await tried(round));
  const drawn = Array.from({ length: DRAWN }, () => guess.map(() => (model.uniform ? least + (most - least) * draw() : normal())));
  let found = best(await tried([...SCALES.map((scale) => inside(guess.map((value) => scale * value))), ...drawn].map((z) => ({ z, view }))));
  for (let i = 0; i < ROUNDS; i++) {
    const parents = found.slice(0, PARENTS);
    const spread = (of, atLeast) => {
      const mean = parents.reduce((sum, one) => sum + of(one), 0) / PARENTS;
      return [mean, Math.max(atLeast, Math.sqrt(parents.reduce((sum, one) => sum + (of(one) - mean) ** 2, 0) / PARENTS))];
    };
    const born = ([mean, deviation]) => mean + deviation * normal();
    const latent = Array.from({ length: model.zDim }, (_, at) => spread(({ z }) => z[at], (LEAST * (most - least)) / 2));
    // Azimuths are near each other from the first round on, so they have a mean, across the seam of the circle, too.
    const views = ranges.map(([from, to], at) => {
      const key = ["azimuth_deg", "elevation_deg"][at];
      return spread(({ view: seen }) => seen[key], at ? (to - from) / 8 : TURN_DEG / (1 + i / 2));
    });
    const next = Array.from({ length: BORN }, () => {
      let [azimuth, elevation] = views.map(born);
      if (!model.closes) azimuth = Math.min(high, Math.max(low, azimuth));
      elevation = Math.min(ranges[1][1], Math.max(ranges[1][0], elevation));
      return { z: inside(Float32Array.from(latent, born)), view: { ...rest, azimuth_deg: azimuth, elevation_deg: elevation } };
    });
    found = best([...parents, ...(await tried(next))]);
  }
  const [{ z, view: seen, error }] = found;
  return { z: Float32Array.from(z), azimuth_deg: seen.azimuth_deg, elevation_deg: seen.elevation_deg, error };
}
