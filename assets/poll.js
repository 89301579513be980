// Asks the server for news, one request after the other, for as long as somebody listens. Each request says what is known,
// so that nothing is lost between two; one that gets no answer in time is given up, and asked again after a pause that
// grows. Used by the worker that all windows share and, where there is none, by each window.

import { at } from "./root.js";

// How long the server may hold a request that has no news, and how much later its answer may come.
const WAIT_SECS = 5;
const PATIENCE_MS = 4000;
const SHORTEST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
// However quickly answers come, nobody reads more of them.
const SHORTEST_ROUND_MS = 250;
// Where two servers answer by turns, neither knows what the other one counted.
const OTHER_SERVER_PAUSE_MS = 2000;
// As many as one request may follow.
const MOST_LOGS = 50;

export class Poller {
  #isOn = false;
  #isWaiting;
  #pauseMs;
  #heard;
  #failed;
  #server = null;
  #changes = null;
  // By run: how far its log reaches, as far as is known.
  #logs = new Map();
  #abort = null;
  #wake = null;
  #isAskedAnew = false;

  // `heard` is called with each answer, `failed` whenever there was none. The server may hold a request where `isWaiting`;
  // else they follow one another with a pause.
  constructor({ isWaiting, pauseMs, heard, failed }) {
    this.#isWaiting = isWaiting;
    this.#pauseMs = pauseMs;
    this.#heard = heard;
    this.#failed = failed;
  }

  // The runs whose logs are looked at.
  follow(runs) {
    const wanted = new Set(runs);
    for (const run of this.#logs.keys()) if (!wanted.has(run)) this.#logs.delete(run);
    const before = this.#logs.size;
    for (const run of wanted) if (!this.#logs.has(run)) this.#logs.set(run, null);
    if (this.#logs.size > before) this.askNow();
  }

  // Asks for an answer that comes at once, instead of what is waited for.
  askNow() {
    this.#isAskedAnew = true;
    this.#abort?.abort();
    this.#wake?.();
  }

  start() {
    if (this.#isOn) return;
    this.#isOn = true;
    this.#loop();
  }

  stop() {
    this.#isOn = false;
    // That it is broken off is no failure of the server's.
    this.#isAskedAnew = true;
    this.#abort?.abort();
    this.#wake?.();
  }

  #isLooping = false;
  async #loop() {
    if (this.#isLooping) return;
    this.#isLooping = true;
    let failures = 0;
    while (this.#isOn) {
      const isAnew = this.#isAskedAnew;
      this.#isAskedAnew = false;
      let pause = this.#pauseMs;
      const asked = performance.now();
      try {
        const before = this.#server;
        const news = await this.#ask(isAnew);
        failures = 0;
        pause = Math.max(pause, SHORTEST_ROUND_MS - (performance.now() - asked));
        if (before !== null && before !== this.#server) pause = OTHER_SERVER_PAUSE_MS;
        this.#heard(news);
      } catch {
        if (!this.#isOn || this.#isAskedAnew) continue;
        pause = Math.min(SHORTEST_PAUSE_MS * 2 ** failures++, LONGEST_PAUSE_MS);
        this.#failed();
      }
      if (pause > 0 && this.#isOn && !this.#isAskedAnew) {
        await new Promise((wake) => {
          this.#wake = wake;
          setTimeout(wake, pause);
        });
      }
    }
    this.#isLooping = false;
  }

  async #ask(isAnew) {
    const abort = new AbortController();
    this.#abort = abort;
    const wait = this.#isWaiting && !isAnew ? WAIT_SECS : 0;
    const late = setTimeout(() => abort.abort(), wait * 1000 + PATIENCE_MS);
    try {
      const query = new URLSearchParams({ wait });
      if (this.#server !== null) {
        query.set("server", this.#server);
        query.set("changes", this.#changes);
      }
      for (const [run, known] of [...this.#logs].slice(-MOST_LOGS)) {
        query.append("log", known ? `${run}:${known.lines}:${known.bytes}:${known.is_complete}` : run);
      }
      const answer = await fetch(at(`ui/changes?${query}`), {
        headers: { accept: "application/json" },
        cache: "no-store",
        signal: abort.signal,
      });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const news = await answer.json();
      // What is between us and the server may answer too.
      if (typeof news?.server !== "string" || typeof news.now !== "number") throw new Error("this is no answer of the server");
      [this.#server, this.#changes] = [news.server, news.changes];
      for (const [run, extent] of Object.entries(news.logs)) if (this.#logs.has(run)) this.#logs.set(run, extent);
      return news;
    } finally {
      clearTimeout(late);
    }
  }
}
