// @ts-check
/**
 * Elements, made one by one. Text becomes text nodes and nothing else, so the name of a file can
 * hold any markup and is only ever read.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`no ${kind.name} #${id} in the page`);
  return element;
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean | null | undefined>} [attributes] null, undefined
 *   and false leave one out
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  for (const child of children) if (child !== null) element.append(child);
  return element;
}

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean | null | undefined>} [attributes]
 * @param {...Node} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

/**
 * @param {Element} element
 * @param {Record<string, string | number | boolean | null | undefined>} attributes
 */
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

// as vladkit.core.names: what steers a terminal, changes the direction of writing, or is not seen
const UNSEEN =
  /[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0001}-\u{e007f}]/gu;
/** @type {Record<string, string>} */
const ESCAPED = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/**
 * Text of which every character is seen, as the command prints names of files.
 *
 * @param {string} text
 */
export function readable(text) {
  return text.replace(UNSEEN, (found) => {
    const code = found.codePointAt(0) ?? 0;
    const digits = code < 0x100 ? 2 : code < 0x10000 ? 4 : 8;
    const kind = { 2: "x", 4: "u", 8: "U" }[digits];
    return ESCAPED[found] ?? `\\${kind}${code.toString(16).padStart(digits, "0")}`;
  });
}

/** @param {string} name of a symbol in index.html, without "i-" */
export function icon(name) {
  return svg("svg", { "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

/**
 * A path on one line: the folder gives way first, the whole is in the title.
 *
 * @param {string} path
 */
export function pathLine(path) {
  path = readable(path);
  const cut = path.lastIndexOf("/") + 1;
  return el(
    "span",
    { class: "path", title: path },
    cut ? el("span", { class: "folder" }, path.slice(0, cut)) : null,
    el("span", { class: "base" }, path.slice(cut)),
  );
}

const COUNT = new Intl.NumberFormat("en");

/** @param {number} n */
export function count(n) {
  return COUNT.format(n);
}

/** @param {number} score a similarity up to 1, or what codes and matching made of it */
export function decimals(score) {
  if (Math.abs(score) < 0.1 && score) return score.toPrecision(2);
  return score.toFixed(score < 10 ? 3 : 1);
}

/**
 * @param {number} n
 * @param {string} one
 * @param {string} [many]
 */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}
