// The lines of a log, from the server: a few chunks of them are kept, and how far the log reaches.

import { isOutdated } from "./current.js";

// Lines are fetched and kept in chunks of this many.
const CHUNK = 200;
const CHUNKS_KEPT = 12;
// A server that takes longer is as good as away.
const PATIENCE_MS = 10_000;

// Fetches, and fails where the answer takes too long.
export function fetchInTime(address, signal) {
  const late = AbortSignal.timeout(PATIENCE_MS);
  return fetch(address, { signal: signal ? AbortSignal.any([signal, late]) : late });
}

export class LogLines {
  #address;
  #chunks = new Map();
  #tell;

  // Begins with what the page came with. `tell` is called when the log reaches further.
  constructor(address, rows, tell) {
    this.#address = address;
    this.#tell = tell;
    this.extent = extentOf(rows);
  }

  // Takes in how far the log reaches. True where that is news.
  reach(next) {
    const { lines, bytes, isComplete } = this.extent;
    if (next.bytes === bytes && next.lines === lines && next.isComplete === isComplete) return false;
    // A log that was cut back is another one.
    if (next.bytes < bytes) this.#chunks.clear();
    this.extent = next;
    this.#tell();
    return true;
  }

  // Lines from a number on (counted from 0), and how far the log reached with the last answer: what came since then may
  // have changed the last line.
  async fetch(from, count, signal) {
    const found = [];
    let then = this.extent;
    while (found.length < count) {
      const answer = await fetchInTime(`${this.#address}/lines?from=${from + found.length + 1}&count=${count - found.length}`, signal);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(".log-rows[data-version]");
      // What is between us and the server may answer too.
      if (!fresh) throw new Error("these are no lines of the server");
      isOutdated(fresh.dataset.version);
      const rows = [...fresh.children].map((row) => document.adoptNode(row));
      found.push(...rows);
      then = extentOf(fresh);
      // An answer may be overtaken by news.
      if (then.bytes >= this.extent.bytes) this.reach(then);
      if (!rows.length || from + found.length >= then.lines) break;
    }
    return { found, then };
  }

  // The lines from `first` to before `last`, as they are now.
  async between(first, last, signal) {
    const found = [];
    for (let index = Math.floor(first / CHUNK); index * CHUNK < last; index++) {
      const lines = await this.#chunk(index, signal);
      found.push(...lines.slice(Math.max(first - index * CHUNK, 0), last - index * CHUNK));
      if (lines.length < CHUNK) break;
    }
    return found;
  }

  // One at the end of the log is asked for what came after, from its last line on.
  async #chunk(index, signal) {
    let chunk = this.#chunks.get(index) ?? { lines: [], bytes: -1, isWhole: false };
    if (!chunk.isWhole && chunk.bytes !== this.extent.bytes) {
      const known = Math.max(chunk.lines.length - 1, 0);
      const { found, then } = await this.fetch(index * CHUNK + known, CHUNK - known, signal);
      const lines = [...chunk.lines.slice(0, known), ...found];
      const isWhole = lines.length === CHUNK && (then.isComplete || then.lines > (index + 1) * CHUNK);
      chunk = { lines, bytes: then.bytes, isWhole };
    }
    // The one that was used last is forgotten last.
    this.#chunks.delete(index);
    this.#chunks.set(index, chunk);
    for (const old of this.#chunks.keys()) {
      if (this.#chunks.size <= CHUNKS_KEPT) break;
      this.#chunks.delete(old);
    }
    return chunk.lines;
  }
}

function extentOf({ dataset }) {
  return { lines: Number(dataset.lines), bytes: Number(dataset.bytes), isComplete: dataset.complete === "true" };
}
