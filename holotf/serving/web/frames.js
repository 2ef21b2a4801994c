// Frames of views: the last one wanted is shown as soon as it can be; the next ones are fetched before they are wanted.

import { Away } from "./model.js";
import { written } from "./objects.js";

const IN_FLIGHT = 2; // requests
const KEPT = 720; // frames
const WAITS_MS = [500, 1000, 2000, 4000]; // between tries while the server is away

const keyOf = ({ object, view }) => `${written(object)} ${Object.values(view).join(" ")}`;

export class Frames {
  #flying = new Map(); // key -> {controller, order, since}; order 0: nobody wants it yet
  #kept = new Map(); // key -> ImageBitmap, the oldest first
  #wanted = null;
  #ahead = [];
  #order = 0; // of wishes
  #shown = 0; // the order of the wish whose frame is shown
  #away = false;

  // show(bitmap, {object, view, since, kept}); trouble(text), null when it is over; requests: told {inFlight, most, sent}.
  constructor(model, show, trouble, requests) {
    Object.assign(this, { model, show, trouble, requests });
  }

  // since: performance.now() of what the visitor did; ahead: views that may be wanted next, the likeliest first.
  want(object, view, since, ahead = []) {
    const wanted = { object, view, since, order: ++this.#order };
    wanted.key = keyOf(wanted);
    if (this.#wanted && written(this.#wanted.object) !== written(object)) this.#drop(() => true);
    this.#wanted = wanted;
    this.#ahead = ahead.map((next) => ({ object, view: next, key: keyOf({ object, view: next }) }));
    const bitmap = this.#kept.get(wanted.key);
    if (bitmap) this.#showIfNew(bitmap, wanted, true);
    this.#pump();
  }

  // Requests are dropped for a newer wish, but not one that was wanted while the hand moves on: its frame is better than none.
  #drop(which) {
    for (const [key, flying] of this.#flying) {
      if (which(flying)) {
        flying.controller.abort();
        this.#flying.delete(key);
      }
    }
  }

  #pump() {
    if (this.#away) return;
    const wanted = this.#wanted;
    if (wanted && this.#shown < wanted.order) {
      if (this.#flying.has(wanted.key)) Object.assign(this.#flying.get(wanted.key), { order: wanted.order, since: wanted.since });
      else {
        if (this.#flying.size >= IN_FLIGHT) this.#drop(({ order }) => order === 0);
        if (this.#flying.size >= IN_FLIGHT) return; // it goes out when one has come, if it is still the last
        this.#fetch(wanted);
      }
    }
    while (this.#flying.size < IN_FLIGHT && this.#ahead.length) {
      const next = this.#ahead.shift();
      if (!this.#kept.has(next.key) && !this.#flying.has(next.key)) this.#fetch({ ...next, order: 0, since: 0 });
    }
  }

  async #fetch({ object, view, key, order, since }) {
    const flying = { controller: new AbortController(), order, since };
    this.#flying.set(key, flying);
    this.requests.sent += 1;
    this.#count();
    try {
      const bitmap = await this.model.image(object, view, flying.controller.signal);
      if (flying.controller.signal.aborted) return;
      this.#keep(key, bitmap);
      if (flying.order) this.#showIfNew(bitmap, { object, view, ...flying }, false);
    } catch (error) {
      if (flying.controller.signal.aborted) return;
      this.#failed(error, flying);
    } finally {
      if (this.#flying.get(key) === flying) this.#flying.delete(key);
      this.#count();
      this.#pump();
    }
  }

  #count() {
    this.requests.inFlight = this.#flying.size;
    this.requests.most = Math.max(this.requests.most, this.requests.inFlight);
  }

  #keep(key, bitmap) {
    this.#kept.set(key, bitmap);
    for (const [oldest, dropped] of this.#kept) {
      if (this.#kept.size <= KEPT) break;
      this.#kept.delete(oldest);
      dropped.close();
    }
  }

  #showIfNew(bitmap, { object, view, since, order }, kept) {
    if (order <= this.#shown) return;
    this.#shown = order;
    this.show(bitmap, { object, view, since, kept });
  }

  #failed(error, flying) {
    if (error instanceof Away) {
      this.#wait();
    } else {
      this.#ahead = [];
      this.#shown = Math.max(this.#shown, flying.order); // asked again it would be refused again
      this.trouble(error.message);
    }
  }

  async #wait() {
    if (this.#away) return;
    this.#away = true;
    this.#drop(() => true);
    this.trouble("The server is away. Trying again…");
    for (let tries = 0; this.#away; tries++) {
      await new Promise((resolve) => setTimeout(resolve, WAITS_MS[Math.min(tries, WAITS_MS.length - 1)]));
      try {
        if (!(await this.model.alive())) location.reload(); // it came back as another model
        this.#away = false;
      } catch (error) {
        if (!(error instanceof Away)) location.reload();
      }
    }
    this.trouble(null);
    this.#pump();
  }
}
