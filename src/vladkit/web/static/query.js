// @ts-check
/** The query: its picture, what is known of it, and the part of it that is searched by. */

import { byId, pathLine, plural } from "./dom.js";
import { RegionMarker } from "./region.js";

/** @typedef {import("./api.js").Query} Query */
/** @typedef {import("./state.js").Region} Region */

export class QueryPanel {
  /** @param {(region: Region | null) => void} onPart search by that; null: by the whole */
  constructor(onPart) {
    this.room = byId("query-picture", HTMLElement);
    this.image = byId("query-image", HTMLImageElement);
    this.name = byId("query-name", HTMLElement);
    this.facts = byId("query-facts", HTMLElement);
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
      this.mark.focus();
    });
    // a file that the browser cannot show, such as TIFF: the server's JPEG comes with the answer
    this.image.addEventListener("error", () => this.image.classList.add("unseen"));
    this.image.addEventListener("load", () => {
      this.image.classList.remove("unseen");
      this.shape(this.image.naturalWidth / this.image.naturalHeight);
    });
  }

  /** @param {Blob} file that is being sent */
  showFile(file) {
    this.hide();
    URL.revokeObjectURL(this.preview);
    this.preview = URL.createObjectURL(file);
    this.image.hidden = false;
    this.image.src = this.preview;
    this.image.alt = "Query";
    this.name.replaceChildren(pathLine(file instanceof File ? file.name : ""));
    this.facts.textContent = megabytes(file.size);
    this.shown = named({ key: null, id: null }); // it has no name yet
  }

  /**
   * @param {Query} query
   * @param {Blob | undefined} file that was sent, where this page still has it
   */
  show(query, file) {
    this.image.hidden = false;
    if (this.image.getAttribute("src") !== query.image) this.image.src = query.image;
    this.image.alt = query.path ? `Query: ${query.path}` : "Query";
    this.image.width = query.width;
    this.image.height = query.height;
    this.shape(query.width / query.height);
    const name = query.path ?? (file instanceof File ? file.name : "Uploaded picture");
    this.name.replaceChildren(pathLine(name));
    const features = plural(query.n_features, "feature");
    const where = query.region ? " in the part" : "";
    this.facts.textContent = `${query.width} × ${query.height} px · ${features}${where}`;
    this.mark.disabled = false;
    this.asked = query.region;
    this.marker.show(query.width, query.height, query.region);
    this.showRegion(query.region);
    this.shown = named(query);
  }

  hide() {
    this.image.hidden = true;
    this.image.removeAttribute("src");
    this.marker.host.hidden = true;
    this.name.replaceChildren();
    this.facts.textContent = "";
    this.asked = null;
    this.showRegion(null);
    this.regionText.textContent = "";
    this.mark.disabled = true;
    this.shown = "";
  }

  /** @param {{key: string | null, id: number | null}} query */
  shows(query) {
    return this.shown === named(query);
  }

  /** @param {number} aspect of the picture, width by height */
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
      : "Drag on the picture to search by a part of it.";
  }
}

/** @param {{key: string | null, id: number | null}} query */
function named({ key, id }) {
  return `${key} ${id}`;
}

/** @param {number} bytes */
export function megabytes(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
