// @ts-check
/**
 * Number of results, of those that are matched, and the images that a search is limited to. The
 * address leaves out the defaults.
 */

import { byId, count, el } from "./dom.js";
import { LIMITS } from "./state.js";

/** @typedef {import("./api.js").Info} Info */
/**
 * @typedef {{top: number | null, rerank: number | null, mirrored: boolean, under: string, after: string, before: string, near: string}} Chosen
 * null: as usual; rerank 0: off; "": not limited by that
 */

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
    this.mirrored = byId("mirrored", HTMLInputElement);
    fill(this.top, TOPS, limits.top);
    fill(this.rerank, RERANKS, limits.rerank);
    this.rerankOn.disabled = !keeps;
    byId("rerank-why", HTMLElement).textContent = keeps
      ? "Checks whether the first results really show the same thing."
      : "This collection keeps no features to match (vladkit index --keep-features).";
    const box = byId("settings-box", HTMLDetailsElement);
    const narrow = matchMedia("(max-width: 599px)");
    const fold = () => {
      box.open = !narrow.matches; // results begin in the first screen
    };
    narrow.addEventListener("change", fold);
    fold();
    this.limited = byId("limited", HTMLDetailsElement);
    this.limits = LIMITS.map((name) => byId(`limit-${name}`, HTMLInputElement));
    for (const control of [this.rerankOn, this.rerank, this.top, this.mirrored, ...this.limits]) {
      control.addEventListener("change", () => {
        this.rerank.disabled = !this.rerankOn.checked;
        onChange();
      });
    }
    byId("settings", HTMLFormElement).addEventListener("submit", (event) => event.preventDefault());
    byId("unlimited", HTMLButtonElement).addEventListener("click", () => {
      for (const control of this.limits) control.value = "";
      onChange();
    });
  }

  /** @returns {Chosen} */
  get chosen() {
    const top = Number(this.top.value);
    const rerank = this.rerankOn.checked ? Number(this.rerank.value) : 0;
    const [under, after, before, near] = this.limits.map((control) => control.value.trim());
    return {
      under,
      after,
      before,
      near,
      mirrored: this.mirrored.checked,
      top: top === this.usual.top ? null : top,
      rerank: rerank === this.usual.rerank ? null : rerank,
    };
  }

  /**
   * @param {Pick<Chosen, "top" | "rerank">} chosen
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
    this.mirrored.checked = chosen.mirrored;
    this.rerankOn.checked = rerank > 0;
    choose(this.rerank, rerank || RERANK);
    this.rerank.disabled = !rerank;
    LIMITS.forEach((name, i) => {
      const control = this.limits[i];
      if (control.value.trim() !== chosen[name]) control.value = chosen[name];
    });
    if (LIMITS.some((name) => chosen[name])) this.limited.open = true;
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
