// @ts-check
/** The search view: sends or names a query, and shows the results. */

import { Problem, address, get, isAbort, upload } from "./api.js";
import { Activity } from "./activity.js";
import { byId, count, el, plural } from "./dom.js";
import { Gallery, sameFirst } from "./gallery.js";
import { searchable } from "./image.js";
import { QueryPanel, megabytes } from "./query.js";
import { Settings } from "./settings.js";
import { LIMITS, format, state } from "./state.js";

/** @typedef {import("./api.js").Answer} Answer */
/** @typedef {import("./api.js").Asking} Asking */
/** @typedef {import("./api.js").Info} Info */
/** @typedef {import("./api.js").Page<import("./api.js").IndexedImage>} Images */
/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Region} Region */

const EXAMPLES = 12;
const REMEMBERED = 8; // uploads that can be sent again, and answers that need not be asked for again

export class SearchView {
  /**
   * @param {Info} info
   * @param {object} hear
   * @param {(shown: State, replace?: boolean) => void} hear.onState the address says this now
   * @param {(answer: Answer) => void} hear.onAnswer
   * @param {(error: unknown) => void} hear.onError one that is not of a search
   */
  constructor(info, { onState, onAnswer, onError }) {
    this.info = info;
    this.onState = onState;
    this.onAnswer = onAnswer;
    this.onError = onError;
    this.start = byId("start", HTMLElement);
    this.searching = byId("searching", HTMLElement);
    this.nothing = byId("nothing", HTMLElement);
    this.after = byId("after", HTMLElement);
    this.activity = new Activity(byId("activity", HTMLElement));
    this.gallery = new Gallery(byId("results", HTMLElement), (result) =>
      format({ ...this.shown, match: result.id }),
    );
    this.query = new QueryPanel((region) => this.searchPart(region));
    this.settings = new Settings(info, () => {
      if (this.taken) this.searchTaken().catch(onError);
      else if (!isEmpty(this.shown)) {
        this.onState({ ...this.shown, ...this.settings.chosen, match: null });
      }
    });

    /** @type {State} what was asked for last */
    this.shown = state();
    /** @type {File[] | null} the query, until the server has named it */
    this.taken = null;
    /** @type {Answer | null} to `shown` */
    this.answer = null;
    this.asked = new AbortController();
    /** @type {Map<string, Blob>} by key: sent again if the server forgot */
    this.files = new Map();
    /** @type {Map<string, Answer>} by address */
    this.answers = new Map();
    this.examples = false;
  }

  // -- what the address says ----------------------------------------------------------

  /** @param {State} shown */
  async show(shown) {
    const same = this.answer !== null && question(shown) === question(this.shown);
    this.shown = shown;
    if (same) return;
    this.asked.abort();
    this.answer = null;
    this.taken = null;
    this.start.hidden = !isEmpty(shown);
    this.searching.hidden = isEmpty(shown);
    this.settings.show(shown);
    if (isEmpty(shown)) await this.showExamples();
    else await this.run(shown, null);
  }

  /** Another view is shown: the answer to a search is not wanted any more. */
  leave() {
    if (!this.answer) this.asked.abort();
  }

  /** @param {File[]} files a new query: an image, or several of one thing */
  async take(files) {
    this.start.hidden = true;
    this.searching.hidden = false;
    this.answer = null;
    this.taken = files;
    this.query.showFiles(files);
    this.clearResults();
    await this.searchTaken();
  }

  /** The files that were taken, with the settings as they are now. */
  async searchTaken() {
    const files = /** @type {File[]} */ (this.taken);
    this.asked.abort();
    const { upload_bytes: most } = this.info.limits;
    const large = files.find((file) => file.size > most);
    if (large) {
      const sizes = `The file has ${megabytes(large.size)}, the server takes ${megabytes(most)}`;
      this.fail(new Problem(413, `${sizes}: make it smaller.`), state());
      return;
    }
    await this.run(state(this.settings.chosen), files);
  }

  /** @param {Region | null} region */
  searchPart(region) {
    if (region?.join() !== this.shown.region?.join()) {
      this.onState({ ...this.shown, region, match: null });
    }
  }

  // -- searching ----------------------------------------------------------------------

