// @ts-check
/** The search view: a query, its settings, and what was found. */

import { Problem, address, get, isAbort, upload } from "./api.js";
import { Activity } from "./activity.js";
import { byId, count, el, pathLine, plural } from "./dom.js";
import { Gallery } from "./gallery.js";
import { searchable } from "./picture.js";
import { RegionMarker } from "./region.js";
import { format, state } from "./state.js";

/** @typedef {import("./api.js").Answer} Answer */
/** @typedef {import("./api.js").Asking} Asking */
/** @typedef {import("./api.js").Info} Info */
/** @typedef {import("./api.js").Page<import("./api.js").Picture>} Pictures */
/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Region} Region */

const TOPS = [12, 24, 48, 96, 200, 500];
const RERANKS = [20, 50, 100, 200, 500];
const TOP = 24;
const RERANK = 50;
const EXAMPLES = 12;
const REMEMBERED = 8; // uploads that can be sent again, and answers that need not be asked for again

export class SearchView {
  /**
   * @param {Info} info
   * @param {object} hear
   * @param {(shown: State, replace?: boolean) => void} hear.onState the address says this now
   * @param {(answer: Answer) => void} hear.onAnswer
   * @param {(error: unknown) => void} hear.onError of what is no search
   */
  constructor(info, { onState, onAnswer, onError }) {
    this.info = info;
    this.onState = onState;
    this.onAnswer = onAnswer;
    this.onError = onError;
    this.activity = new Activity(byId("activity", HTMLElement));
    this.gallery = new Gallery(byId("results", HTMLElement), (result) =>
      format({ ...this.shown, match: result.id }),
    );
    this.image = byId("query-image", HTMLImageElement);
    this.name = byId("query-name", HTMLElement);
    this.facts = byId("query-facts", HTMLElement);
    this.nothing = byId("nothing", HTMLElement);
    this.after = byId("after", HTMLElement);
    this.regionText = byId("region-text", HTMLElement);
    this.mark = byId("mark", HTMLButtonElement);
    this.searchRegion = byId("search-region", HTMLButtonElement);
    this.clearRegion = byId("clear-region", HTMLButtonElement);
    this.rerankOn = byId("rerank-on", HTMLInputElement);
    this.rerank = byId("rerank", HTMLSelectElement);
    this.top = byId("top", HTMLSelectElement);
    this.marker = new RegionMarker(byId("region", HTMLElement), {
      onChange: (region) => this.showRegion(region),
      onSearch: (region) => this.searchPart(region),
    });

    /** @type {State} what was asked for last */
    this.shown = state();
    /** @type {Answer | null} to `shown` */
    this.answer = null;
    this.asked = new AbortController();
    /** @type {Map<string, Blob>} by key: sent again if the server forgot */
    this.files = new Map();
    /** @type {Map<string, Answer>} by address */
    this.answers = new Map();
    this.preview = "";
    this.queryShown = ""; // key and id of the query whose picture is shown
    this.examples = false;
    this.controls();
  }

  controls() {
    const { limits, keeps_features: keeps } = this.info;
    fillSelect(this.top, TOPS, limits.top);
    fillSelect(this.rerank, RERANKS, limits.rerank);
    this.rerankOn.disabled = !keeps;
    byId("rerank-why", HTMLElement).textContent = keeps
      ? "The first are matched with the query, feature by feature."
      : "This collection keeps no features to match with (vladkit index --keep-features).";
    for (const control of [this.rerankOn, this.rerank, this.top]) {
      control.addEventListener("change", () => {
        this.rerank.disabled = !this.rerankOn.checked;
        if (this.shown.query !== null || this.shown.id !== null) {
          this.onState({ ...this.shown, ...this.settings(), match: null });
        }
      });
    }
    byId("settings", HTMLFormElement).addEventListener("submit", (event) => event.preventDefault());
    this.mark.addEventListener("click", () => this.marker.begin());
    this.searchRegion.addEventListener("click", () => {
      this.searchPart(this.marker.region);
      this.clearRegion.focus(); // the button that was clicked goes away
    });
    this.clearRegion.addEventListener("click", () => {
      this.marker.clear();
      this.searchPart(null);
      this.mark.focus();
    });
    this.image.addEventListener("error", () => this.image.classList.add("unseen"));
    this.image.addEventListener("load", () => {
      this.image.classList.remove("unseen");
      this.shape(this.image.naturalWidth / this.image.naturalHeight);
    });
  }

