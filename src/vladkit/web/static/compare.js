// @ts-check
/** The query and one result side by side, with their matches. */

import { Problem, address, get, isAbort } from "./api.js";
import { arrange } from "./arrange.js";
import { byId, count, decimals, el, icon, readable } from "./dom.js";
import { Overlay } from "./overlay.js";
import { baseName, gone, pixels, sizeOf } from "./image.js";
import { format, state } from "./state.js";

/** @typedef {import("./api.js").Answer} Answer */
/** @typedef {import("./api.js").Geometry} Geometry */
/** @typedef {import("./api.js").IndexedImage} IndexedImage */
/** @typedef {import("./api.js").Query} Query */
/** @typedef {import("./api.js").Result} Result */

const FEW = [25, 100, 250]; // lines to choose from, besides all
const AT_FIRST = 100;
const SCROLLING = matchMedia("(max-width: 719px), (max-height: 479px)"); // as in style.css

export class Compare {
  /**
   * @param {object} hear
   * @param {(id: number) => void} hear.onTurn another result is shown
   * @param {(id: number) => void} hear.onClosed by the person; the last that was looked at
   */
  constructor({ onTurn, onClosed }) {
    this.dialog = byId("compare", HTMLDialogElement);
    this.title = byId("compare-title", HTMLElement);
    this.facts = byId("compare-facts", HTMLElement);
    this.room = byId("stage-room", HTMLElement);
    this.stage = byId("stage", HTMLElement);
    this.panes = { query: byId("pane-query", HTMLElement), match: byId("pane-match", HTMLElement) };
    this.previous = byId("compare-previous", HTMLButtonElement);
    this.next = byId("compare-next", HTMLButtonElement);
    this.drawn = byId("drawn", HTMLSelectElement);
    this.model = byId("model", HTMLSelectElement);
    this.step = byId("step", HTMLInputElement);
    this.one = byId("one", HTMLOutputElement);
    this.boxes = {
      lines: byId("show-lines", HTMLInputElement),
      points: byId("show-points", HTMLInputElement),
      outline: byId("show-outline", HTMLInputElement),
    };
    this.links = {
      search: byId("compare-search", HTMLAnchorElement),
      file: byId("compare-file", HTMLAnchorElement),
      json: byId("compare-json", HTMLAnchorElement),
    };
    const svg = document.getElementById("overlay");
    if (!(svg instanceof SVGSVGElement)) throw new Error("no <svg id=overlay> in the page");
    this.overlay = new Overlay(svg);

    /** @type {number | null} id of the result that is shown */
    this.id = null;
    /** @type {Answer | null} */
    this.answer = null;
    /** @type {Result | null} */
    this.result = null;
    /** @type {Geometry | null} */
    this.geometry = null;
    /** @type {Map<number, import("./arrange.js").Size>} by id, of images whose size was not known */
    this.measured = new Map();
    this.matchable = true;
    this.wanted = AT_FIRST; // matches to draw
    this.asked = new AbortController();
    this.onTurn = onTurn;
    this.onClosed = onClosed;
    this.listen();
  }

