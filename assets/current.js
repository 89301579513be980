// Whether what the page shows is current. Each part of it that can't be brought up to date says so here, and as long as any
// does, the page says it.
import { now, timeOfDay } from "./clock.js";

// By their names: what is said.
const reasons = new Map();
// Of several the first of these is said, as it tells why the others are so; else the last one.
const FIRST = ["version", "gone", "server"];
const version = document.documentElement.dataset.version;

// `text` begins the sentence "… since 12:00:00"; without a time it is the present one.
export function isStale(name, text, since = now()) {
  if (!reasons.has(name)) reasons.set(name, { text, since });
  show();
}

export function isCurrent(name) {
  if (reasons.delete(name)) show();
}

// An answer comes from another version of the server than this page. True where it does.
export function isOutdated(answered) {
  if (answered === version) return false;
  if (canReload(answered)) location.reload();
  else isStale("version", "");
  return true;
}

// Once for each version, so that two versions behind one address don't make a page reload for ever; and not where
// something would be lost.
function canReload(answered) {
  const isBusy = document.querySelector("form[data-keep], dialog[open]") || !getSelection().isCollapsed;
  if (isBusy || !answered) return false;
  try {
    if (sessionStorage.getItem("reloaded-for") === answered) return false;
    sessionStorage.setItem("reloaded-for", answered);
    return true;
  } catch {
    return false;
  }
}

function show() {
  document.documentElement.classList.toggle("is-away", reasons.size > 0);
  let notice = document.getElementById("away");
  if (!reasons.size) {
    notice?.remove();
    return;
  }
  if (!notice) {
    notice = document.createElement("div");
    notice.id = "away";
    notice.className = "notice is-warn away";
    notice.setAttribute("role", "status");
    document.body.append(notice);
  }
  const name = FIRST.find((name) => reasons.has(name)) ?? [...reasons.keys()].at(-1);
  const { text, since } = reasons.get(name);
  const at = since === undefined ? "" : ` since ${timeOfDay(since)}`;
  const words = {
    version: "The server was updated after this page was opened. Reload it to go on.",
    gone: "What this page shows is no longer there.",
  };
  const told = words[name] ?? `${text}${at}: this page may be out of date. Trying again…`;
  if (notice.firstElementChild?.textContent === told) return;
  const span = document.createElement("span");
  span.textContent = told;
  notice.replaceChildren(span);
  if (name === "version") {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button small";
    button.textContent = "Reload";
    button.addEventListener("click", () => location.reload());
    notice.append(button);
  }
}
