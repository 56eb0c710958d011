// @ts-check
/**
 * A rectangle on an image, by pointer or by keyboard.
 *
 * A mouse draws one anywhere. A finger scrolls the page there, as everywhere, and only moves a
 * rectangle that is shown: `begin` shows one.
 */

import { el } from "./dom.js";

/** @typedef {import("./state.js").Region} Region */
/** @typedef {{left: number, top: number, right: number, bottom: number}} Box edges, px of the image */

const REACH = 12; // px of the screen around an edge in which it is grabbed
const SMALLEST = 16; // px of the image: nothing is found in less
const STEPS = 40; // presses of an arrow from one side of the image to the other

export class RegionMarker {
  /**
   * @param {HTMLElement} host covers the image exactly
   * @param {object} hear
   * @param {(region: Region | null) => void} hear.onChange while it is drawn or moved
   * @param {(region: Region | null) => void} hear.onSearch it is as wanted
   */
  constructor(host, { onChange, onSearch }) {
    this.host = host;
    this.onChange = onChange;
    this.onSearch = onSearch;
    this.width = 0;
    this.height = 0;
    /** @type {Box | null} */
    this.box = null;
    /** @type {((x: number, y: number) => void) | null} */
    this.drag = null;
    this.frame = el("div", { class: "region-box", hidden: true });
    for (const corner of ["nw", "ne", "sw", "se"]) {
      this.frame.append(el("span", { class: `region-corner ${corner}` }));
    }
    host.append(this.frame);
    host.addEventListener("pointerdown", (event) => this.press(event));
    host.addEventListener("pointermove", (event) => this.move(event));
    host.addEventListener("pointerup", (event) => this.release(event));
    host.addEventListener("pointercancel", () => this.cancel());
    host.addEventListener("keydown", (event) => this.key(event));
  }

  /**
   * @param {number} width of the image, px
   * @param {number} height
   * @param {Region | null} region
   */
  show(width, height, region) {
    this.drag = null;
    this.width = width;
    this.height = height;
    this.host.hidden = false;
    this.box = region && this.clamp(edges(region));
    this.draw();
  }

  /** @returns {Region | null} */
  get region() {
    if (!this.box) return null;
    const { left, top, right, bottom } = this.box;
    const x = Math.round(left);
    const y = Math.round(top);
    return [x, y, Math.max(1, Math.round(right) - x), Math.max(1, Math.round(bottom) - y)];
  }

  /** The middle of the image is marked, to be moved from there. */
  begin() {
    if (!this.box) {
      const { width, height } = this;
      this.change({ left: width / 4, top: height / 4, right: width * 0.75, bottom: height * 0.75 });
    }
    this.host.focus();
  }

  clear() {
    this.drag = null;
    this.box = null;
    this.draw();
    this.onChange(null);
  }

  /** @param {Box} box */
  change(box) {
    this.box = this.clamp(box);
    this.draw();
    this.onChange(this.region);
  }

  /**
   * @param {Box} box
   * @returns {Box}
   */
  clamp({ left, top, right, bottom }) {
    /** @param {number} value @param {number} most */
    const within = (value, most) => Math.min(Math.max(value, 0), most);
    return {
      left: within(Math.min(left, right), this.width),
      top: within(Math.min(top, bottom), this.height),
      right: within(Math.max(left, right), this.width),
      bottom: within(Math.max(top, bottom), this.height),
    };
  }

  draw() {
    this.frame.hidden = !this.box;
    this.host.classList.toggle("marked", this.box !== null);
    if (!this.box) return;
    const { left, top, right, bottom } = this.box;
    const style = this.frame.style;
    style.left = `${(left / this.width) * 100}%`;
    style.top = `${(top / this.height) * 100}%`;
    style.width = `${((right - left) / this.width) * 100}%`;
    style.height = `${((bottom - top) / this.height) * 100}%`;
  }

  // -- pointer ------------------------------------------------------------------------

  /**
   * @param {PointerEvent} event
   * @returns {{x: number, y: number, reach: number}} px of the image
   */
  place(event) {
    const room = this.host.getBoundingClientRect();
    const scale = this.width / room.width;
    const reach = (event.pointerType === "touch" ? 2 : 1) * REACH * scale;
    return { x: (event.clientX - room.left) * scale, y: (event.clientY - room.top) * scale, reach };
  }

