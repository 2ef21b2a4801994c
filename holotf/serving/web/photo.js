// Which object is in a picture, seen from where? A search through what the model can make, which needs no gradient of it.

import { random } from "./objects.js";

const AZIMUTHS = 24; // from which the object in the middle of all is looked at
const APART_DEG = 45; // between the two best of them, at least
const DRAWN = 48; // latents that are tried at both
const ROUNDS = 6;
const BORN = 40; // of each round
const PARENTS = 16; // those of least error, of which the next round is born
const LEAST = 0.05; // standard deviation of what is born, in half ranges: else a round stands still
const TURN_DEG = 7.5; // of a round's azimuths at first, at least: half a step of the first ones
const TRIES = AZIMUTHS + 2 * DRAWN + ROUNDS * BORN;

// The square in the middle of a picture (anything that can be drawn) as the model sees it: RGB, [size * size * 3], on white.
export function pixels(picture, size) {
  const context = new OffscreenCanvas(size, size).getContext("2d", { willReadFrequently: true });
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

const byError = (found) => found.toSorted((a, b) => a.error - b.error);
const clipped = (value, [low, high]) => Math.min(high, Math.max(low, value));

// Mean and standard deviation of numbers.
function spread(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return [mean, Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)];
}

// {z, azimuth_deg, elevation_deg}: of what was tried that whose image is most like `photo`, RGB of the model's size.
//
// First the latent in the middle, from all round; then others at the two azimuths that were most alike; then the cross-entropy
// method (Rubinstein 1999): each round is drawn about the best so far. The same photo gives the same answer.
// model: a Model that turns. tell(share): how much is done, from 0 to 1; it may throw, which ends the search. labels: fixed in every
// latent that is tried; [] where the model is told none.
export async function explain(photo, model, tell = () => {}, labels = []) {
  const draw = random(1);
  const normal = () => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
  const range = model.uniform ? model.latentRange : [-3, 3];
  const width = (range[1] - range[0]) / 2;
  const told = (z) => (labels.length ? model.labelled(z, labels) : z);
  const fresh = () => told(Float32Array.from({ length: model.zDim }, () => (model.uniform ? range[0] + 2 * width * draw() : normal())));
  const { azimuth_deg: circle, elevation_deg: heights, scale } = model.ranges;
  const middle = ([low, high]) => (low + high) / 2;
  const seen = (azimuth, elevation = middle(heights)) => ({
    azimuth_deg: model.closes ? azimuth : clipped(azimuth, circle),
    elevation_deg: clipped(elevation, heights),
    scale: middle(scale),
  });

  let done = 0;
  async function tried(candidates) {
    const images = await model.made(candidates.map(({ z }) => z), candidates.map(({ view }) => view));
    done += candidates.length;
    tell(done / TRIES);
    return candidates.map((one, i) => ({ ...one, error: apart(images[i], photo) }));
  }

  const between = (a, b) => {
    const turned = Math.abs(a - b) % 360;
    return model.closes ? Math.min(turned, 360 - turned) : Math.abs(a - b);
  };
  const centre = told(new Float32Array(model.zDim).fill(middle(range)));
  const step = (circle[1] - circle[0]) / (model.closes ? AZIMUTHS : AZIMUTHS - 1);
  const round = await tried(Array.from({ length: AZIMUTHS }, (_, i) => ({ z: centre, view: seen(circle[0] + i * step) })));
  const [first, ...others] = byError(round).map(({ view }) => view);
  const second = others.find((view) => between(view.azimuth_deg, first.azimuth_deg) >= APART_DEG) ?? others[0];
  const latents = Array.from({ length: DRAWN }, fresh);
  const sides = [];
  for (const view of [first, second]) sides.push(byError(await tried(latents.map((z) => ({ z, view })))));
  const good = ([...side]) => spread(side.slice(0, 5).map(({ error }) => error))[0];
  let found = good(sides[0]) <= good(sides[1]) ? sides[0] : sides[1];

  for (let i = 0; i < ROUNDS; i++) {
    const parents = found.slice(0, PARENTS);
    const of = (read, least) => {
      const [mean, deviation] = spread(parents.map(read));
      return () => mean + Math.max(least, deviation) * normal();
    };
    const numbers = Array.from({ length: model.zDim }, (_, at) => of(({ z }) => z[at], LEAST * width));
    // Azimuths lie side by side from here on, and go on beyond the seam of the circle: they have a mean.
    const azimuth = of(({ view }) => view.azimuth_deg, TURN_DEG / (1 + i / 2));
    const elevation = of(({ view }) => view.elevation_deg, (heights[1] - heights[0]) / 8);
    const born = Array.from({ length: BORN }, () => ({
      z: told(Float32Array.from(numbers, (number) => clipped(number(), range))),
      view: seen(azimuth(), elevation()),
    }));
    found = byError([...parents, ...(await tried(born))]);
  }
  const [{ z, view }] = found;
  return { z, azimuth_deg: view.azimuth_deg, elevation_deg: view.elevation_deg };
}