  /**
   * Plain results first, then the order after matching. For a photograph of 3.6 megapixels and 50
   * images to match, on two cores: 0.6 s and then 1.5 s more, where one question takes 2.0 s.
   *
   * @param {State} wanted
   * @param {Blob[] | null} files sent instead of naming a query that the server has
   */
  async run(wanted, files) {
    const asked = new AbortController();
    this.asked = asked;
    const asking = this.asking(asked.signal);
    const { top, rerank } = this.settings.meant(wanted);
    this.searching.classList.add("stale");
    this.nothing.hidden = true;
    this.activity.stop();
    try {
      const known = files ? undefined : this.answers.get(searchAddress(wanted, top, rerank));
      if (known && (await this.isNow(known, asking))) return this.render(known, false, false);
      const sending = files && files.length > 1 ? "Sending the images" : "Sending the image";
      this.activity.step(files ? sending : "Searching");
      const answer = await this.plain(wanted, top, files, asking);
      if (asked.signal.aborted) return;
      wanted = this.named(wanted, answer, files);
      const more = rerank > 0 && answer.results.length > 0;
      this.render(answer, false, more);
      if (more) await this.match(wanted, top, rerank, answer, asking);
      else remember(this.answers, searchAddress(wanted, top, rerank), answer);
    } catch (error) {
      if (!isAbort(error) && !asked.signal.aborted) this.fail(error, wanted);
    }
  }

  /**
   * @param {Answer} known
   * @param {Asking} asking
   * @returns {Promise<boolean>} whether the collection is still what it was for that answer
   */
  async isNow(known, asking) {
    try {
      /** @type {{state: string}} */
      const { state } = await get("/api/health", asking);
      return state === known.state;
    } catch (error) {
      if (error instanceof Problem && error.status === 0) return true; // no server that knows better
      throw error;
    }
  }

  /**
   * The second question: the same results in the order of what matches.
   *
   * @param {State} wanted
   * @param {number} top
   * @param {number} rerank
   * @param {Answer} before
   * @param {Asking} asking
   */
  async match(wanted, top, rerank, before, asking) {
    this.activity.step(`Checking ${plural(Math.min(rerank, before.images), "image")}`);
    const url = searchAddress(wanted, top, rerank);
    try {
      /** @type {Answer} */
      const answer = await get(url, asking);
      if (asking.signal?.aborted) return;
      remember(this.answers, url, answer);
      this.render(answer, true, false);
    } catch (error) {
      if (isAbort(error) || asking.signal?.aborted) return;
      this.activity.failed(`${sentence(error)} The results are as before the check.`);
    }
  }

  /**
   * An image that was sent, now or again, is known by another name from here on.
   *
   * @param {State} wanted
   * @param {Answer} answer
   * @param {Blob[] | null} files
   * @returns {State}
   */
  named(wanted, answer, files) {
    const keys = answer.queries.map(({ key }) => key);
    const query = keys[0] === null ? null : keys.join();
    if (wanted.query === query) return wanted;
    const sent = files ?? this.sentAs(wanted.query) ?? [];
    sent.forEach((file, i) => remember(this.files, String(keys[i]), file));
    const again = wanted.query !== null;
    const named = { ...wanted, query };
    this.taken = null;
    this.shown = named;
    this.answer = answer;
    this.onState(named, again);
    return named;
  }

  /**
   * @param {State} wanted
   * @param {number} top
   * @param {Blob[] | null} files
   * @param {Asking} asking
   * @returns {Promise<Answer>}
   */
  async plain(wanted, top, files, asking) {
    if (files) return this.send(wanted, top, files, asking);
    try {
      return await get(searchAddress(wanted, top, 0), asking);
    } catch (error) {
      const again = this.sentAs(wanted.query);
      if (!(error instanceof Problem) || error.status !== 404 || !again) throw error;
      return this.send(wanted, top, again, asking); // forgotten by the server, not by this page
    }
  }

  /**
   * @param {State} wanted
   * @param {number} top
   * @param {Blob[]} files
   * @param {Asking} asking
   * @returns {Promise<Answer>}
   */
  async send(wanted, top, files, asking) {
    if (files.length === 1) {
      const given = { top, rerank: 0, region: wanted.region?.join(), ...limitsOf(wanted) };
      return upload(address("/api/search", given), files[0], asking);
    }
    const keys = [];
    for (const file of files) {
      try {
        /** @type {import("./api.js").Query} */
        const { key } = await upload("/api/queries", file, asking);
        keys.push(key);
      } catch (error) {
        if (error instanceof Problem && file instanceof File) {
          error.message = `${file.name}: ${error.message}`;
        }
        throw error;
      }
    }
    this.activity.step("Searching");
    return get(searchAddress({ ...wanted, query: keys.join() }, top, 0), asking);
  }

