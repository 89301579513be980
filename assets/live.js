// Keeps a page true: parts marked `data-live` are fetched anew while the page is looked at, and times are counted on.
//
// Nothing moves under the pointer. While a list is pointed at or has the focus, the rows that are shown are brought up to
// date in their places, and what is new waits behind a button.

// Though nothing was told: another server may run the task.
const PERIOD_MS = 5000;
const TIMES_MS = 1000;
// A server that takes longer is as good as away.
const PATIENCE_MS = 15000;

// Fetches an address and puts its `data-live` parts in the place of those here. False where that failed.
// A page with a costly part that needs no such refresh names another address, which leaves that part out.
const own = () => document.querySelector("[data-live-from]")?.dataset.liveFrom ?? location.href;

export async function refresh(address = own(), { force = false } = {}) {
  const answer = await fetch(address, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) return false;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.title = fresh.title;
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (!next) {
      // The page has become another, such as the overview after the first run.
      location.reload();
      return true;
    }
    keepingPlace(part, () => replace(part, next, force));
    // What can't change any more is not asked for again.
    if (next.dataset.live === undefined && isSame(part, next)) delete part.dataset.live;
  }
  return true;
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
      refresh(own(), { force: true });
    });
    document.body.append(button);
  }
  button.textContent = number === 1 ? "Show 1 more" : `Show ${number} more`;
}

let isRefreshing = false;
let isWanted = false;
async function tick() {
  isWanted = true;
  if (document.hidden || isRefreshing || !document.querySelector("[data-live]") || document.querySelector("dialog[open]")) return;
  isRefreshing = true;
  try {
    while (isWanted) {
      isWanted = false;
      await refresh();
    }
    listen();
    tellAway(false);
  } catch {
    // The next tick tries again.
    tellAway(true);
  } finally {
    isRefreshing = false;
  }
}

// What the page shows is old while the server does not answer, and says so.
let awaySince;
function tellAway(isAway) {
  document.documentElement.classList.toggle("is-away", isAway);
  let notice = document.getElementById("away");
  if (!isAway) {
    awaySince = undefined;
    notice?.remove();
    return;
  }
  awaySince ??= new Date();
  if (notice) return;
  notice = document.createElement("p");
  notice.id = "away";
  notice.className = "notice is-warn away";
  notice.setAttribute("role", "status");
  notice.textContent = `The server has not answered since ${awaySince.toLocaleTimeString()}: this page may be out of date. It is asked again and again.`;
  document.body.append(notice);
}

// Told of changes while the page is looked at: a browser has few connections to one server.
let changes;
function listen() {
  if (document.hidden || !document.querySelector("[data-live]")) {
    changes?.close();
    changes = null;
  } else if (!changes) {
    changes = new EventSource("/ui/changes");
    changes.onmessage = tick;
  }
}

if (document.querySelector("[data-live]")) {
  setInterval(tick, PERIOD_MS);
  document.addEventListener("visibilitychange", () => {
    listen();
    tick();
  });
  addEventListener("pagehide", () => changes?.close());
  addEventListener("pageshow", (event) => event.persisted && ((changes = null), listen()));
  listen();
}

// The same words as the server's.
export function relative(seconds, day) {
  const amount = Math.abs(seconds);
  let words;
  if (amount < 5) return "just now";
  if (amount < 60) words = `${amount} s`;
  else if (amount < 3600) words = `${Math.floor(amount / 60)} min`;
  else if (amount < 86400) words = `${Math.floor(amount / 3600)} h`;
  else if (amount < 2592000) words = `${Math.floor(amount / 86400)} d`;
  else return day;
  return seconds > 0 ? `${words} ago` : `in ${words}`;
}

// The same words as the server's.
export function duration(ms) {
  const seconds = Math.floor(Math.max(ms, 0) / 1000);
  const two = (large, unit, small, smaller) => (small ? `${large} ${unit} ${small} ${smaller}` : `${large} ${unit}`);
  if (seconds < 1) return `${Math.max(Math.floor(ms), 0)} ms`;
  if (seconds < 60) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (seconds < 3600) return two(Math.floor(seconds / 60), "min", seconds % 60, "s");
  if (seconds < 86400) return two(Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "min");
  return two(Math.floor(seconds / 86400), "d", Math.floor((seconds % 86400) / 3600), "h");
}

// Counted on only while the server tells that it goes on.
setInterval(() => {
  if (document.hidden || document.documentElement.classList.contains("is-away")) return;
  for (const element of document.querySelectorAll("[data-since]")) {
    element.textContent = duration(Date.now() - Date.parse(element.dataset.since));
  }
}, TIMES_MS);

setInterval(() => {
  if (document.hidden) return;
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = Date.parse(time.dateTime);
    const words = relative(Math.trunc((Date.now() - at) / 1000), time.dateTime.slice(0, 10));
    if (time.textContent !== words) time.textContent = words;
  }
}, TIMES_MS);

// Search as you type: the form is sent as it would be, and only its list changes.
for (const form of document.querySelectorAll("form[data-search]")) {
  let timer;
  let asked = 0;
  const wished = () => {
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
    return query.size ? `${form.action}?${query}` : form.action;
  };
  // What was found as it was typed is not asked for again, which would be one more step back.
  form.addEventListener("submit", (event) => wished() === location.href && event.preventDefault());
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const mine = ++asked;
      const address = wished();
      const answer = await fetch(address, { headers: { accept: "text/html" } }).catch(() => null);
      if (!answer?.ok || mine !== asked) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const part = document.getElementById(form.dataset.search);
      const next = fresh.getElementById(form.dataset.search);
      if (mine !== asked || !part || !next) return;
      part.replaceChildren(...next.childNodes);
      history.replaceState(null, "", address);
    }, 120);
  });
}
