// @ts-check
/** The query: its image, what is known of it, and the part of it that is searched by. */

import { byId, el, pathLine, plural, readable } from "./dom.js";
import { pixels, sizeOf } from "./image.js";
import { RegionMarker } from "./region.js";

/** @typedef {import("./api.js").Query} Query */
/** @typedef {import("./state.js").Region} Region */

const MOUSE = matchMedia("(hover: hover)"); // a finger scrolls where a mouse marks a part

export class QueryPanel {
  /** @param {(region: Region | null) => void} onPart search by that; null: by the whole */
  constructor(onPart) {
    this.panel = byId("query", HTMLElement);
    this.room = byId("query-room", HTMLElement);
    this.img = byId("query-image", HTMLImageElement);
    this.name = byId("query-name", HTMLElement);
    this.facts = byId("query-facts", HTMLElement);
    this.others = byId("query-others", HTMLElement);
    this.regionText = byId("region-text", HTMLElement);
    this.mark = byId("mark", HTMLButtonElement);
    this.searchRegion = byId("search-region", HTMLButtonElement);
    this.clearRegion = byId("clear-region", HTMLButtonElement);
    this.marker = new RegionMarker(byId("region", HTMLElement), {
      onChange: (region) => this.showRegion(region),
      onSearch: onPart,
    });
    this.shown = ""; // key and id of what is shown
    this.preview = "";
    this.marking = false; // the focus goes on to the button that marks a part, once it can be pressed
    /** @type {Region | null} that the results are for */
    this.asked = null;

    this.mark.addEventListener("click", () => this.marker.begin());
    this.searchRegion.addEventListener("click", () => {
      onPart(this.marker.region);
      this.clearRegion.focus(); // the button that was clicked goes away
    });
    this.clearRegion.addEventListener("click", () => {
      this.marker.clear();
      onPart(null);
      this.marking = this.mark.disabled;
      (this.marking ? this.panel : this.mark).focus();
    });
    // a file that the browser cannot show, such as TIFF: the server's JPEG comes with the answer
    this.img.addEventListener("error", () => this.img.classList.add("unseen"));
    this.img.addEventListener("load", () => {
      this.img.classList.remove("unseen");
      this.shape(this.img.naturalWidth / this.img.naturalHeight);
    });
  }

  /** @param {File[]} files that are being sent */
  showFiles(files) {
    this.hide();
    URL.revokeObjectURL(this.preview);
    const [file] = files;
    this.preview = URL.createObjectURL(file);
    this.img.hidden = false;
    this.img.src = this.preview;
    this.img.alt = "Query";
    this.name.replaceChildren(files.length > 1 ? oneThing(files.length) : pathLine(file.name));
    this.facts.textContent = megabytes(files.reduce((sum, { size }) => sum + size, 0));
    this.shown = named(null, null); // it has no name yet
  }

  /**
   * @param {Query[]} queries images of one thing; mostly one
   * @param {Map<string, Blob>} files that were sent, where this page still has them
   */
  show(queries, files) {
    const [query, ...others] = queries;
    const file = files.get(query.key ?? "");
    this.img.hidden = false;
    if (this.img.getAttribute("src") !== query.preview) this.img.src = query.preview;
    this.img.alt = query.path ? readable(`Query: ${query.path}`) : "Query";
    const { width, height } = sizeOf(query, this.img);
    this.img.width = width;
    this.img.height = height;
    this.shape(width / height);
    const name = query.path ?? (file instanceof File ? file.name : "Uploaded image");
    this.name.replaceChildren(others.length ? oneThing(queries.length) : pathLine(name));
    const features = plural(query.n_features, "feature");
    const where = query.region ? " in the part" : "";
    const since = query.changed ? "changed since it was indexed" : "";
    const facts = [pixels(query), since].filter(Boolean);
    this.facts.textContent = others.length ? "" : facts.join(", ");
    this.facts.title = `${features}${where}`;
    this.others.hidden = !others.length;
    this.others.replaceChildren(
      ...others.map(({ preview }) => el("li", {}, el("img", { src: preview, alt: "Query" }))),
    );
    this.asked = query.region;
    if (others.length || !query.width) {
      this.showRegion(null); // a part is of one image, and in its px
      this.marker.host.hidden = true;
      this.mark.hidden = true;
      this.regionText.textContent = "";
    } else {
      this.mark.disabled = false;
      if (this.marking && document.activeElement === this.panel) this.mark.focus();
      this.marking = false;
      this.marker.show(width, height, query.region);
      this.showRegion(query.region);
    }
    const keys = queries.map(({ key }) => key);
    this.shown = named(keys[0] === null ? null : keys.join(), query.id);
  }

  hide() {
    this.img.hidden = true;
    this.img.removeAttribute("src");
    this.marker.host.hidden = true;
    this.name.replaceChildren();
    this.facts.textContent = "";
    this.others.hidden = true;
    this.asked = null;
    this.showRegion(null);
    this.regionText.textContent = "";
    this.mark.disabled = true;
    this.shown = "";
  }

  /**
   * A query that there is no answer to: by the whole of it there may be one.
   *
   * @param {import("./state.js").State} wanted
   */
  showUnanswered({ query, id, region }) {
    this.hide();
    if (!region) return;
    const [key] = (query ?? "").split(",");
    this.img.hidden = false;
    this.img.src = key ? `/api/queries/${key}/preview` : `/api/images/${id}/preview`;
    this.img.alt = "Query";
    this.asked = region;
    this.showRegion(region);
  }

  /** @param {{query: string | null, id: number | null}} wanted */
  shows({ query, id }) {
    return this.shown === named(query, id);
  }

  /** @param {number} aspect of the image, width by height */
  shape(aspect) {
    this.room.style.setProperty("--aspect", String(aspect));
  }

  /** @param {Region | null} region */
  showRegion(region) {
    this.mark.hidden = region !== null;
    this.clearRegion.hidden = region === null;
    this.searchRegion.hidden = region === null || region.join() === this.asked?.join();
    this.regionText.textContent = region
      ? `Part: ${region[2]} × ${region[3]} px at ${region[0]}, ${region[1]}`
      : MOUSE.matches
        ? "Drag on the image to search by a part of it."
        : "Mark a part to search by it alone.";
  }
}

/**
 * @param {string | null} keys
 * @param {number | null} id
 */
function named(keys, id) {
  return `${keys} ${keys === null ? id : null}`;
}

/** @param {number} n */
function oneThing(n) {
  return `${n} images of one thing`;
}

/** @param {number} bytes */
export function megabytes(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
