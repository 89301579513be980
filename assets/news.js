// What is new at the server, for this page while it is looked at: from the worker that all windows share, or where there is
// none, or it has died, by asking for it here. That nothing is heard any more makes the page stale (`current.js`).
import { now, sync } from "./clock.js";
import { isCurrent, isStale } from "./current.js";
import { Poller } from "./poll.js";

// How often the worker is told that this window still listens, and how long it may be silent.
const TELL_MS = 5000;
const SILENCE_MS = 12_000;
// The first answer comes at once.
const FIRST_MS = 4000;
const LOOK_MS = 1000;
// Between two requests where each window asks by itself.
const PAUSE_MS = 1500;

const listeners = new Set();
let log = null;
let isListening = false;
// Since when the page listens, and when it heard the last answer.
let since = 0;
let heardAt = -Infinity;

// `heard` is called with each answer: `changes` counts up at one `server`, `logs` says how far logs reach, `version` is that
// of the pages. Until what is returned is called.
export function listen(heard) {
  listeners.add(heard);
  arrange();
  return () => {
    listeners.delete(heard);
    arrange();
  };
}

// The run whose log this page looks at, or null.
export function follow(run) {
  log = run;
  if (isListening) say(true);
}

function heard(news) {
  if (!isListening) return;
  if (!news) return isAway();
  heardAt = performance.now();
  sync(news.now);
  isCurrent("server");
  for (const listener of [...listeners]) listener(news);
}

function isAway() {
  const last = heardAt < 0 || now() === undefined ? undefined : now() - (performance.now() - heardAt);
  isStale("server", "The server has not answered", last);
}

let worker = null;
let own = null;

function askHere() {
  own ??= new Poller({ isWaiting: false, pauseMs: PAUSE_MS, heard, failed: () => heard(null) });
  own.follow(log ? [log] : []);
  if (isListening) own.start();
}

function say(isOn) {
  worker?.port.postMessage({ isListening: isOn, log });
  own?.follow(log ? [log] : []);
}

function connect() {
  if (!("SharedWorker" in self)) return askHere();
  try {
    worker = new SharedWorker(new URL("./hub.js", import.meta.url), { type: "module", name: "flotilla" });
  } catch {
    return askHere();
  }
  worker.addEventListener("error", () => {
    worker = null;
    askHere();
  });
  worker.port.onmessage = ({ data: { news } }) => {
    // It lives after all.
    own?.stop();
    own = null;
    heard(news);
  };
}

function arrange() {
  const isOn = listeners.size > 0 && !document.hidden;
  if (isOn === isListening) return;
  isListening = isOn;
  if (!isOn) {
    say(false);
    own?.stop();
    return;
  }
  since = performance.now();
  if (!worker && !own) connect();
  say(true);
  own?.start();
}

setInterval(() => isListening && say(true), TELL_MS);
setInterval(() => {
  if (!isListening) return;
  const at = performance.now();
  const isLate = heardAt < since ? at - since > FIRST_MS : at - heardAt > SILENCE_MS;
  if (!isLate) return;
  isAway();
  // The worker itself may have died.
  if (worker) askHere();
}, LOOK_MS);

document.addEventListener("visibilitychange", arrange);
document.addEventListener("resume", arrange);
addEventListener("pagehide", () => {
  if (!isListening) return;
  isListening = false;
  say(false);
  own?.stop();
});
addEventListener("pageshow", (event) => event.persisted && arrange());
