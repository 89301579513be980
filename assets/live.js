// Keeps a page true: parts marked `data-live` are fetched anew while the page is looked at: when something has changed, and
// from time to time. What can't be fetched is asked for again, and the page says that it is not current (`current.js`).
//
// Nothing moves under the pointer. While a list is pointed at or has the focus, the rows that are shown are brought up to
// date in their places, and what is new waits behind a button.
import { isCurrent, isOutdated, isStale } from "./current.js";
import { listen } from "./news.js";

// Though there is no news: another server may run the task.
const PERIOD_MS = 5000;
// A server that takes longer is as good as away.
const PATIENCE_MS = 10_000;
const SHORTEST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
const pause = (failures) => Math.min(SHORTEST_PAUSE_MS * 2 ** failures, LONGEST_PAUSE_MS);
// Until what is typed is searched for.
const TYPING_MS = 120;

// A page with a costly part that needs no such refresh names another address, which leaves that part out.
const own = () => document.querySelector("[data-live-from]")?.dataset.liveFrom ?? location.href;

// Fetches an address and puts its `data-live` parts in the place of those here. Fails where no page of the server came.
async function refresh(address = own(), { force = false } = {}) {
  const answer = await fetch(address, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(PATIENCE_MS) });
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  // What is between us and the server may answer too.
  const { version } = fresh.documentElement.dataset;
  if (!version) throw new Error(`no page of the server, but ${answer.status}`);
  if (answer.status === 404) {
    isStale("gone");
    for (const part of document.querySelectorAll("[data-live]")) delete part.dataset.live;
    return;
  }
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  if (isOutdated(version)) return;
  document.title = fresh.title;
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (!next) {
      // The page has become another, such as the overview after the first run.
      location.reload();
      return;
    }
    keepingPlace(part, () => replace(part, next, force));
    // What can't change any more is not asked for again.
    if (next.dataset.live === undefined && isSame(part, next)) delete part.dataset.live;
  }
}

let pointerY = -1;
document.addEventListener("pointermove", (event) => (pointerY = event.clientY), { passive: true });

// A part that grows above the pointer pushes nothing away from under it: the page is scrolled by as much.
function keepingPlace(part, change) {
  const before = part.getBoundingClientRect();
  change();
  const grown = part.getBoundingClientRect().height - before.height;
  if (grown && pointerY > before.bottom) scrollBy({ top: grown, behavior: "instant" });
}

function replace(part, next, force) {
  part.className = next.className;
  const isBusy = !force && (part.matches(":hover") || part.contains(document.activeElement));
  if (!isBusy) {
    if (!isSame(part, next)) part.replaceChildren(...next.childNodes);
    announce(part, 0);
    return;
  }
  const rows = new Map([...next.querySelectorAll("[data-key]")].map((row) => [row.dataset.key, row]));
  for (const row of part.querySelectorAll("[data-key]")) {
    const fresh = rows.get(row.dataset.key);
    rows.delete(row.dataset.key);
    if (fresh && !row.contains(document.activeElement) && !isSame(row, fresh)) row.replaceChildren(...fresh.childNodes);
  }
  announce(part, rows.size);
}

// Times are counted on here, so that their words say nothing about what is new.
function isSame(a, b) {
  return plain(a) === plain(b);
}

function plain(element) {
  const copy = element.cloneNode(true);
  for (const time of copy.querySelectorAll("time, [data-since]")) time.textContent = "";
  return copy.innerHTML;
}

// A button over the page that takes no place of its own.
function announce(part, number) {
  let button = document.getElementById(`${part.id}-news`);
  if (!number) {
    button?.remove();
    return;
  }
  if (!button) {
    button = document.createElement("button");
    button.type = "button";
    button.id = `${part.id}-news`;
    button.className = "button primary news";
    button.addEventListener("click", () => {
      button.remove();
      look({ force: true });
    });
    document.body.append(button);
  }
  button.textContent = number === 1 ? "Show 1 more" : `Show ${number} more`;
}

let isRefreshing = false;
let isWanted = false;
let failures = 0;
let retry;

// Brings the page up to date, now or as soon as that is possible.
export async function look({ force = false } = {}) {
  isWanted = true;
  if (document.hidden || isRefreshing || document.querySelector("dialog[open]")) return;
  if (!document.querySelector("[data-live]")) {
    isCurrent("parts");
    return;
  }
  clearTimeout(retry);
  isRefreshing = true;
  try {
    while (isWanted) {
      isWanted = false;
      await refresh(own(), { force });
    }
    failures = 0;
    isCurrent("parts");
  } catch {
    isStale("parts", "Parts of this page could not be read");
    retry = setTimeout(look, pause(failures++));
  } finally {
    isRefreshing = false;
  }
}

const isLive = () => document.querySelector("[data-live]") !== null;

// What this page has seen: the changes that one server counted.
let seen = "";
let quiet = null;
function attend() {
  quiet ??= listen(({ server, changes, version }) => {
    // Times are counted on from the server's, also where nothing else moves any more.
    if (!isLive()) {
      quiet?.();
      quiet = null;
      return;
    }
    const found = `${version} ${server} ${changes}`;
    if (found !== seen) look();
    seen = found;
  });
}

if (document.querySelector("[data-live], time[datetime], [data-since]")) {
  setInterval(look, PERIOD_MS);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    attend();
    look();
  });
  attend();
}

// Search as you type: the form is sent as it would be, and only its list changes.
for (const form of document.querySelectorAll("form[data-search]")) {
  let timer;
  let asked = 0;
  let failures = 0;
  const wished = () => {
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
    return query.size ? `${form.action}?${query}` : form.action;
  };
  // What was found as it was typed is not asked for again, which would be one more step back.
  form.addEventListener("submit", (event) => wished() === location.href && event.preventDefault());
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, TYPING_MS);
  });
  // What can't be found now is looked for again: until then the list is that of what was typed before.
  async function find() {
    const mine = ++asked;
    const address = wished();
    try {
      const answer = await fetch(address, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(PATIENCE_MS) });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (mine !== asked) return;
      if (!fresh.documentElement.dataset.version || answer.status >= 500) throw new Error(`no list, but ${answer.status}`);
      failures = 0;
      isCurrent("list");
      const part = document.getElementById(form.dataset.search);
      const next = fresh.getElementById(form.dataset.search);
      if (!answer.ok || !part || !next) return;
      part.replaceChildren(...next.childNodes);
      history.replaceState(null, "", address);
    } catch {
      if (mine !== asked) return;
      isStale("list", "What was searched for could not be read");
      timer = setTimeout(find, pause(failures++));
    }
  }
}
