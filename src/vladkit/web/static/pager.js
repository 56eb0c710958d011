// @ts-check
/** Links to the pages of a long list: first, last, and those around the one that is shown. */

import { count, el, icon } from "./dom.js";

const AROUND = 2;

/**
 * @param {HTMLElement} host
 * @param {number} total
 * @param {number} offset
 * @param {number} size of a page
 * @param {(offset: number) => string} link
 */
export function showPages(host, total, offset, size, link) {
  const last = Math.max(0, Math.ceil(total / size) - 1);
  const at = Math.min(last, Math.floor(offset / size));
  host.hidden = last === 0;
  if (last === 0) return host.replaceChildren();
  /** @param {number} page @param {string} label @param {Node | string} content */
  const to = (page, label, content) =>
    el("a", { href: link(page * size), "aria-label": label, "aria-current": page === at ? "page" : null }, content);
  /** @type {Node[]} */
  const parts = [];
  if (at > 0) parts.push(to(at - 1, "Previous page", icon("previous")));
  let before = -1;
  for (let page = 0; page <= last; page += 1) {
    if (page !== 0 && page !== last && Math.abs(page - at) > AROUND) continue;
    if (page > before + 1) parts.push(el("span", { class: "muted", "aria-hidden": "true" }, "…"));
    parts.push(to(page, `Page ${count(page + 1)}`, count(page + 1)));
    before = page;
  }
  if (at < last) parts.push(to(at + 1, "Next page", icon("next")));
  const isUsed = host.contains(document.activeElement);
  host.replaceChildren(...parts);
  /** @type {HTMLElement | null} */
  const current = host.querySelector("[aria-current]");
  if (isUsed) current?.focus({ preventScroll: true });
}
