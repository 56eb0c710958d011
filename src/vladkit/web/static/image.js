// @ts-check
/** One image of the collection, small, with what is known of it and what can be done with it. */

import { count, el, icon, pathLine, readable } from "./dom.js";
import { format, state } from "./state.js";

/** @typedef {import("./api.js").IndexedImage} IndexedImage */

// Wider or higher ones are shown whole in a box of this shape, or a row would be of one image.
const NARROWEST = 0.75;
const WIDEST = 2.3;

/**
 * An <img>, or the words that it cannot be shown. Its room is known before it is loaded.
 *
 * @param {IndexedImage} image
 */
export function thumbnail(image) {
  const img = el("img", {
    src: image.thumbnail,
    // screens of two px for one
    srcset: `${image.thumbnail} 1x, ${withSide(image.thumbnail, 640)} 2x`,
    width: image.width,
    height: image.height,
    alt: "",
    loading: "lazy",
    decoding: "async",
    draggable: "false",
  });
  img.addEventListener("error", () => img.replaceWith(gone()), { once: true });
  return img;
}

/**
 * @param {{width: number | null, height: number | null}} image
 * @param {HTMLImageElement | null} img which shows it, for the size of one that is not known
 * @returns {import("./arrange.js").Size}
 */
export function sizeOf({ width, height }, img) {
  if (width && height) return { width, height };
  return { width: img?.naturalWidth || 1, height: img?.naturalHeight || 1 };
}

/**
 * @param {{width: number | null, height: number | null}} image
 * @returns {string} "" where it is not known
 */
export function pixels({ width, height }) {
  return width && height ? `${width} × ${height} px` : "";
}

export function gone() {
  return el("span", { class: "gone" }, "Cannot be shown");
}

/** @param {IndexedImage} image */
export function changed(image) {
  const title = "The file has changed since it was indexed";
  return image.changed ? el("span", { class: "badge changed", title }, "changed") : null;
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
  return readable(path.slice(path.lastIndexOf("/") + 1));
}

/**
 * A card without its text: the image as a link, at the width that its shape takes in a row.
 *
 * @param {IndexedImage} image
 * @param {string} href
 * @param {string} label
 */
export function card(image, href, label) {
  const img = thumbnail(image);
  const item = el(
    "li",
    { class: "card", "data-id": image.id },
    el("a", { class: "card-image", href, "aria-label": label }, img),
  );
  const shape = () => {
    const { width, height } = sizeOf(image, img);
    const aspect = Math.min(Math.max(width / height, NARROWEST), WIDEST);
    item.style.setProperty("--aspect", String(aspect));
  };
  shape();
  if (!image.width) img.addEventListener("load", shape, { once: true });
  return item;
}

/** @param {IndexedImage} image */
export function links(image) {
  const name = baseName(image.path);
  return el(
    "span",
    { class: "card-links" },
    el(
      "a",
      {
        class: "icon-link",
        href: format(state({ id: image.id })),
        "data-search-with": image.id,
        "aria-label": `Search with ${name}`,
        title: "Search with this",
      },
      icon("search"),
    ),
    el(
      "a",
      {
        class: "icon-link of-file",
        href: image.file,
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
 * An image that is searched with when it is clicked.
 *
 * @param {IndexedImage} image
 */
export function searchable(image) {
  const item = card(
    image,
    format(state({ id: image.id })),
    `Search with ${baseName(image.path)}`,
  );
  item.append(
    el("p", { class: "card-line" }, pathLine(image.path)),
    el(
      "p",
      { class: "card-line muted" },
      el("span", {}, pixels(image).replace(" px", "")),
      changed(image),
      el("span", { class: "wide-only" }, `${count(image.n_features)} features`),
      links(image),
    ),
  );
  return item;
}
