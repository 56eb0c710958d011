// @ts-check
/** The state of the page, as the part of its address after "#". Nothing else is state. */

/** @typedef {[number, number, number, number]} Region left, top, width, height in px of the image */

/**
 * @typedef {object} State
 * @property {"search" | "browse" | "skipped"} view
 * @property {string | null} query key of an uploaded image; several, of one thing, with commas
 * @property {number | null} id of an image of the collection, the query
 * @property {Region | null} region
 * @property {number | null} top null: the page's default
 * @property {number | null} rerank null: the page's default; 0: off
 * @property {boolean} mirrored mirror images are found, too
 * @property {number | null} match id of the result that is compared with the query
 * @property {number} offset
 * @property {string} contains
 * @property {string} under folder that a search is limited to; "": all images, as with the next three
 * @property {string} after
 * @property {string} before
 * @property {string} near latitude,longitude,km
 */

/** Names of what a search may be limited by. */
export const LIMITS = /** @type {const} */ (["under", "after", "before", "near"]);

/** @type {State} */
const NOTHING = {
  view: "search",
  query: null,
  id: null,
  region: null,
  top: null,
  rerank: null,
  mirrored: false,
  match: null,
  offset: 0,
  contains: "",
  under: "",
  after: "",
  before: "",
  near: "",
};

/**
 * @param {Partial<State>} [parts]
 * @returns {State}
 */
export function state(parts = {}) {
  return { ...NOTHING, ...parts };
}

/** @param {string | null} text */
function whole(text) {
  const number = text !== null && /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(number) ? number : null; // ids have up to 53 bits
}

/**
 * @param {string | null} text
 * @returns {Region | null}
 */
function region(text) {
  const found = /^(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})$/.exec(text ?? "");
  if (!found) return null;
  const [left, top, width, height] = found.slice(1).map(Number);
  return width && height ? [left, top, width, height] : null;
}

/**
 * Whatever it holds: what cannot be read is left at its default.
 *
 * @param {string} hash
 * @returns {State}
 */
export function parse(hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const given = new URLSearchParams(search);
  const view = path === "browse" || path === "skipped" ? path : "search";
  return {
    view,
    query: given.get("query") || null,
    id: whole(given.get("id")),
    region: region(given.get("region")),
    top: whole(given.get("top")),
    rerank: whole(given.get("rerank")),
    mirrored: given.get("mirrored") === "true",
    match: whole(given.get("match")),
    offset: whole(given.get("offset")) ?? 0,
    contains: given.get("contains") ?? "",
    under: given.get("under") ?? "",
    after: given.get("after") ?? "",
    before: given.get("before") ?? "",
    near: given.get("near") ?? "",
  };
}

/**
 * @param {State} shown
 * @returns {string} "#/..."
 */
export function format(shown) {
  const given = new URLSearchParams();
  for (const name of /** @type {const} */ (["query", "id", "region", "top", "rerank", "match"])) {
    const value = shown[name];
    if (value !== null) given.set(name, String(value));
  }
  if (shown.mirrored) given.set("mirrored", "true");
  if (shown.offset) given.set("offset", String(shown.offset));
  for (const name of /** @type {const} */ (["contains", ...LIMITS])) {
    if (shown[name]) given.set(name, shown[name]);
  }
  // commas are fine there and easier to read
  const search = given.toString().replaceAll("%2C", ",");
  return `#/${shown.view === "search" ? (search ? "search" : "") : shown.view}${search && "?"}${search}`;
}
