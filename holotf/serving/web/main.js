// The page: what the visitor does becomes an object and a view, which frames.js shows.
// Beside the view it knows whether depth is shown, and of a model that is told labels which ones the visitor chose.
//
// Addresses: ?server=http://HOST:PORT[/v1/models/NAME] shows another server's model, TensorFlow Serving's too (it needs NAME, and
// ?card=URL for the ranges of its views); #seed=5&azimuth_deg=40&elevation_deg=20&scale=1 is an object and a view,
// &show=depth how near it is.

import { Frames } from "./frames.js";
import { Away, Model } from "./model.js";
import { Kept, between, drawn, named, read, store, written } from "./objects.js";
import { apart, explain, pixels } from "./photo.js";
import { STEPS, Turn } from "./turn.js";

const DRAG_DEG = 0.5; // a pixel
const WHEEL = 0.001; // of the scale's logarithm, a pixel of the wheel
const KEY_SCALE = 1.05;
const SHOWN = 500; // frames that are remembered
const UNITS = { azimuth_deg: "°", elevation_deg: "°", scale: "" };

// What was shown, for tests and measurements: of each frame {object, azimuth_deg, elevation_deg, scale, latency_ms, kept};
// latency_ms from what the visitor did to the drawn canvas, kept: it lay there already; and {show: "depth"} where that was. requests: {inFlight, most, sent}.
window.holotf = { shown: [], requests: { inFlight: 0, most: 0, sent: 0 } };

const $ = (id) => document.getElementById(id);
const picture = $("picture");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let model, turn, frames, kept;
let object = null;
let seen = null; // the object in the picture, which a slow server leaves behind
let depth = false; // whether it is depth that is shown
let told = false; // whether new objects are to show what the boxes say; else whatever they may
let troubled = false; // whether an error is shown
let missing = false; // whether it is one of a frame that could not be had
let walked = null; // latents of the two ends of the walk, by their texts

function say(text, trouble = false) {
  troubled = trouble;
  $("status").textContent = text;
  $("status").classList.toggle("trouble", trouble);
}

// Runs what a button asks for; what goes wrong is said.
const doing = (action) => async (event) => {
  if (troubled && !missing) say("");
  try {
    await action(event);
  } catch (error) {
    say(error instanceof Away ? "The server is away. Try again in a moment." : error.message, true);
  }
};

// --- showing

function draw(bitmap, { object: pictured, view, since, kept: there }) {
  if (picture.width !== bitmap.width || picture.height !== bitmap.height) [picture.width, picture.height] = [bitmap.width, bitmap.height];
  picture.getContext("2d").drawImage(bitmap, 0, 0);
  if (seen !== pictured) tick(pictured);
  seen = pictured;
  window.holotf.shown.push({ object: written(pictured), ...view, latency_ms: performance.now() - since, kept: there });
  window.holotf.shown.splice(0, window.holotf.shown.length - SHOWN);
  if (missing) {
    missing = false;
    say("");
  }
}

// What is wanted of a view: the picture, or its depth.
const showing = (view) => (depth ? { ...view, show: "depth" } : view);

function want(since = performance.now()) {
  frames.want(object, showing(turn.view()), since, turn.ahead().map(showing));
  for (const key of Object.keys(STEPS)) {
    if (!turn.free(key)) continue;
    const value = turn.view()[key];
    $(key).value = value;
    $(key).nextElementSibling.value = `${key === "scale" ? value.toFixed(2) : value}${UNITS[key]}`;
  }
  settle();
}

const hash = () => `#${written(object)}${turn.turns ? `&${new URLSearchParams(showing(turn.view()))}` : ""}`;

// When the hand rests: the link, and what a screen reader says. Not before, as both are slow.
const settle = (() => {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const view = turn.view();
      const angles = turn.turns ? `, azimuth ${view.azimuth_deg}°, elevation ${view.elevation_deg}°` : "";
      picture.setAttribute("aria-label", named(object) + angles);
      $("name").textContent = named(object);
      history.replaceState(null, "", hash());
      if (!troubled && !turn.playing) say(named(object) + angles);
    }, 400);
  };
})();

function choose(next, since) {
  object = next;
  if (troubled && !missing) say("");
  $("alike").textContent = "";
  for (const button of document.querySelectorAll("#kept .object")) {
    button.setAttribute("aria-current", String(button.dataset.object === written(object)));
  }
  want(since);
}

// A new object: of a model that is told labels, with those that are ticked, if the visitor ticked any.
async function fresh(since) {
  const [next, of] = [drawn(model.seeds), object];
  if (!told) return choose(next, since);
  const z = model.labelled(await model.latent(next), ticked());
  if (object === of) choose({ z }, since); // else another one was chosen meanwhile
}