  listen() {
    byId("compare-close", HTMLButtonElement).addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => {
      const id = this.id;
      this.hide();
      if (id !== null) this.onClosed(id);
    });
    this.previous.addEventListener("click", () => this.turn(-1));
    this.next.addEventListener("click", () => this.turn(1));
    this.dialog.addEventListener("keydown", (event) => {
      if (event.target instanceof HTMLSelectElement || event.target === this.step) return;
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      if (event.key === "ArrowLeft") this.turn(-1);
      else if (event.key === "ArrowRight") this.turn(1);
      else return;
      event.preventDefault();
    });
    for (const box of Object.values(this.boxes)) {
      box.addEventListener("change", () => this.choose());
    }
    this.drawn.addEventListener("change", () => {
      this.wanted = Number(this.drawn.value); // "all" is Infinity
      this.draw();
    });
    this.model.addEventListener("change", () => this.match());
    this.step.addEventListener("input", () => this.light(Number(this.step.value) - 1));
    this.stage.addEventListener("pointermove", (event) => this.point(event));
    this.stage.addEventListener("pointerdown", (event) => this.point(event));
    this.stage.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") this.light(-1);
    });
    new ResizeObserver(() => this.place()).observe(this.room);
    this.stage.addEventListener("load", () => this.place(), true); // of an image: its size is known
    SCROLLING.addEventListener("change", () => this.place());
  }

  /**
   * @param {Answer} answer
   * @param {number} id
   * @param {boolean} matchable the collection keeps features
   */
  async show(answer, id, matchable) {
    if (this.id === id && this.answer === answer) return;
    const newQuery = ask(this.answer) !== ask(answer);
    this.asked.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    this.id = id;
    this.answer = answer;
    this.matchable = matchable;
    if (newQuery) this.model.value = "homography";
    if (!this.dialog.open) this.dialog.showModal();
    const at = answer.results.findIndex((result) => result.id === id);
    allow(this.previous, at > 0, this.title);
    allow(this.next, at >= 0 && at < answer.results.length - 1, this.title);
    try {
      this.result = answer.results[at] ?? (await unranked(id, signal));
    } catch (error) {
      if (isAbort(error)) return;
      this.title.textContent = "No such image";
      this.facts.textContent = readable(sentence(error));
      return;
    }
    const { query } = this;
    const name = readable(this.result.path);
    this.title.replaceChildren(
      el("span", { class: "rank" }, this.result.rank ? String(this.result.rank) : ""),
      el("span", { class: "compare-name", title: name }, name),
    );
    fill(this.panes.query, query.preview, query.path ? readable(`Query: ${query.path}`) : "Query");
    fill(this.panes.match, this.result.preview, `Result: ${name}`);
    this.links.search.href = format(state({ id }));
    this.links.file.href = this.result.file;
    this.preload(at);
    for (const image of [query, this.result]) this.measure(image, signal);
    await this.match();
  }

  /** @returns {Query} the image that the result was matched with */
  get query() {
    const queries = /** @type {Answer} */ (this.answer).queries;
    return queries[this.result?.query ?? 0];
  }

  hide() {
    this.id = null;
    this.answer = null;
    this.asked.abort();
    if (this.dialog.open) this.dialog.close();
  }

  /** @param {number} by */
  turn(by) {
    const results = this.answer?.results ?? [];
    const at = results.findIndex((result) => result.id === this.id);
    const other = at < 0 ? undefined : results[at + by];
    if (other) this.onTurn(other.id);
  }

  /** @param {number} at the images beside it are likely to be asked for next */
  preload(at) {
    for (const by of [1, -1]) {
      const other = at < 0 ? undefined : this.answer?.results[at + by];
      if (other) new Image().src = other.preview;
    }
  }

  /**
   * A preview is smaller than a large image, whose matches are in px of its own.
   *
   * @param {Query | Result} image
   * @param {AbortSignal} signal
   */
  async measure({ id, width }, signal) {
    if (id === null || width || this.measured.has(id)) return;
    try {
      /** @type {IndexedImage} */
      const found = await get(`/api/images/${id}`, { signal });
      if (!found.width || !found.height) return;
      this.measured.set(id, { width: found.width, height: found.height });
      this.place();
    } catch (error) {
      if (!(error instanceof Problem) && !isAbort(error)) throw error; // drawn as its preview then
    }
  }

  // -- matches ------------------------------------------------------------------------

  /** The matches are taken from the answer, or asked for. */
  async match() {
    const { answer, result } = this;
    if (!answer || !result) return;
    const { signal } = this.asked;
    const { query } = this;
    const model = this.model.value;
    const url = address("/api/match", {
      query: query.key,
      id: query.key === null ? query.id : null,
      other: result.id,
      region: query.region?.join(),
      mirrored: result.mirrored,
      model: model === "homography" ? null : model,
    });
    this.links.json.hidden = !this.matchable;
    this.links.json.href = url;
    this.model.disabled = !this.matchable;
    this.geometry = null;
    this.tell("");
    this.draw();
    if (model === "homography" && result.points !== null) {
      this.geometry = result;
    } else if (!this.matchable) {
      this.tell("The collection keeps no features to match with.");
      return;
    } else {
      this.tell("Matching …");
      try {
        const geometry = await get(url, { signal, onWait: (text) => this.tell(text) });
        if (signal.aborted || this.model.value !== model) return;
        this.geometry = geometry;
      } catch (error) {
        if (!isAbort(error)) this.tell(sentence(error));
        return;
      }
    }
    this.tell("");
    this.draw();
  }

  /** @param {string} news shown instead of the number of matches */
  tell(news) {
    const { result, geometry } = this;
    if (!result) return;
    const first = news || (geometry ? agreement(geometry) : "");
    const verified = !news && geometry?.verified === true;
    const facts = [pixels(result)];
    if (result.rank) facts.unshift(`similarity ${decimals(result.similarity)}`);
    if (result.mirrored) facts.unshift("mirrored");
    if (result.changed) facts.push("its file has changed since it was indexed");
    if (this.query.changed) facts.push("the query's file has changed since it was indexed");
    const badge = { class: verified ? "badge verified" : null };
    this.facts.replaceChildren(
      el("strong", badge, verified ? icon("check") : null, first),
      ...facts.filter(Boolean).map((fact) => el("span", {}, fact)),
    );
  }

  /** Draws lines and points again: for another result, or more or fewer of them. */
  draw() {
    const points = this.geometry?.points ?? [];
    const { wanted } = this;
    const steps = FEW.filter((n) => n < points.length);
    this.drawn.replaceChildren(
      ...steps.map((n) => el("option", { value: n }, `${n} clearest of ${count(points.length)}`)),
      el("option", { value: Infinity }, points.length ? `all ${count(points.length)}` : "none"),
    );
    this.drawn.value = steps.includes(wanted) ? String(wanted) : "Infinity";
    this.drawn.disabled = !steps.length;
    const shown = points.slice(0, Number(this.drawn.value));
    const region = this.answer ? this.query.region : null;
    this.overlay.show(shown, this.geometry?.outline ?? null, region);
    this.step.max = String(shown.length);
    this.step.disabled = !shown.length;
    this.boxes.lines.disabled = this.boxes.points.disabled = !shown.length;
    this.boxes.outline.disabled = !this.geometry?.outline;
    this.light(-1);
    this.choose();
    this.place();
  }

  choose() {
    const { lines, points, outline } = this.boxes;
    this.overlay.choose({ lines: lines.checked, points: points.checked, outline: outline.checked });
  }

  /** Images, and what is drawn over them, to their places. */
  place() {
    const { answer, result } = this;
    if (!answer || !result || !this.dialog.open) return;
    const height = SCROLLING.matches ? innerHeight * 0.7 : this.room.clientHeight;
    /** @param {Query | Result} image @param {HTMLElement} pane */
    const size = (image, pane) =>
      this.measured.get(image.id ?? -1) ?? sizeOf(image, pane.querySelector("img"));
    const query = size(this.query, this.panes.query);
    const match = size(result, this.panes.match);
    const arrangement = arrange(query, match, { width: this.room.clientWidth, height });
    this.stage.style.width = `${arrangement.width}px`;
    this.stage.style.height = `${arrangement.height}px`;
    this.stage.classList.toggle("stacked", arrangement.stacked);
    for (const name of /** @type {const} */ (["query", "match"])) {
      const { style } = this.panes[name];
      style.left = `${arrangement[name].x}px`;
      style.top = `${arrangement[name].y}px`;
      style.width = `${arrangement[name].width}px`;
      style.height = `${arrangement[name].height}px`;
    }
    this.overlay.place(arrangement);
  }

  /** @param {PointerEvent} event */
  point(event) {
    const room = this.stage.getBoundingClientRect();
    this.light(this.overlay.nearest(event.clientX - room.left, event.clientY - room.top));
  }

  /** @param {number} i of the matches that are drawn; -1: none */
  light(i) {
    this.overlay.light(i);
    this.step.value = String(i + 1);
    const point = this.overlay.points[i];
    const [qx, qy, x, y] = (point ?? []).map((value) => value.toFixed(0));
    this.one.textContent = point ? `${i + 1}: ${qx}, ${qy} → ${x}, ${y}` : "";
    this.step.setAttribute(
      "aria-valuetext",
      point ? `${i + 1}: ${qx}, ${qy} in the query is ${x}, ${y} in the image` : "none",
    );
  }
}

