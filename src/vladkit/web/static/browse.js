// @ts-check
/** Lists of what is in the collection, page by page: its images, and the files that were skipped. */

import { address, get, isAbort } from "./api.js";
import { byId, count, el, plural, readable } from "./dom.js";
import { showPages } from "./pager.js";
import { searchable } from "./image.js";
import { format, state } from "./state.js";

/** @typedef {import("./api.js").Info} Info */
/** @typedef {import("./api.js").IndexedImage} IndexedImage */
/** @typedef {import("./api.js").Skipped} Skipped */
/** @typedef {import("./state.js").State} State */

const WRITING = 250; // ms without a key before what was written is looked for

/** @template T */
export class ListView {
  /**
   * @param {"browse" | "skipped"} view
   * @param {object} parts
   * @param {string} parts.path of the API
   * @param {number} parts.size of a page
   * @param {[string, string]} parts.noun one, many
   * @param {(item: T) => Node} parts.render
   * @param {string} parts.empty when there is nothing at all
   * @param {(shown: State) => void} parts.onState the address says this now, without a step back
   * @param {(error: unknown) => void} parts.onError
   */
  constructor(view, { path, size, noun, render, empty, onState, onError }) {
    this.view = view;
    this.path = path;
    this.size = size;
    this.noun = noun;
    this.render = render;
    this.nothing = empty;
    this.onError = onError;
    this.list = byId(`list-${view}`, HTMLElement);
    this.total = byId(`total-${view}`, HTMLElement);
    this.empty = byId(`empty-${view}`, HTMLElement);
    this.pages = byId(`pages-${view}`, HTMLElement);
    this.contains = byId(`contains-${view}`, HTMLInputElement);
    this.asked = new AbortController();
    /** @type {number | undefined} */
    let timer;
    const search = () => {
      clearTimeout(timer);
      onState(state({ view, contains: this.contains.value.trim() }));
    };
    this.contains.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(search, WRITING);
    });
    this.contains.form?.addEventListener("submit", (event) => {
      event.preventDefault();
      search();
    });
  }

  /** @param {State} shown */
  async show({ offset, contains }) {
    this.asked.abort();
    const asked = new AbortController();
    this.asked = asked;
    if (this.contains.value.trim() !== contains) this.contains.value = contains;
    this.list.classList.add("stale");
    try {
      const url = address(this.path, { offset, limit: this.size, contains });
      /** @type {import("./api.js").Page<T>} */
      const page = await get(url, {
        signal: asked.signal,
        onWait: (text) => {
          this.total.textContent = text;
        },
      });
      if (asked.signal.aborted) return;
      this.list.replaceChildren(...page.items.map(this.render));
      const { total } = page;
      const shown = page.items.length;
      this.total.textContent =
        shown < total && shown
          ? `${count(offset + 1)} to ${count(offset + shown)} of ${plural(total, ...this.noun)}`
          : plural(total, ...this.noun);
      this.empty.hidden = shown > 0;
      this.empty.textContent = contains
        ? `No path contains “${contains}”.`
        : total
          ? "There is no such page."
          : this.nothing;
      showPages(this.pages, total, offset, this.size, (to) =>
        format(state({ view: this.view, contains, offset: to })),
      );
    } catch (error) {
      if (isAbort(error) || asked.signal.aborted) return;
      this.list.replaceChildren();
      this.total.textContent = "";
      this.onError(error);
    } finally {
      if (!asked.signal.aborted) this.list.classList.remove("stale");
    }
  }
}

/**
 * @param {(shown: State) => void} onState
 * @param {(error: unknown) => void} onError
 * @returns {ListView<IndexedImage>}
 */
export function imageList(onState, onError) {
  return new ListView("browse", {
    path: "/api/images",
    size: 60,
    noun: ["image", "images"],
    render: searchable,
    empty: "The collection is empty. Add images with vladkit add.",
    onState,
    onError,
  });
}

/**
 * @param {(shown: State) => void} onState
 * @param {(error: unknown) => void} onError
 * @returns {ListView<Skipped>}
 */
export function skippedList(onState, onError) {
  return new ListView("skipped", {
    path: "/api/skipped",
    size: 100,
    noun: ["file", "files"],
    render: ({ path, reason }) =>
      el(
        "li",
        {},
        el("span", { class: "reason-path", title: readable(path) }, readable(path)),
        el("span", { class: "muted" }, readable(reason)),
      ),
    empty: "Nothing was skipped.",
    onState,
    onError,
  });
}

/**
 * @param {HTMLElement} host a <dl>
 * @param {Info} info
 */
export function describe(host, info) {
  const yes = /** @param {boolean} is */ (is) => (is ? "yes" : "no");
  const facts = {
    File: readable(info.file),
    Sources: info.sources
      .map(({ name, root }) => readable(name === root ? root : `${name}: ${root}`))
      .join("\n"),
    Images: count(info.images),
    Skipped: count(info.skipped),
    Size: `${(info.bytes / 1e6).toFixed(1)} MB`,
    "Dimensions of a vector": count(info.dimensions ?? 0),
    Clusters: count(info.clusters ?? 0),
    "Keeps features": yes(info.keeps_features),
    Whitened: yes(info.whitened),
    Augmented: yes(info.augmented),
    "Approximate search": yes(info.approximate),
  };
  host.replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
  );
}