function follow(text) {
  const asked = new URLSearchParams(text);
  showDepth(asked.get("show") === "depth");
  for (const key of Object.keys(STEPS)) if (asked.has(key)) turn.set(key, Number(asked.get(key)));
  choose(read(text, model.zDim) ?? object ?? drawn(model.seeds));
}

function showDepth(on) {
  depth = on && model.depths;
  $("depth").setAttribute("aria-pressed", String(depth));
}

// --- what an object shows, of a model that is told

const boxes = () => [...$("labels").querySelectorAll("input")];
const ticked = () => Float32Array.from(boxes(), (box) => Number(box.checked));

function labels() {
  const entry = (name, i) => {
    const [label, box] = [document.createElement("label"), document.createElement("input")];
    Object.assign(box, { type: model.mostLabels === 1 ? "radio" : "checkbox", name: "label", id: `label-${i}` });
    box.addEventListener("change", doing(() => tell(box)));
    label.append(box, name);
    return label;
  };
  $("labels").replaceChildren(...model.labels.map(entry));
  $("told").hidden = model.labels.length === 0;
}

// The same object with what was ticked; new ones will show it, too.
async function tell(box) {
  const count = ticked().reduce((sum, one) => sum + one, 0);
  if (count < 1 || count > model.mostLabels) {
    box.checked = !box.checked;
    throw new Error(count ? `This model shows ${model.mostLabels} of them at most.` : "An object shows one of them at least.");
  }
  told = true;
  const of = object;
  const z = await model.latent(of);
  if (object === of) choose({ z: model.labelled(z, ticked()) }); // with what was ticked meanwhile
}

// A new object that shows whatever it may.
function any(since) {
  told = false;
  return fresh(since);
}

// Ticks what an object shows, once it is seen.
async function tick(of) {
  if (!model.labels.length) return;
  const z = await model.latent(of).catch(() => null); // the next frame asks again
  if (z && object === of) for (const [i, on] of model.labelsOf(z).entries()) boxes()[i].checked = Boolean(on);
}

// --- turning

let last = null; // time of the last step of what goes on by itself
function go(now) {
  const moved = turn.go(Math.min((now - (last ?? now)) / 1000, 0.1));
  last = now;
  if (moved || turn.playing) {
    want(now);
    requestAnimationFrame(go);
  } else {
    last = null;
  }
}

function start() {
  if (last === null) requestAnimationFrame(go);
}

function play(on) {
  turn.playing = on;
  $("play").setAttribute("aria-pressed", String(on));
  $("play").textContent = on ? "Pause" : "Turntable";
  if (on) start();
  else settle();
}

// The object follows the hand: to the left shows more of its right side, as the camera's azimuth grows; down shows its top.
function drag() {
  const held = new Map(); // pointers, [x, y]
  let spread = null;
  let moved = 0; // time of the last move
  picture.addEventListener("pointerdown", (event) => {
    picture.setPointerCapture(event.pointerId);
    held.set(event.pointerId, [event.clientX, event.clientY]);
    turn.speed = 0;
    spread = null;
    if (turn.playing) play(false);
  });
  picture.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const [x, y] = held.get(event.pointerId);
    held.set(event.pointerId, [event.clientX, event.clientY]);
    if (held.size === 2) {
      const [a, b] = [...held.values()];
      const now = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (spread) turn.by(0, 0, now / spread);
      spread = now;
    } else if (held.size === 1) {
      const azimuth = (x - event.clientX) * DRAG_DEG;
      turn.by(azimuth, (event.clientY - y) * DRAG_DEG);
      const seconds = Math.max((event.timeStamp - moved) / 1000, 0.004);
      turn.speed = 0.7 * turn.speed + 0.3 * (azimuth / seconds);
    }
    moved = event.timeStamp;
    want(event.timeStamp);
  });
  const released = (event) => {
    held.delete(event.pointerId);
    spread = null;
    const rested = event.timeStamp - moved > 60; // ms: the hand had stopped before it let go
    if (held.size || rested || calm.matches) turn.speed = 0;
    else start();
  };
  for (const name of ["pointerup", "pointercancel"]) picture.addEventListener(name, released);
  picture.addEventListener(
    "wheel",
    (event) => {
      if (!turn.free("scale")) return;
      event.preventDefault();
      turn.by(0, 0, Math.exp(-event.deltaY * WHEEL));
      want(event.timeStamp);
    },
    { passive: false },
  );
}