/**
 * An image that is not, or no more, among the results, but in the address.
 *
 * @param {number} id
 * @param {AbortSignal} signal
 * @returns {Promise<Result>}
 */
async function unranked(id, signal) {
  /** @type {IndexedImage} */
  const image = await get(`/api/images/${id}`, { signal });
  const none = { inliers: null, verified: null, points: null, outline: null };
  return { ...image, ...none, rank: 0, score: 0, similarity: 0, query: 0, mirrored: false };
}

/**
 * The focus goes on where a button that has it is disabled: keys would reach nothing.
 *
 * @param {HTMLButtonElement} button
 * @param {boolean} can be pressed
 * @param {HTMLElement} next
 */
function allow(button, can, next) {
  if (!can && document.activeElement === button) next.focus();
  button.disabled = !can;
}

/**
 * @param {HTMLElement} pane
 * @param {string} url
 * @param {string} text
 */
function fill(pane, url, text) {
  const old = pane.querySelector("img");
  if (old?.getAttribute("src") === url) {
    old.alt = text;
    return;
  }
  const image = el("img", { src: url, alt: text, title: baseName(text), draggable: "false" });
  image.addEventListener("error", () => image.replaceWith(gone()), { once: true });
  pane.replaceChildren(image);
}

/** @param {Answer | null} answer */
function ask(answer) {
  return JSON.stringify(answer?.queries.map(({ key, id, region }) => [key, id, region]));
}

/** @param {Geometry} geometry */
function agreement({ inliers, verified }) {
  if (!inliers) return "Nothing matches";
  const agree = inliers === 1 ? "match agrees" : "matches agree";
  return `${count(inliers)} ${agree}, ${verified ? "verified" : "too few to be sure"}`;
}

/** @param {unknown} error */
function sentence(error) {
  if (error instanceof Problem) return error.message;
  throw error;
}