  /** @returns {{top: number | null, rerank: number | null}} null: as without the address saying so */
  settings() {
    const top = Number(this.top.value);
    const rerank = this.rerankOn.checked ? Number(this.rerank.value) : 0;
    return { top: top === this.plainTop() ? null : top, rerank: rerank === this.plainRerank() ? null : rerank };
  }

  plainTop() {
    return Math.min(TOP, this.info.limits.top);
  }

  plainRerank() {
    return this.info.keeps_features ? Math.min(RERANK, this.info.limits.rerank) : 0;
  }

  // -- what the address says ----------------------------------------------------------

  /**
   * @param {State} shown
   */
  async show(shown) {
    const same = this.answer !== null && question(shown) === question(this.shown);
    this.shown = shown;
    if (same) return;
    this.asked.abort();
    const empty = shown.query === null && shown.id === null;
    byId("start", HTMLElement).hidden = !empty;
    byId("searching", HTMLElement).hidden = empty;
    this.showSettings(shown);
    if (empty) {
      this.answer = null;
      await this.showExamples();
    } else {
      await this.run(shown, null);
    }
  }

  /** Another view is shown: what is asked for here is not wanted any more. */
  leave() {
    if (this.asked.signal.aborted || this.answer) return;
    this.asked.abort();
    this.shown = state();
  }

  /** @param {State} shown */
  showSettings(shown) {
    const rerank = shown.rerank ?? this.plainRerank();
    choose(this.top, shown.top ?? this.plainTop());
    this.rerankOn.checked = rerank > 0 && this.info.keeps_features;
    if (rerank > 0) choose(this.rerank, rerank);
    this.rerank.disabled = !this.rerankOn.checked;
  }

  /** @param {Blob} file a new query */
  async take(file) {
    const settings = this.settings();
    byId("start", HTMLElement).hidden = true;
    byId("searching", HTMLElement).hidden = false;
    this.asked.abort();
    this.answer = null;
    this.showPreview(file);
    const { upload_bytes: most } = this.info.limits;
    if (file.size > most) {
      this.fail(new Problem(413, `The file has ${megabytes(file.size)}, the server takes ${megabytes(most)}: make it smaller.`));
      return;
    }
    await this.run(state(settings), file);
  }

  /** @param {Region | null} region */
  searchPart(region) {
    if (region?.join() !== this.shown.region?.join()) {
      this.onState({ ...this.shown, region, match: null });
    }
  }

  // -- searching ----------------------------------------------------------------------

  /**
   * Plain results first, they are there at once; then the order after matching.
   *
   * @param {State} wanted
   * @param {Blob | null} file sent instead of naming a query that the server has
   */
  async run(wanted, file) {
    const asked = new AbortController();
    this.asked = asked;
    const asking = this.asking(asked.signal);
    const top = wanted.top ?? this.plainTop();
    const rerank = this.info.keeps_features ? (wanted.rerank ?? this.plainRerank()) : 0;
    byId("searching", HTMLElement).classList.add("stale");
    this.nothing.hidden = true;
    const final = file ? null : this.answers.get(searchAddress(wanted, top, rerank));
    if (!final) this.activity.step(file ? "Sending the picture" : "Searching");
    try {
      let answer = final ?? (await this.plain(wanted, top, file, asking));
      if (asked.signal.aborted) return;
      if (wanted.query !== answer.query.key) {
        // sent now, or sent again: known by another name from here on
        const sent = file ?? this.files.get(wanted.query ?? "");
        if (sent && answer.query.key) remember(this.files, answer.query.key, sent);
        const again = wanted.query !== null;
        wanted = { ...wanted, query: answer.query.key };
        this.shown = wanted;
        this.answer = answer;
        this.onState(wanted, again);
      }
      const reranking = !final && rerank > 0 && answer.results.length > 0;
      this.render(answer, false, reranking);
      if (!reranking) {
        if (final || !rerank) remember(this.answers, searchAddress(wanted, top, rerank), answer);
        return;
      }
      this.activity.step(`Matching ${plural(Math.min(rerank, answer.pictures), "picture")}`);
      try {
        answer = await get(searchAddress(wanted, top, rerank), asking);
      } catch (error) {
        if (isAbort(error) || asked.signal.aborted) return;
        this.activity.failed(`${sentence(error)} The results are as before matching.`);
        this.onAnswer(answer);
        return;
      }
      if (asked.signal.aborted) return;
      remember(this.answers, searchAddress(wanted, top, rerank), answer);
      this.render(answer, true, false);
    } catch (error) {
      if (!isAbort(error) && !asked.signal.aborted) this.fail(error, wanted);
    }
  }