  /**
   * Which edges are near, or "inside", or null.
   *
   * @param {{x: number, y: number, reach: number}} at
   */
  grip({ x, y, reach }) {
    const box = this.box;
    if (!box) return null;
    const { left, top, right, bottom } = box;
    if (x < left - reach || x > right + reach || y < top - reach || y > bottom + reach) return null;
    // of a small rectangle the outer half of each side is its edge, the middle moves it
    const inX = Math.min(reach, (right - left) / 4);
    const inY = Math.min(reach, (bottom - top) / 4);
    const grip =
      (y < top + inY ? "n" : y > bottom - inY ? "s" : "") +
      (x < left + inX ? "w" : x > right - inX ? "e" : "");
    return grip || "inside";
  }

  /** @param {PointerEvent} event */
  press(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    const at = this.place(event);
    const grip = this.grip(at);
    if (!grip && event.pointerType === "touch") return;
    event.preventDefault();
    this.host.focus({ preventScroll: true });
    this.host.setPointerCapture(event.pointerId);
    const before = this.box;
    this.before = before;
    this.started = { x: event.clientX, y: event.clientY };
    if (before && grip === "inside") {
      this.drag = (x, y) => this.shift(before, x - at.x, y - at.y);
    } else if (before && grip) {
      this.drag = (x, y) =>
        this.change({
          left: grip.includes("w") ? x : before.left,
          right: grip.includes("e") ? x : before.right,
          top: grip.includes("n") ? y : before.top,
          bottom: grip.includes("s") ? y : before.bottom,
        });
    } else {
      this.drag = (x, y) => this.change({ left: at.x, top: at.y, right: x, bottom: y });
    }
  }

  /** @param {PointerEvent} event */
  move(event) {
    const at = this.place(event);
    if (this.drag) {
      this.drag(at.x, at.y);
      return;
    }
    const grip = this.grip(at);
    this.host.style.cursor = grip === "inside" ? "move" : grip ? `${grip}-resize` : "crosshair";
  }

  /** @param {PointerEvent} event */
  release(event) {
    if (!this.drag) return;
    this.drag = null;
    const { x, y } = this.started ?? { x: 0, y: 0 };
    const moved = Math.hypot(event.clientX - x, event.clientY - y);
    const region = this.region;
    if (moved < 4 || !region || region[2] < SMALLEST || region[3] < SMALLEST) {
      this.cancel(); // a click, or a slip
    } else {
      this.onSearch(region);
    }
  }

  cancel() {
    this.drag = null;
    this.box = this.before ?? null;
    this.draw();
    this.onChange(this.region);
  }

  // -- keyboard -----------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = Math.max(1, Math.round(Math.max(this.width, this.height) / STEPS));
    const arrow = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, -step],
      ArrowDown: [0, step],
    }[event.key];
    if (arrow) {
      if (!this.box) this.begin();
      else if (event.shiftKey) this.grow(arrow[0], arrow[1]);
      else this.shift(this.box, arrow[0], arrow[1]);
    } else if (event.key === "Enter") {
      if (this.box) this.onSearch(this.region);
      else this.begin();
    } else if (event.key === "Escape" && this.box) {
      this.clear();
      this.onSearch(null);
    } else {
      return;
    }
    event.preventDefault();
  }

  /**
   * @param {Box} box
   * @param {number} dx
   * @param {number} dy
   */
  shift(box, dx, dy) {
    const x = Math.min(Math.max(dx, -box.left), this.width - box.right);
    const y = Math.min(Math.max(dy, -box.top), this.height - box.bottom);
    const { left, top, right, bottom } = box;
    this.change({ left: left + x, top: top + y, right: right + x, bottom: bottom + y });
  }

  /**
   * The right and the lower edge move.
   *
   * @param {number} dx
   * @param {number} dy
   */
  grow(dx, dy) {
    if (!this.box) return;
    const { left, top, right, bottom } = this.box;
    this.change({
      left,
      top,
      right: Math.max(right + dx, left + SMALLEST),
      bottom: Math.max(bottom + dy, top + SMALLEST),
    });
  }
}

/**
 * @param {Region} region
 * @returns {Box}
 */
function edges([left, top, width, height]) {
  return { left, top, right: left + width, bottom: top + height };
}
