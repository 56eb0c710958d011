// @ts-check
/** The page: its address decides what is shown, everything else only changes the address. */

import { Problem, get, isAbort } from "./api.js";
import { describe, imageList, skippedList } from "./browse.js";
import { themeSwitch } from "./colours.js";
import { Compare } from "./compare.js";
import { byId, count, el, readable } from "./dom.js";
import { takeIn } from "./intake.js";
import { SearchView } from "./search.js";
import { format, parse, state } from "./state.js";

/** @typedef {import("./api.js").Info} Info */
/** @typedef {import("./state.js").State} State */

const VIEWS = /** @type {const} */ (["search", "browse", "skipped"]);
const TITLES = { search: "Search", browse: "Images", skipped: "Skipped" };

const trouble = byId("trouble", HTMLElement);
const main = byId("main", HTMLElement);

/** @param {string} text a sentence */
function say(text) {
  trouble.replaceChildren(readable(text));
  trouble.hidden = false;
}

/** @param {unknown} error */
function fault(error) {
  if (isAbort(error)) return;
  if (!(error instanceof Problem)) throw error;
  if (error.status !== 401) return say(error.message);
  trouble.replaceChildren(
    "This collection is served with a token. Open the address that vladkit serve printed, the one with ",
    el("code", {}, "/?token="),
    " in it.",
  );
  trouble.hidden = false;
}

/**
 * @param {Info} info
 * @returns what searches with a file
 */
function start(info) {
  byId("collection-name", HTMLElement).textContent = readable(info.name);
  byId("collection-name", HTMLElement).title = readable(info.file);
  byId("count-images", HTMLElement).textContent = count(info.images);
  byId("count-skipped", HTMLElement).textContent = count(info.skipped);
  byId("link-skipped", HTMLElement).hidden = !info.skipped;
  byId("version", HTMLElement).textContent = `vladkit ${info.version}`;
  describe(byId("about", HTMLElement), info);

  let shown = parse(location.hash);
  let opened = false; // the comparison was opened here: a step back closes it

  /** @param {State} next */
  const go = (next) => {
    history.pushState(null, "", format(next));
    route();
  };
  /** @param {State} next */
  const replace = (next) => {
    history.replaceState(null, "", format(next));
    route();
  };

  const search = new SearchView(info, {
    onState: (next, again) => (again ? replace : go)(next),
    onAnswer: () => compareIfAsked(),
    onError: fault,
  });
  const lists = { browse: imageList(replace, fault), skipped: skippedList(replace, fault) };
  const compare = new Compare({
    onTurn: (id) => replace({ ...shown, match: id }),
    onClosed: (id) => {
      if (opened) history.back();
      else replace({ ...shown, match: null });
      search.gallery.focus(id);
    },
  });

  function compareIfAsked() {
    if (shown.view !== "search" || shown.match === null) return compare.hide();
    if (!search.answer) return compare.hide();
    compare.show(search.answer, shown.match, info.keeps_features).catch(fault);
  }

  function route() {
    display(parse(location.hash));
  }

  /** @param {State} next */
  function display(next) {
    const before = shown;
    shown = next;
    trouble.hidden = true;
    const named = before.query === null && before.id === null && shown.query !== null;
    if (!named) offer.hidden = true; // it stays while the image that was sent gets its address
    const same = format({ ...before, match: null }) === format({ ...shown, match: null });
    opened = shown.match !== null && same && (opened || before.match === null);
    for (const view of VIEWS) byId(`view-${view}`, HTMLElement).hidden = view !== shown.view;
    for (const link of document.querySelectorAll("nav a[data-view]")) {
      const current = link.getAttribute("data-view") === shown.view;
      if (current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${TITLES[shown.view]} · ${readable(info.name)} · vladkit`;
    if (before.view !== shown.view) {
      main.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    if (shown.view === "search") {
      search.show(shown).catch(fault);
    } else {
      search.leave();
      lists[shown.view].show(shown).catch(fault);
    }
    compareIfAsked();
  }

  /** A link to a search keeps the settings: it is made before they are known. */
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    const href = link?.getAttribute("href") ?? "";
    if (!href.startsWith("#/") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const next = parse(href);
    if (next.id === null || next.match !== null) return;
    event.preventDefault();
    go({ ...next, ...search.settings.chosen });
    main.focus({ preventScroll: true }); // the link goes with its results
    scrollTo(0, 0);
  });

  addEventListener("popstate", route); // for links to a hash, too, even the present one
  shown = state({ view: shown.view });
  opened = false;
  route();
  opened = false; // a reload has nothing to step back to

  /** @param {File[]} files all of one thing */
  const take = (files) => {
    // the address follows when the images have names: a step back leads to where they were dropped
    if (shown.view !== "search" || shown.match !== null) display(state(search.settings.chosen));
    trouble.hidden = true;
    offer.hidden = true;
    scrollTo(0, 0);
    search.take(files).catch(fault);
    const isHidden = !document.activeElement?.getClientRects().length;
    if (isHidden) main.focus({ preventScroll: true }); // the button that was pressed is
  };

  /** @param {File[]} files the first is searched with; to take all for one thing is offered */
  return (files) => {
    take(files.slice(0, 1));
    if (files.length === 1) return;
    const n = Math.min(files.length, info.limits.queries);
    byId("offer-text", HTMLElement).textContent =
      readable(`Searched with the first of ${files.length} files, ${files[0].name}.`);
    const all = byId("offer-all", HTMLButtonElement);
    const which = n < files.length ? `the first ${n}` : n === 2 ? "both" : `all ${n}`;
    all.textContent = `They show one thing: search with ${which}`;
    all.onclick = () => take(files.slice(0, n));
    offer.hidden = false;
  };
}

const offer = byId("offer", HTMLElement);
const notices = [
  { notice: byId("not-shown", HTMLElement), of: ".gone" },
  { notice: byId("have-changed", HTMLElement), of: ".badge.changed" },
];
new MutationObserver(() => {
  for (const { notice, of } of notices) {
    const hidden = [...main.querySelectorAll(of)].every((each) => each.closest("[hidden]"));
    if (notice.hidden !== hidden) notice.hidden = hidden;
  }
}).observe(main, { childList: true, subtree: true, attributeFilter: ["hidden"] });
themeSwitch(byId("theme", HTMLButtonElement), byId("theme-label", HTMLElement));
byId("skip", HTMLElement).addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

const started = get("/api/info").then(start);
started.catch(fault);
takeIn({
  cover: byId("drop", HTMLElement),
  input: byId("file", HTMLInputElement),
  buttons: document.querySelectorAll("[data-choose]"),
  // an image may come in before the page knows its collection: it waits for it
  onFiles: (files) => void started.then((take) => take(files), () => {}),
  onTrouble: say,
});