  /**
   * @param {State} wanted
   * @param {number} top
   * @param {Blob | null} file
   * @param {Asking} asking
   * @returns {Promise<Answer>}
   */
  async plain(wanted, top, file, asking) {
    if (file) return upload(address("/api/search", { top }), file, asking);
    try {
      return await get(searchAddress(wanted, top, 0), asking);
    } catch (error) {
      const again = wanted.query && this.files.get(wanted.query);
      if (!(error instanceof Problem) || error.status !== 404 || !again) throw error;
      // forgotten by the server, but not by this page
      return upload(address("/api/search", { top, region: wanted.region?.join() }), again, asking);
    }
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Asking}
   */
  asking(signal) {
    return {
      signal,
      onWait: (seconds) => {
        if (!signal.aborted) this.activity.step(`The server is busy: waiting ${Math.ceil(seconds)} s for a free place`);
      },
      onProgress: (fraction) => {
        if (signal.aborted) return;
        if (fraction < 1) this.activity.progress(fraction);
        else this.activity.step("Searching");
      },
    };
  }

  // -- showing ------------------------------------------------------------------------

  /**
   * @param {Answer} answer
   * @param {boolean} moving only the order changed
   * @param {boolean} more matching is to come
   */
  render(answer, moving, more) {
    this.answer = answer;
    const { query, results } = answer;
    byId("searching", HTMLElement).classList.remove("stale");
    if (!moving) this.showQuery(query);
    this.gallery.show(results, moving);
    this.nothing.hidden = results.length > 0;
    this.nothing.textContent = answer.pictures ? "Nothing was found." : "The collection is empty.";
    this.after.replaceChildren(...(results.length ? this.summary(answer) : []));
    if (!more) {
      const verified = results.filter((result) => result.verified).length;
      const found = answer.reranked ? `${plural(verified, "picture")} verified` : plural(results.length, "result");
      this.activity.done(results.length ? found : "");
    }
    this.onAnswer(answer);
  }

  /** @param {Answer} answer */
  summary({ results, pictures, reranked, min_inliers: least }) {
    const { shown } = this;
    const top = shown.top ?? this.plainTop();
    return [
      `${plural(results.length, "result")} of ${plural(pictures, "picture")}. `,
      reranked ? `${count(reranked)} were matched; from ${least} matches that agree a picture is verified. ` : "",
      el("a", { href: searchAddress(shown, top, reranked), target: "_blank", rel: "noopener" }, "As JSON"),
    ];
  }

  /** @param {Blob} file */
  showPreview(file) {
    URL.revokeObjectURL(this.preview);
    this.preview = URL.createObjectURL(file);
    this.image.hidden = false;
    this.image.src = this.preview;
    this.image.alt = "Query";
    this.marker.host.hidden = true;
    const name = file instanceof File ? file.name : "";
    this.name.replaceChildren(pathLine(name));
    this.facts.textContent = megabytes(file.size);
    this.showRegion(null);
    this.regionText.textContent = "";
    this.mark.disabled = true;
    this.queryShown = "null null"; // it has no name yet
    this.gallery.clear();
    this.after.replaceChildren();
  }

  /** @param {number} aspect of the query's picture, width by height */
  shape(aspect) {
    byId("query-picture", HTMLElement).style.setProperty("--aspect", String(aspect));
  }