  /**
   * @param {string | null} query keys
   * @returns {Blob[] | null} what was sent under them, if this page has all of it
   */
  sentAs(query) {
    const files = (query ?? "").split(",").flatMap((key) => this.files.get(key) ?? []);
    return files.length && files.length === query?.split(",").length ? files : null;
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Asking}
   */
  asking(signal) {
    return {
      signal,
      onWait: (text) => {
        if (!signal.aborted) this.activity.step(text);
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
    const results = sameFirst(answer.results);
    answer = { ...answer, results };
    this.answer = answer;
    this.searching.classList.remove("stale");
    if (!moving) this.query.show(answer.queries, this.files);
    this.gallery.show(results, moving);
    this.nothing.hidden = results.length > 0;
    const limited = LIMITS.some((name) => this.shown[name]);
    const none = answer.images ? "Nothing was found." : "The collection is empty.";
    this.nothing.textContent = limited ? "No image is in these limits." : none;
    this.after.replaceChildren(...this.summary(answer));
    if (!more) {
      const { verified } = answer;
      let found = plural(results.length, "result");
      if (verified) found = `${plural(verified, "image shows", "images show")} the same thing`;
      else if (verified === 0) found = "Probably not in here: these only look alike";
      this.activity.done(found);
    }
    this.onAnswer(answer);
  }

  /** @param {Answer} answer */
  summary({ results, images, reranked, min_inliers: least, without_date, without_position }) {
    const url = searchAddress(this.shown, this.settings.meant(this.shown).top, reranked);
    const of = `${plural(results.length, "result")} of ${plural(images, "image")}. `;
    return [
      results.length ? of : "",
      reranked
        ? `The first ${count(reranked)} were checked: ${least} matches that agree show the same thing. `
        : "",
      without_date ? `${plural(without_date, "image")} without a date left out. ` : "",
      without_position ? `${plural(without_position, "image")} without a place left out. ` : "",
      el("a", { href: url, target: "_blank", rel: "noopener" }, "As JSON"),
    ];
  }

  clearResults() {
    this.searching.classList.remove("stale");
    this.gallery.clear();
    this.after.replaceChildren();
  }

  /**
   * @param {unknown} error
   * @param {State} wanted
   */
  fail(error, wanted) {
    let text = sentence(error);
    if (error instanceof Problem && error.status === 404 && wanted.query) {
      text = "The server no longer has this image. Drop it again, or choose it.";
    }
    this.answer = null;
    const isRefused = error instanceof Problem && error.status === 422; // and the image is there
    if (isRefused && !this.query.shows(wanted)) this.query.showUnanswered(wanted);
    else if (!this.query.shows(wanted)) this.query.hide();
    this.clearResults();
    this.activity.failed(text);
    if (error instanceof Problem && error.status === 401) this.onError(error);
  }

  async showExamples() {
    if (this.examples) return;
    this.examples = true;
    try {
      const { images } = this.info;
      const n = Math.min(EXAMPLES, images);
      /** @type {Images[]} spread over the list, where neighbours look alike */
      const pages = await Promise.all(
        Array.from({ length: n }, (_, i) => {
          const offset = Math.floor(((i + 0.5) * images) / n);
          return get(address("/api/images", { offset, limit: 1 }));
        }),
      );
      const items = pages.flatMap((page) => page.items);
      byId("example-list", HTMLElement).replaceChildren(...items.map(searchable));
      byId("examples", HTMLElement).hidden = !items.length;
      byId("no-examples", HTMLElement).hidden = images > 0;
    } catch (error) {
      this.examples = false;
      this.onError(error);
    }
  }
}

/** @param {State} shown */
function isEmpty({ query, id }) {
  return query === null && id === null;
}

/** @param {State} shown */
function question(shown) {
  const { query, id, region, top, rerank } = shown;
  return JSON.stringify([query, id, region, top, rerank, limitsOf(shown)]);
}

/** @param {State} shown */
function limitsOf(shown) {
  const limits = Object.fromEntries(LIMITS.map((name) => [name, shown[name]]));
  return { ...limits, mirrored: shown.mirrored };
}

/**
 * @param {State} wanted
 * @param {number} top
 * @param {number} rerank
 */
function searchAddress(wanted, top, rerank) {
  return address("/api/search", {
    query: wanted.query?.split(","),
    id: wanted.query === null ? wanted.id : null,
    region: wanted.region?.join(),
    top,
    rerank,
    ...limitsOf(wanted),
  });
}

/** @param {unknown} error */
function sentence(error) {
  if (error instanceof Problem) return error.message;
  throw error;
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
