// @ts-check
/** The results, the best first. Cards move to their new places when the order changes. */

import { count, decimals, el, icon, pathLine, plural } from "./dom.js";
import { baseName, card, changed, links } from "./image.js";

/** @typedef {import("./api.js").Result} Result */

const MOVING = 260; // ms

/**
 * What is said of a result: how many matches show that it is the same thing, or how similar it is.
 *
 * @param {Result} result
 */
function verdict(result) {
  const { inliers, verified, mirrored } = result;
  const flipped =
    mirrored && verified !== false ? el("span", { class: "badge mirrored" }, "mirrored") : null;
  if (!verified || inliers === null) return [scores(result), flipped];
  const title = `${count(inliers)} matches agree on one geometry: the same thing`;
  const badge = el(
    "span",
    { class: "badge verified", title },
    icon("check"),
    count(inliers),
    el("span", { class: "word" }, inliers === 1 ? " match" : " matches"),
    el("span", { class: "unseen" }, ", verified"),
  );
  return [badge, flipped];
}

/** @param {Result} result */
function scores({ score, similarity, inliers }) {
  const matched = inliers === null ? "" : `, ${plural(inliers, "match", "matches")}: too few to be sure`;
  return el(
    "span",
    { class: "score", title: `Score ${score}, similarity ${similarity}${matched}` },
    el("span", { class: "wide-only" }, "similarity "),
    decimals(similarity),
  );
}

/**
 * In the order that people see: what is verified to be the same thing, then the others.
 *
 * @param {Result[]} results
 */
export function sameFirst(results) {
  const same = results.filter((result) => result.verified);
  return [...same, ...results.filter((result) => !result.verified)];
}

export class Gallery {
  /**
   * @param {HTMLElement} host
   * @param {(result: Result) => string} compareLink
   */
  constructor(host, compareLink) {
    this.host = host;
    this.compareLink = compareLink;
    /** @type {Map<number, HTMLElement>} */
    this.cards = new Map();
  }

  clear() {
    this.cards.clear();
    this.host.replaceChildren();
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
    this.host.replaceChildren(...this.groups(results));
    if (moving && focused) this.cards.get(Number(focused))?.querySelector("a")?.focus();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.animate(before);
  }

  /**
   * Lists with a heading each; one without, where nothing was matched.
   *
   * @param {Result[]} results
   * @returns {HTMLElement[]}
   */
  groups(results) {
    /** @param {string} title @param {Result[]} some @param {string} kind */
    const group = (title, some, kind) => {
      const items = some.map(({ id }) => /** @type {HTMLElement} */ (this.cards.get(id)));
      const list = el("ol", { class: `gallery ${kind}`, "aria-label": title || "Results" }, ...items);
      return title ? [el("h3", { class: "group" }, title), list] : [list];
    };
    const same = results.filter((result) => result.verified);
    const others = results.filter((result) => !result.verified);
    if (!same.length) return results.length ? group("", results, "") : [];
    return [
      ...group("Same thing", same, "same"),
      ...(others.length ? group("Only similar", others, "similar") : []),
    ];
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
      el("p", { class: "card-line muted" }, ...verdict(result), changed(result), links(result)),
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