function keys() {
  const steps = {
    ArrowLeft: [2 * STEPS.azimuth_deg, 0],
    ArrowRight: [-2 * STEPS.azimuth_deg, 0],
    ArrowUp: [0, -2 * STEPS.elevation_deg],
    ArrowDown: [0, 2 * STEPS.elevation_deg],
    "+": [0, 0, KEY_SCALE],
    "=": [0, 0, KEY_SCALE], // + without Shift
    "-": [0, 0, 1 / KEY_SCALE],
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select")) return;
    if (event.key.toLowerCase() === "n") doing(() => fresh(event.timeStamp))();
    else if (event.key === " " && turn.turns && !event.target.closest("button")) play(!turn.playing);
    else if (event.key in steps && turn.turns) {
      turn.speed = 0;
      turn.by(...steps[event.key]);
      want(event.timeStamp);
    } else return;
    event.preventDefault();
  });
}

// --- the visitor's own picture, which does not leave the browser

let sought = null; // the file whose object is being looked for
async function photo(file) {
  if (!file) return;
  sought = file;
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error("The browser cannot read that file as a picture.");
  });
  const progress = (share) => {
    if (sought !== file) throw new DOMException("another picture came", "AbortError");
    say(`Looking for the object in your picture: ${Math.round(100 * share)} %`);
  };
  try {
    const wanted = pixels(bitmap, model.size ?? picture.width);
    const shows = model.labels.length ? model.labelsOf(await model.latent(object)) : [];
    const { z, ...view } = await explain(wanted, model, progress, shows);
    if (turn.playing) play(false);
    say("");
    for (const [key, value] of Object.entries(view)) turn.set(key, value);
    const [made] = await model.made([z], [turn.view()]);
    choose({ z });
    $("alike").textContent = `The object most like your picture of what was tried: its pixels are off by ${Math.round(apart(made, wanted))} of 255.`;
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

function photos() {
  const file = $("file");
  $("photo").hidden = false;
  $("photo").addEventListener("click", () => file.click());
  file.addEventListener("change", doing(() => photo(file.files[0])));
  const stage = document.querySelector(".stage");
  stage.addEventListener("dragover", (event) => event.preventDefault());
  stage.addEventListener(
    "drop",
    doing((event) => {
      event.preventDefault();
      return photo(event.dataTransfer.files[0]);
    }),
  );
}

// --- what is kept, and the walk

function keep() {
  if (!seen) throw new Error("There is no picture yet.");
  kept.add(written(seen), picture.toDataURL("image/png"));
  strip();
}

function strip() {
  const entry = ({ object: text, picture: address }) => {
    const [item, button, image, drop] = ["li", "button", "img", "button"].map((name) => document.createElement(name));
    const name = named(read(text, model.zDim));
    Object.assign(image, { src: address, alt: name, width: 64, height: 64 });
    Object.assign(button, { type: "button", className: "object" });
    button.dataset.object = text;
    button.setAttribute("aria-current", String(text === written(object)));
    button.append(image);
    button.addEventListener("click", (event) => choose(read(text, model.zDim), event.timeStamp));
    Object.assign(drop, { type: "button", className: "drop", textContent: "×" });
    drop.setAttribute("aria-label", `Drop ${name}`);
    drop.addEventListener("click", () => (kept.drop(text), strip()));
    item.append(button, drop);
    return item;
  };
  $("kept").replaceChildren(...kept.list.map(entry));
  $("none").hidden = kept.list.length > 1;
  $("walk").hidden = kept.list.length < 2;
  const chosen = [$("from").value, $("to").value];
  for (const [i, select] of [$("from"), $("to")].entries()) {
    select.replaceChildren(...kept.list.map(({ object: text }) => new Option(named(read(text, model.zDim)), text)));
    const there = kept.list.some((one) => one.object === chosen[i]);
    select.value = there ? chosen[i] : kept.list[Math.min(1 - i, kept.list.length - 1)]?.object;
  }
  if ($("from").value === $("to").value) $("to").selectedIndex = ($("from").selectedIndex + 1) % Math.max(kept.list.length, 1);
}

async function walk(event) {
  const ends = [$("from").value, $("to").value];
  const t = $("way").value / 100;
  $("way").setAttribute("aria-valuetext", `${$("way").value} % of the way`);
  if (walked?.ends.join() !== ends.join()) {
    const latents = await Promise.all(ends.map((text) => model.latent(read(text, model.zDim))));
    walked = { ends, latents };
  }
  if (t !== $("way").value / 100) return; // the slider has moved on while the latents came
  const end = { 0: ends[0], 1: ends[1] }[t];
  choose(end ? read(end, model.zDim) : { z: between(...walked.latents, t, model.uniform) }, event.timeStamp);
}

// --- what is taken away

function save(blob, of, ending) {
  const link = document.createElement("a");
  const what = ("seed" in of ? `object-${of.seed}` : "object") + (depth && ending !== "glb" ? "-depth" : "");
  Object.assign(link, { href: URL.createObjectURL(blob), download: `${model.name}-${what}.${ending}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function png() {
  if (!seen) throw new Error("There is no picture yet.");
  save(await new Promise((resolve) => picture.toBlob(resolve, "image/png")), seen, "png");
}

async function gif() {
  say("Making the film…");
  const of = object;
  save(await model.film(of, showing(turn.view())), of, "gif");
  say("The film is saved.");
}

async function mesh() {
  say("Making the mesh…");
  const of = object;
  save(await model.mesh(of), of, "glb");
  say("The mesh is saved.");
}

async function link() {
  history.replaceState(null, "", hash());
  if (!navigator.clipboard) throw new Error("The address of this page is the link. Browsers let a page copy it from https only.");
  await navigator.clipboard.writeText(location.href);
  say("The link to this object and view is in the clipboard.");
}

// --- the page

function theme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = store.get("holotf.theme");
  const set = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    $("theme").setAttribute("aria-pressed", String(dark));
  };
  $("theme").addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    store.set("holotf.theme", chosen);
    set();
  });
  system.addEventListener("change", set);
  set();
}

function about() {
  document.title = `${model.name} · holotf`;
  $("title").textContent = model.name;
  const data = (model.card?.data ?? []).map(({ name, licence }) => (licence ? `${name} (${licence})` : name)).join(", ");
  $("about").textContent = [
    turn.turns ? "Objects that a network imagined, and that you can turn." : "Images that a network imagined. This model does not turn them.",
    model.size ? `${model.size} px.` : "",
    data ? `Learnt from ${data}.` : "",
  ].join(" ");
  const keysOf = turn.turns ? ["Drag, or arrow keys: turn."] : [];
  if (turn.free("scale")) keysOf.push("Wheel, pinch, or + and −: scale.");
  if (turn.turns) keysOf.push("Space: turntable.");
  $("keys").textContent = [...keysOf, "N: new object."].join(" ");
}

function controls() {
  picture.classList.toggle("turns", turn.turns);
  $("view").hidden = $("play").hidden = !turn.turns;
  $("gif").hidden = !turn.turns || !model.ours;
  $("depth").hidden = !model.depths;
  $("mesh").hidden = !model.meshes;
  for (const key of Object.keys(STEPS)) {
    $(key).parentElement.hidden = !turn.free(key);
    [$(key).min, $(key).max] = turn.ranges[key];
    $(key).step = STEPS[key];
    $(key).addEventListener("input", (event) => {
      turn.speed = 0;
      if (turn.playing) play(false);
      turn.set(key, Number($(key).value));
      want(event.timeStamp);
    });
  }
  if (turn.turns) {
    drag();
    photos();
  }
  keys();
  labels();
  $("new").addEventListener("click", doing((event) => fresh(event.timeStamp)));
  $("any").addEventListener("click", doing((event) => any(event.timeStamp)));
  $("depth").addEventListener("click", (event) => {
    showDepth(!depth);
    want(event.timeStamp);
  });
  $("play").addEventListener("click", () => play(!turn.playing));
  $("keep").addEventListener("click", doing(keep));
  for (const id of ["from", "to", "way"]) $(id).addEventListener("input", doing(walk));
  $("png").addEventListener("click", doing(png));
  $("gif").addEventListener("click", doing(gif));
  $("mesh").addEventListener("click", doing(mesh));
  $("link").addEventListener("click", doing(link));
  $("pixels").addEventListener("click", () => {
    $("pixels").setAttribute("aria-pressed", String(picture.classList.toggle("pixels")));
  });
  addEventListener("hashchange", () => follow(location.hash.slice(1)));
}

async function open() {
  const own = document.documentElement.dataset.model; // of a page without a server
  if (own) return (await import("./local.js")).Local.open(new URL(own, location.href));
  const query = new URLSearchParams(location.search);
  const address = new URL(query.get("server") || ".", location.href).href;
  for (;;) {
    try {
      return await Model.open(address, query.get("card"));
    } catch (error) {
      if (!(error instanceof Away)) throw error;
      say("The server is away. Trying again…", true);
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

theme();
try {
  model = await open();
  [turn, kept] = [new Turn(model), new Kept(model)];
  const trouble = (text) => {
    missing = text !== null;
    say(text ?? "The server is back.", missing);
  };
  frames = new Frames(model, draw, trouble, window.holotf.requests);
  about();
  controls();
  document.querySelector("main").hidden = false;
  say("");
  follow(location.hash.slice(1));
  strip();
} catch (error) {
  say(error.message, true);
}
