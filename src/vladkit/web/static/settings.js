// @ts-check
/** Number of results, and of those that are matched. The address leaves out the defaults. */

import { byId, count, el } from "./dom.js";

/** @typedef {import("./api.js").Info} Info */
/** @typedef {{top: number | null, rerank: number | null}} Chosen null: as usual; rerank 0: off */

const TOPS = [12, 24, 48, 96, 200, 500];
const RERANKS = [20, 50, 100, 200, 500];
const TOP = 24;
const RERANK = 100;

export class Settings {
  /**
   * @param {Info} info
   * @param {() => void} onChange
   */
  constructor({ limits, keeps_features: keeps }, onChange) {
    this.keeps = keeps;
    this.usual = { top: Math.min(TOP, limits.top), rerank: keeps ? Math.min(RERANK, limits.rerank) : 0 };
    this.rerankOn = byId("rerank-on", HTMLInputElement);
    this.rerank = byId("rerank", HTMLSelectElement);
    this.top = byId("top", HTMLSelectElement);
    fill(this.top, TOPS, limits.top);
    fill(this.rerank, RERANKS, limits.rerank);
    this.rerankOn.disabled = !keeps;
    byId("rerank-why", HTMLElement).textContent = keeps
      ? "Checks whether the first results really show the same thing."
      : "This collection keeps no features to match (vladkit index --keep-features).";
    for (const control of [this.rerankOn, this.rerank, this.top]) {
      control.addEventListener("change", () => {
        this.rerank.disabled = !this.rerankOn.checked;
        onChange();
      });
    }
    byId("settings", HTMLFormElement).addEventListener("submit", (event) => event.preventDefault());
  }

  /** @returns {Chosen} */
  get chosen() {
    const top = Number(this.top.value);
    const rerank = this.rerankOn.checked ? Number(this.rerank.value) : 0;
    return {
      top: top === this.usual.top ? null : top,
      rerank: rerank === this.usual.rerank ? null : rerank,
    };
  }

  /**
   * @param {Chosen} chosen
   * @returns {{top: number, rerank: number}}
   */
  meant({ top, rerank }) {
    return {
      top: top ?? this.usual.top,
      rerank: this.keeps ? (rerank ?? this.usual.rerank) : 0,
    };
  }

  /** @param {Chosen} chosen */
  show(chosen) {
    const { top, rerank } = this.meant(chosen);
    choose(this.top, top);
    this.rerankOn.checked = rerank > 0;
    choose(this.rerank, rerank || RERANK);
    this.rerank.disabled = !rerank;
  }
}

/**
 * @param {HTMLSelectElement} select
 * @param {number[]} values
 * @param {number} most
 */
function fill(select, values, most) {
  const possible = values.filter((value) => value <= most);
  if (!possible.length) possible.push(most);
  select.replaceChildren(...possible.map((value) => el("option", { value }, count(value))));
}

/**
 * Choose a value, one that the address gave and the page does not offer included.
 *
 * @param {HTMLSelectElement} select
 * @param {number} value
 */
function choose(select, value) {
  if (![...select.options].some((option) => Number(option.value) === value)) {
    select.append(el("option", { value }, count(value)));
  }
  select.value = String(value);
}