  /** @param {Answer["query"]} query */
  showQuery(query) {
    this.image.hidden = false;
    if (this.image.getAttribute("src") !== query.image) this.image.src = query.image;
    this.image.alt = query.path ? `Query: ${query.path}` : "Query";
    this.image.width = query.width;
    this.image.height = query.height;
    this.shape(query.width / query.height);
    this.queryShown = `${query.key} ${query.id}`;
    const file = query.key ? this.files.get(query.key) : undefined;
    const name = query.path ?? (file instanceof File ? file.name : "Uploaded picture");
    this.name.replaceChildren(pathLine(name));
    this.facts.textContent = `${query.width} × ${query.height} px · ${plural(query.n_features, "feature")}${query.region ? " in the part" : ""}`;
    this.mark.disabled = false;
    this.marker.show(query.width, query.height, query.region);
    this.showRegion(query.region);
  }

  hideQuery() {
    this.image.hidden = true;
    this.image.removeAttribute("src");
    this.marker.host.hidden = true;
    this.name.replaceChildren();
    this.facts.textContent = "";
    this.showRegion(null);
    this.regionText.textContent = "";
    this.mark.disabled = true;
    this.queryShown = "";
  }

  /** @param {Region | null} region */
  showRegion(region) {
    const asked = (this.answer?.query.region ?? null)?.join();
    this.mark.hidden = region !== null;
    this.clearRegion.hidden = region === null;
    this.searchRegion.hidden = region === null || region.join() === asked;
    this.regionText.textContent = region
      ? `Part: ${region[2]} × ${region[3]} px at ${region[0]}, ${region[1]}`
      : "Drag on the picture to search by a part of it.";
  }

  /**
   * @param {unknown} error
   * @param {State} [wanted]
   */
  fail(error, wanted) {
    let text = sentence(error);
    if (error instanceof Problem && error.status === 404 && wanted?.query) {
      text = "The server has forgotten this picture. Drop it again, or choose it.";
    }
    this.answer = null;
    if (wanted && `${wanted.query} ${wanted.id}` !== this.queryShown) this.hideQuery();
    byId("searching", HTMLElement).classList.remove("stale");
    this.gallery.clear();
    this.after.replaceChildren();
    this.activity.failed(text);
    if (error instanceof Problem && error.status === 401) this.onError(error);
  }

  async showExamples() {
    if (this.examples) return;
    this.examples = true;
    try {
      const offset = Math.max(0, Math.floor((this.info.pictures - EXAMPLES) / 2));
      /** @type {Pictures} */
      const page = await get(address("/api/pictures", { offset, limit: EXAMPLES }));
      byId("example-list", HTMLElement).replaceChildren(...page.items.map(searchable));
      byId("examples", HTMLElement).hidden = !page.items.length;
      byId("no-examples", HTMLElement).hidden = page.total > 0;
    } catch (error) {
      this.examples = false;
      this.onError(error);
    }
  }
}

/** @param {State} shown */
function question({ query, id, region, top, rerank }) {
  return JSON.stringify([query, id, region, top, rerank]);
}

/**
 * @param {State} wanted
 * @param {number} top
 * @param {number} rerank
 */
function searchAddress(wanted, top, rerank) {
  return address("/api/search", {
    query: wanted.query,
    id: wanted.query === null ? wanted.id : null,
    region: wanted.region?.join(),
    top,
    rerank: rerank || null,
  });
}

/** @param {unknown} error */
function sentence(error) {
  if (error instanceof Problem) return error.message;
  throw error;
}

/** @param {number} bytes */
function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * @template T
 * @param {Map<string, T>} kept
 * @param {string} key
 * @param {T} value
 */
function remember(kept, key, value) {
  kept.delete(key);
  kept.set(key, value);
  const oldest = kept.keys().next().value;
  if (kept.size > REMEMBERED && oldest !== undefined) kept.delete(oldest);
}

/**
 * @param {HTMLSelectElement} select
 * @param {number[]} values
 * @param {number} most
 */
function fillSelect(select, values, most) {
  const possible = values.filter((value) => value <= most);
  if (!possible.length) possible.push(most);
  select.replaceChildren(...possible.map((value) => el("option", { value }, count(value))));
}

/**
 * Choose a value, one that the address gave and the page does not offer included.
 *
 * @param {HTMLSelectElement} select
 * @param {number} value
 */
function choose(select, value) {
  if (![...select.options].some((option) => Number(option.value) === value)) {
    select.append(el("option", { value }, count(value)));
  }
  select.value = String(value);
}
