// @ts-check
/** Matches over two images: a line and two points each, and where the query lies in the match. */

import { onStage } from "./arrange.js";
import { set, svg } from "./dom.js";

/** @typedef {import("./api.js").Point} Point */
/** @typedef {import("./arrange.js").Arrangement} Arrangement */
/** @typedef {import("./state.js").Region} Region */
/** @typedef {{line: SVGLineElement, ends: [SVGCircleElement, SVGCircleElement]}} Drawn */

const REACH = 10; // px of the screen around a line in which it is pointed at

export class Overlay {
  /** @param {SVGSVGElement} host */
  constructor(host) {
    this.host = host;
    /** @type {Point[]} */
    this.points = [];
    /** @type {Drawn[]} */
    this.drawn = [];
    /** @type {[number, number, number, number][]} */
    this.ends = [];
    /** @type {[number, number][] | null} */
    this.outline = null;
    /** @type {Region | null} */
    this.region = null;
    this.lit = -1;
    this.cut = svg("rect");
    this.lines = svg("g", { class: "lines" });
    this.dots = svg("g", { class: "points" });
    // the outline is two strokes, or it is lost on images of its own colour
    this.outlines = svg("g", { class: "outline", "clip-path": "url(#in-match)" }, svg("polygon"), svg("polygon"));
    this.searched = svg("g", { class: "outline searched" }, svg("rect"), svg("rect"));
    const clip = svg("clipPath", { id: "in-match" }, this.cut);
    host.append(svg("defs", {}, clip), this.outlines, this.searched, this.lines, this.dots);
  }

  /**
   * @param {Point[]} points what is drawn, the clearest first
   * @param {[number, number][] | null} outline
   * @param {Region | null} region of the query
   */
  show(points, outline, region) {
    this.points = points;
    this.outline = outline;
    this.region = region;
    this.lit = -1;
    this.host.classList.remove("has-lit");
    const [left, right] = extent(points.map((point) => point[0]));
    this.drawn = points.map((point) => {
      // coloured from left to right in the query: a place has the same colour in both images
      const across = right > left ? (point[0] - left) / (right - left) : 0.5;
      const color = `hsl(${Math.round(20 + 290 * across)} 95% 62%)`;
      const dot = () => svg("circle", { r: 4, fill: color });
      return { line: svg("line", { stroke: color }), ends: [dot(), dot()] };
    });
    this.lines.replaceChildren(...this.drawn.map((each) => each.line));
    this.dots.replaceChildren(...this.drawn.flatMap((each) => each.ends));
    // a few lines are seen best as they are, hundreds through each other
    const opacity = Math.min(0.9, Math.max(0.25, 6.5 / Math.sqrt(points.length + 1)));
    this.lines.style.setProperty("--line-opacity", opacity.toFixed(2));
  }

  /** @param {Arrangement} arrangement */
  place(arrangement) {
    const { width, height, query, match } = arrangement;
    set(this.host, { viewBox: `0 0 ${width} ${height}`, width, height });
    this.ends = this.points.map(([qx, qy, x, y]) => [
      ...onStage(query, qx, qy),
      ...onStage(match, x, y),
    ]);
    this.drawn.forEach(({ line, ends }, i) => {
      const [x1, y1, x2, y2] = this.ends[i];
      set(line, { x1, y1, x2, y2 });
      set(ends[0], { cx: x1, cy: y1 });
      set(ends[1], { cx: x2, cy: y2 });
    });
    set(this.cut, { x: match.x, y: match.y, width: match.width, height: match.height });
    const corners = (this.outline ?? []).map(([x, y]) => onStage(match, x, y).join());
    for (const each of this.outlines.children) {
      set(each, { points: corners.join(" "), visibility: corners.length ? null : "hidden" });
    }
    for (const each of this.searched.children) {
      if (this.region) {
        const [left, top, w, h] = this.region;
        const x = query.x + left * query.scale;
        const y = query.y + top * query.scale;
        set(each, { x, y, width: w * query.scale, height: h * query.scale });
      }
      set(each, { visibility: this.region ? null : "hidden" });
    }
  }

  /** @param {{lines: boolean, points: boolean, outline: boolean}} what */
  choose({ lines, points, outline }) {
    set(this.lines, { visibility: lines ? null : "hidden" });
    set(this.dots, { visibility: points ? null : "hidden" });
    set(this.outlines, { display: outline ? null : "none" });
    set(this.searched, { display: outline ? null : "none" });
    this.byLine = lines;
  }

  /** @param {number} i -1: none */
  light(i) {
    if (i === this.lit) return;
    for (const [at, on] of /** @type {const} */ ([[this.lit, false], [i, true]])) {
      const each = this.drawn[at];
      if (!each) continue;
      for (const part of [each.line, ...each.ends]) part.classList.toggle("lit", on);
      if (on) {
        this.lines.append(each.line); // what comes last is on top
        this.dots.append(...each.ends);
      }
    }
    this.lit = this.drawn[i] ? i : -1;
    this.host.classList.toggle("has-lit", this.lit >= 0);
  }

  /**
   * The match whose point, or line, is nearest; -1 if none is near.
   *
   * @param {number} x px of the stage
   * @param {number} y
   */
  nearest(x, y) {
    let best = -1;
    let least = REACH;
    this.ends.forEach(([x1, y1, x2, y2], i) => {
      const byPoint = Math.min(Math.hypot(x - x1, y - y1), Math.hypot(x - x2, y - y2));
      // a point comes before a line that happens to cross there
      const byLine = this.byLine ? toSegment(x, y, x1, y1, x2, y2) + REACH / 2 : Infinity;
      const distance = Math.min(byPoint, byLine);
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  }
}

/** @param {number[]} values */
function extent(values) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) {
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  return [least, most];
}

/**
 * @param {number} x
 * @param {number} y
 * @param {number} x1
 * @param {number} y1
 * @param {number} x2
 * @param {number} y2
 */
function toSegment(x, y, x1, y1, x2, y2) {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const length = dx * dx + dy * dy;
  const t = length ? Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / length)) : 0;
  return Math.hypot(x - x1 - t * dx, y - y1 - t * dy);
}
