// Keeps a page true: parts marked `data-live` are fetched anew while the page is looked at, and times are counted on.
//
// Nothing moves under the pointer. While a list is pointed at or has the focus, the rows that are shown are brought up to
// date in their places, and what is new waits behind a button.

// Though nothing was told: another server may run the task.
const PERIOD_MS = 5000;
const TIMES_MS = 1000;

// Fetches an address and puts its `data-live` parts in the place of those here. False where that failed.
// A page with a costly part that needs no such refresh names another address, which leaves that part out.
const own = () => document.querySelector("[data-live-from]")?.dataset.liveFrom ?? location.href;

export async function refresh(address = own(), { force = false } = {}) {
  const answer = await fetch(address, { headers: { accept: "text/html" } });
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
  for (const time of copy.querySelectorAll("time")) time.textContent = "";
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
  } catch {
    // The server is away; the next tick tries again.
  } finally {
    isRefreshing = false;
  }
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
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const mine = ++asked;
      const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
      const address = query.size ? `${form.action}?${query}` : form.action;
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
