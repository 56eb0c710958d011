// @ts-check
/** The results, the best first. Cards move to their new places when the order changes. */

import { count, decimals, el, icon, pathLine } from "./dom.js";
import { baseName, card, links } from "./image.js";

/** @typedef {import("./api.js").Result} Result */

const MOVING = 260; // ms

/**
 * The badge of a result: matched and verified, matched in vain, or none if it was not matched.
 *
 * @param {Result} result
 */
export function verdict(result) {
  if (result.inliers === null) return null;
  const { inliers, verified } = result;
  const title = verified
    ? "Verified: enough matches agree on one geometry"
    : "Too few matches agree to be sure";
  return el(
    "span",
    { class: verified ? "badge verified" : "badge", title },
    verified ? icon("check") : null,
    count(inliers),
    el("span", { class: "word" }, inliers === 1 ? " match" : " matches"),
    el("span", { class: "unseen" }, verified ? ", verified" : ", not verified"),
  );
}

/** @param {Result} result */
function scores({ score, similarity }) {
  return `Score ${score}, similarity ${similarity}`;
}

export class Gallery {
  /**
   * @param {HTMLElement} list
   * @param {(result: Result) => string} compareLink
   */
  constructor(list, compareLink) {
    this.list = list;
    this.compareLink = compareLink;
    /** @type {Map<number, HTMLElement>} */
    this.cards = new Map();
  }

  clear() {
    this.cards.clear();
    this.list.replaceChildren();
  }

  /**
   * @param {Result[]} results
   * @param {boolean} moving same query, other order: what is there already moves
   */
  show(results, moving) {
    const before = moving ? this.places() : new Map();
    const focused = document.activeElement?.closest("[data-id]")?.getAttribute("data-id");
    const old = moving ? this.cards : new Map();
    this.cards = new Map();
    for (const result of results) {
      const item = this.render(result, old.get(result.id));
      this.cards.set(result.id, item);
    }
    this.list.replaceChildren(...this.cards.values());
    if (moving && focused) this.cards.get(Number(focused))?.querySelector("a")?.focus();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.animate(before);
  }

  /**
   * @param {Result} result
   * @param {HTMLElement | undefined} old its image is kept: nothing is loaded again
   */
  render(result, old) {
    const label = `Result ${result.rank}: ${baseName(result.path)}, compare with the query`;
    const href = this.compareLink(result);
    const item = old ?? card(result, href, label);
    const image = item.firstElementChild;
    image?.setAttribute("href", href);
    image?.setAttribute("aria-label", label);
    while (item.childElementCount > 1) item.lastElementChild?.remove();
    item.classList.toggle("is-verified", result.verified === true);
    item.append(
      el(
        "p",
        { class: "card-line" },
        el("span", { class: "rank" }, String(result.rank)),
        pathLine(result.path),
      ),
      el(
        "p",
        { class: "card-line muted" },
        el("span", { class: "score", title: scores(result) }, decimals(result.score)),
        verdict(result),
        links(result),
      ),
    );
    return item;
  }

  /** @param {number} id */
  focus(id) {
    const link = this.cards.get(id)?.querySelector("a");
    link?.focus();
    return link !== undefined && link !== null;
  }

  /** @returns {Map<number, DOMRect>} */
  places() {
    return new Map([...this.cards].map(([id, item]) => [id, item.getBoundingClientRect()]));
  }

  /** @param {Map<number, DOMRect>} before */
  animate(before) {
    for (const [id, item] of this.cards) {
      const from = before.get(id);
      if (!from) continue;
      const to = item.getBoundingClientRect();
      const [dx, dy] = [from.left - to.left, from.top - to.top];
      if (!dx && !dy) continue;
      const start = { transform: `translate(${dx}px, ${dy}px)` };
      item.animate([start, { transform: "none" }], { duration: MOVING, easing: "ease-out" });
    }
  }
}
