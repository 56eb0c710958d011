// @ts-check
/** One picture of the collection, small, with what is known of it and what can be done with it. */

import { count, el, icon, pathLine } from "./dom.js";
import { format, state } from "./state.js";

/** @typedef {import("./api.js").Picture} Picture */

// Wider or higher ones are shown whole in a box of this shape, or a row would be of one picture.
const NARROWEST = 0.75;
const WIDEST = 2.3;

/**
 * An <img>, or the words that the file is gone. Its room is known before it is loaded.
 *
 * @param {Picture} picture
 */
export function thumbnail(picture) {
  const image = el("img", {
    src: picture.thumbnail,
    // screens of two px for one
    srcset: `${picture.thumbnail} 1x, ${withSide(picture.thumbnail, 640)} 2x`,
    width: picture.width,
    height: picture.height,
    alt: "",
    loading: "lazy",
    decoding: "async",
    draggable: "false",
  });
  image.addEventListener("error", () => image.replaceWith(gone()), { once: true });
  return image;
}

export function gone() {
  return el("span", { class: "gone" }, "The file is gone");
}

/**
 * @param {string} url
 * @param {number} side
 */
function withSide(url, side) {
  return `${url}${url.includes("?") ? "&" : "?"}side=${side}`;
}

/** @param {string} path */
export function baseName(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

/**
 * A card without its text: the picture as a link, at the width that its shape takes in a row.
 *
 * @param {Picture} picture
 * @param {string} href
 * @param {string} label
 */
export function card(picture, href, label) {
  const aspect = picture.width / picture.height || 1;
  const item = el(
    "li",
    { class: "card", "data-id": picture.id },
    el("a", { class: "card-picture", href, "aria-label": label }, thumbnail(picture)),
  );
  item.style.setProperty("--aspect", String(Math.min(Math.max(aspect, NARROWEST), WIDEST)));
  return item;
}

/** @param {Picture} picture */
export function links(picture) {
  const name = baseName(picture.path);
  return el(
    "span",
    { class: "card-links" },
    el(
      "a",
      {
        class: "icon-link",
        href: format(state({ id: picture.id })),
        "data-search-with": picture.id,
        "aria-label": `Search with ${name}`,
        title: "Search with this",
      },
      icon("search"),
    ),
    el(
      "a",
      {
        class: "icon-link",
        href: picture.file,
        target: "_blank",
        rel: "noopener",
        "aria-label": `File ${name}`,
        title: "Open the file",
      },
      icon("file"),
    ),
  );
}

/**
 * A picture that is searched with when it is clicked.
 *
 * @param {Picture} picture
 */
export function searchable(picture) {
  const item = card(
    picture,
    format(state({ id: picture.id })),
    `Search with ${baseName(picture.path)}`,
  );
  item.append(
    el("p", { class: "card-line" }, pathLine(picture.path)),
    el(
      "p",
      { class: "card-line muted" },
      el("span", {}, `${picture.width} × ${picture.height}`),
      el("span", { class: "wide-only" }, `${count(picture.n_features)} features`),
      links(picture),
    ),
  );
  return item;
}
