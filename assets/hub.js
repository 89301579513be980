// One for all windows of a browser (a shared worker): asks the server for news, and hands them on. A browser has few
// connections to one server, and this takes one of them, however many windows are open.
import { Poller } from "./poll.js";

// A window says again and again that it listens. One that is silent for longer was closed without a word.
const SILENCE_MS = 20_000;
const LOOK_MS = 5000;
// A clock that went on without us: the machine slept, and what was waited for does not come any more.
const SLEPT_MS = 5000;

// Each with the run whose log it looks at, and when it was heard last.
const windows = new Map();

function tell(message) {
  for (const port of windows.keys()) port.postMessage(message);
}

const poller = new Poller({
  isWaiting: true,
  pauseMs: 0,
  heard: (news) => tell({ news }),
  failed: () => tell({ news: null }),
});

function arrange() {
  for (const [port, { heardAt }] of windows) if (performance.now() - heardAt > SILENCE_MS) windows.delete(port);
  poller.follow([...windows.values()].map(({ log }) => log).filter(Boolean));
  if (windows.size) poller.start();
  else poller.stop();
}

self.addEventListener("connect", ({ ports: [port] }) => {
  port.onmessage = ({ data: { isListening, log } }) => {
    const isNew = !windows.has(port);
    if (isListening) windows.set(port, { log, heardAt: performance.now() });
    else windows.delete(port);
    // Who comes to it wants to know at once.
    if (isListening && isNew) poller.askNow();
    arrange();
  };
});

let lookedAt = Date.now();
setInterval(() => {
  if (Math.abs(Date.now() - lookedAt - LOOK_MS) > SLEPT_MS) poller.askNow();
  lookedAt = Date.now();
  arrange();
}, LOOK_MS);
