// @ts-check
/** The line that says what is going on: steps for everybody, seconds and per cent for the eye. */

import { el, readable } from "./dom.js";

export class Activity {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.text = el("span", { role: "status" });
    // outside of the live region: a screen reader would read out every tenth of a second
    this.clock = el("span", { class: "muted clock", "aria-hidden": "true" });
    this.bar = el("progress", { max: 1, hidden: true, "aria-label": "Upload" });
    this.host = host;
    this.since = 0;
    /** @type {number | undefined} */
    this.timer = undefined;
    host.append(el("span", { class: "spinner", "aria-hidden": "true" }), this.text, this.bar, this.clock);
  }

  /**
   * Something begins, or goes on to its next step.
   *
   * @param {string} text
   */
  step(text) {
    if (this.timer === undefined) {
      this.since = performance.now();
      this.timer = setInterval(() => this.tick(), 100);
    }
    this.host.dataset.state = "busy";
    this.bar.hidden = true;
    if (this.text.textContent !== readable(text)) this.text.textContent = readable(text);
    this.tick();
  }

  /** @param {number} fraction of the upload */
  progress(fraction) {
    this.bar.hidden = false;
    this.bar.value = fraction;
    this.clock.textContent = `${Math.round(fraction * 100)} %`;
  }

  /** @param {string} text */
  done(text) {
    const took = this.timer === undefined ? "" : ` (${this.seconds.toFixed(2)} s)`;
    this.stop();
    this.host.dataset.state = "done";
    this.text.textContent = text && `${text}${took}`;
  }

  /** @param {string} text a sentence */
  failed(text) {
    this.stop();
    this.host.dataset.state = "failed";
    this.text.textContent = readable(text);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = undefined;
    this.bar.hidden = true;
    this.clock.textContent = "";
  }

  get seconds() {
    return (performance.now() - this.since) / 1000;
  }

  tick() {
    if (this.seconds >= 0.5 && this.bar.hidden) this.clock.textContent = `${this.seconds.toFixed(1)} s`;
  }
}
