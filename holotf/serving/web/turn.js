// The view: angles and scale within the model's ranges, how a drag changes them, and how they go on by themselves.

// Views lie on a grid, so that the frames of one turn serve the next: degrees, degrees, and 1.
export const STEPS = { azimuth_deg: 2, elevation_deg: 1, scale: 0.02 };
const AHEAD = 4; // views fetched before they are wanted, in the direction of the turn
const COAST_S = 0.35; // in which momentum falls to 1/e
const TURNTABLE_DEG_S = 60;
const SLOW_DEG_S = 4; // at which momentum ends

export class Turn {
  speed = 0; // degrees a second, of the momentum
  playing = false;
  #direction = 1;

  constructor({ ranges, closes, turns }) {
    Object.assign(this, { ranges, closes, turns });
    this.at = Object.fromEntries(Object.entries(ranges).map(([key, [low, high]]) => [key, (low + high) / 2]));
    if (closes) this.at.azimuth_deg = ranges.azimuth_deg[0];
  }

  free(key) {
    return this.turns && this.ranges[key][1] > this.ranges[key][0];
  }

  // The view on the grid, which starts at each range's lower end.
  view(at = this.at) {
    const snapped = ([key, [low, high]]) => {
      const value = Math.min(low + Math.round((at[key] - low) / STEPS[key]) * STEPS[key], high);
      const wraps = key === "azimuth_deg" && this.closes && value - low >= 360;
      return [key, Number((wraps ? value - 360 : value).toFixed(4))];
    };
    return this.turns ? Object.fromEntries(Object.entries(this.ranges).map(snapped)) : {};
  }

  set(key, value) {
    if (this.turns && Number.isFinite(value)) this.at[key] = this.#within(key, value);
  }

  #within(key, value) {
    const [low, high] = this.ranges[key];
    const wraps = key === "azimuth_deg" && this.closes;
    return wraps ? low + ((((value - low) % 360) + 360) % 360) : Math.min(Math.max(value, low), high);
  }

  // A change of the angles in degrees, of the scale by a factor.
  by(azimuth, elevation, factor = 1) {
    this.set("azimuth_deg", this.at.azimuth_deg + azimuth);
    this.set("elevation_deg", this.at.elevation_deg + elevation);
    this.set("scale", this.at.scale * factor);
    if (azimuth) this.#direction = Math.sign(azimuth);
  }

  // Views that come next if it goes on as it went.
  ahead() {
    if (!this.turns) return [];
    const next = (n) => this.#within("azimuth_deg", this.at.azimuth_deg + n * this.#direction * STEPS.azimuth_deg);
    return Array.from({ length: AHEAD }, (_, n) => this.view({ ...this.at, azimuth_deg: next(n + 1) }));
  }

  // Goes on by itself for so many seconds; whether it moved.
  go(seconds) {
    if (this.playing) {
      const before = this.at.azimuth_deg;
      this.by(this.#direction * TURNTABLE_DEG_S * seconds, 0);
      if (!this.closes && this.at.azimuth_deg === before) this.#direction *= -1; // there and back where it is no circle
      return true;
    }
    if (Math.abs(this.speed) < SLOW_DEG_S) return false;
    this.by(this.speed * seconds, 0);
    this.speed *= Math.exp(-seconds / COAST_S);
    return true;
  }
}
