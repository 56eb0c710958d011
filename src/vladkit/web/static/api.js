// @ts-check
/** The server's answers: asked for, waited for, and their problems as sentences. */

/** @typedef {import("./state.js").Region} Region */
/** @typedef {[number, number, number, number]} Point of a match: x, y in the query, x, y in the image */

/**
 * @typedef {object} IndexedImage
 * @property {number} id
 * @property {string} path
 * @property {number | null} width px; null: not known
 * @property {number | null} height
 * @property {number} n_features
 * @property {string} thumbnail
 * @property {string} preview
 * @property {string} file
 * @property {boolean} changed the file is another one than was indexed
 */

/**
 * @typedef {object} Geometry
 * @property {number | null} inliers
 * @property {boolean | null} verified
 * @property {Point[] | null} points
 * @property {[number, number][] | null} outline
 */

/** @typedef {IndexedImage & Geometry & {rank: number, score: number, similarity: number, query: number, mirrored: boolean}} Result */
/** @typedef {{key: string | null, id: number | null, path: string | null, width: number | null, height: number | null, region: Region | null, n_features: number, preview: string, changed: boolean}} Query */
/** @typedef {{query: Query, queries: Query[], results: Result[], images: number, reranked: number, verified: number | null, min_inliers: number, without_date: number | null, without_position: number | null, state: string, seconds: {features: number, search: number}}} Answer */
/** @typedef {{id: number, path: string, reason: string}} Skipped */
/**
 * @template T
 * @typedef {{total: number, offset: number, items: T[]}} Page
 */

/**
 * @typedef {object} Info
 * @property {string} name
 * @property {string} file
 * @property {number} images
 * @property {number} skipped
 * @property {number} bytes
 * @property {number | null} dimensions
 * @property {number | null} clusters
 * @property {boolean} keeps_features
 * @property {boolean} whitened
 * @property {boolean} augmented
 * @property {boolean} approximate
 * @property {{name: string, root: string}[]} sources
 * @property {string} version
 * @property {{upload_bytes: number, upload_pixels: number, top: number, rerank: number, queries: number}} limits
 * @property {number} min_inliers
 */

/**
 * @typedef {object} Asking
 * @property {AbortSignal} [signal]
 * @property {(text: string) => void} [onWait] what the server says, and when it is asked again
 * @property {(fraction: number) => void} [onProgress] of the upload
 */

const TRIES = 6;

/** A problem of the server, or of the way to it; the message is a sentence for people. */
export class Problem extends Error {
  /**
   * @param {number} status of HTTP; 0 without an answer
   * @param {string} detail
   * @param {number | null} [retryAfter] seconds
   */
  constructor(status, detail, retryAfter = null) {
    super(detail);
    this.name = "Problem";
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** @param {unknown} error */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

function aborted() {
  return new DOMException("a newer question was asked", "AbortError");
}

/**
 * @param {string} path
 * @param {Record<string, string | string[] | number | boolean | null | undefined>} given
 */
export function address(path, given) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(given)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each || each === 0) search.append(name, String(each));
    }
  }
  return search.size ? `${path}?${search.toString().replaceAll("%2C", ",")}` : path;
}

/**
 * @param {number} status
 * @param {string} text
 * @param {string | null} retryAfter
 */
function problemOf(status, text, retryAfter) {
  let detail = "";
  let wait = Number(retryAfter) || null;
  try {
    const problem = JSON.parse(text);
    detail = problem.detail || problem.title || "";
    wait ??= problem.retry_after ?? null;
  } catch {
    // not a problem document: something between the server and here answered
  }
  return new Problem(status, sentence(detail || `The server answered with status ${status}`), wait);
}

/** @param {unknown} text "no image: send one" */
function sentence(text) {
  const said = String(text).trim();
  const first = said.charAt(0).toUpperCase() + said.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

/**
 * @param {number} seconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(aborted());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/**
 * @template T
 * @param {() => Promise<T>} attempt
 * @param {Asking} asking
 * @returns {Promise<T>}
 */
async function patiently(attempt, { signal, onWait }) {
  for (let n = 1; ; n += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 503 || n >= TRIES) throw error;
      if (error.retryAfter === null) throw error; // it does not pass by itself
      const seconds = Math.min(Math.max(error.retryAfter, 0.2), 30);
      onWait?.(`${error.message} Waiting ${Math.ceil(seconds)} s.`);
      await pause(seconds, signal);
    }
  }
}

const SILENT = "The server does not answer. Is vladkit serve still running?";
const UNREADABLE = "The file cannot be read: it is a folder, or no longer there.";

/**
 * @template T
 * @param {string} url
 * @param {Asking} [asking]
 * @returns {Promise<T>}
 */
export function get(url, asking = {}) {
  return patiently(async () => {
    let response;
    let text;
    try {
      response = await fetch(url, {
        signal: asking.signal,
        headers: { Accept: "application/json" },
      });
      text = await response.text();
    } catch (error) {
      if (isAbort(error)) throw error;
      throw new Problem(0, SILENT);
    }
    if (!response.ok) throw problemOf(response.status, text, response.headers.get("Retry-After"));
    return JSON.parse(text);
  }, asking);
}

/**
 * Sends a file. By XMLHttpRequest: fetch does not say how far an upload is.
 *
 * @template T
 * @param {string} url
 * @param {Blob} file
 * @param {Asking} [asking]
 * @returns {Promise<T>}
 */
export function upload(url, file, asking = {}) {
  return patiently(() => sendOnce(url, file, asking), asking);
}

/** @param {Blob} file */
function isReadable(file) {
  const some = file.size ? file.slice(0, 1) : file; // 0: it may be gone
  return some.arrayBuffer().then(() => true, () => false);
}

/**
 * @param {string} url
 * @param {Blob} file
 * @param {Asking} asking
 * @returns {Promise<any>}
 */
function sendOnce(url, file, { signal, onProgress }) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(aborted());
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    signal?.addEventListener("abort", stop, { once: true });
    request.open("POST", url);
    request.setRequestHeader("Accept", "application/json");
    // a type of its own would be guessed from the name; the server looks at the bytes
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      if (event.lengthComputable && event.total) onProgress?.(event.loaded / event.total);
    };
    request.upload.onload = () => onProgress?.(1);
    request.onabort = () => reject(aborted());
    request.onerror = async () => {
      reject(new Problem(0, (await isReadable(file)) ? SILENT : UNREADABLE));
    };
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) {
        try {
          resolve(JSON.parse(request.responseText));
        } catch {
          reject(new Problem(request.status, "The server's answer cannot be read."));
        }
      } else {
        const wait = request.getResponseHeader("Retry-After");
        reject(problemOf(request.status, request.responseText, wait));
      }
    };
    request.onloadend = () => signal?.removeEventListener("abort", stop);
    request.send(file);
  });
}
