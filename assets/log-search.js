// A search in a log: the server looks, an answer at a time, from the line on the screen to the end and then from the
// beginning; here the lines are kept that hold the text.

import { fetchInTime } from "./log-lines.js";

const MOST_HITS = 10_000;
// How often a text is marked on one line.
const MOST_RANGES = 100;

export class LogSearch {
  #address;
  #tell;
  #start;
  #before = [];
  #after = [];
  #until = 0;
  #isComplete = false;
  #abort = new AbortController();
  #pattern;
  isBusy = true;
  isFull = false;
  hasFailed = false;
  // The line that was stepped to last, and whether the text is in a part of it that is not shown.
  current = null;
  isCurrentHidden = false;

  // `tell` is called when more is known.
  constructor(address, text, isCase, start, tell) {
    this.#address = address;
    this.text = text;
    this.isCase = isCase;
    this.#start = start;
    this.#tell = tell;
    // The same letters are alike here as on the server.
    this.#pattern = new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), isCase ? "gu" : "giu");
  }

  get hits() {
    return [...this.#before, ...this.#after];
  }

  // Where to go first.
  get first() {
    return this.#after[0] ?? this.#before[0] ?? null;
  }

  stop() {
    this.#abort.abort();
  }

  // Looks through a log that reaches so far, or through what came since then.
  async look({ lines, isComplete }) {
    const isFirst = this.#until === 0;
    this.isBusy = true;
    try {
      await this.#collect(this.#after, isFirst ? this.#start : this.#until, Infinity);
      if (isFirst && this.#start > 1) await this.#collect(this.#before, 1, this.#start);
      this.#until = Math.max(lines, 1);
      this.#isComplete = isComplete;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.hasFailed = true;
    }
    this.isBusy = false;
    this.#tell();
  }

  // Whether there may be more than was looked through.
  isBehind({ lines, isComplete }) {
    return !this.isBusy && !this.isFull && (lines > this.#until || isComplete !== this.#isComplete);
  }

  // Whether nothing can come that was not looked through.
  get isComplete() {
    return this.#isComplete;
  }

  async #collect(hits, from, until) {
    let place = `line=${from}`;
    while (place) {
      const query = new URLSearchParams({ q: this.text, case: String(this.isCase) });
      const answer = await fetchInTime(`${this.#address}/search?${query}&${place}`, this.#abort.signal);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const found = await answer.json();
      const known = hits.at(-1) ?? 0;
      const fresh = found.lines.filter((line) => line > known && line < until);
      const isBeyond = (found.lines.at(-1) ?? 0) >= until;
      const room = MOST_HITS - this.#before.length - this.#after.length;
      hits.push(...fresh.slice(0, room));
      this.isFull = fresh.length > room;
      place = found.next && !isBeyond && !this.isFull ? `next=${encodeURIComponent(found.next)}` : null;
      this.#tell();
    }
  }

  isIn(element) {
    return element.textContent.search(this.#pattern) >= 0;
  }

  // Where the text stands within an element, to be highlighted.
  rangesIn(element) {
    const nodes = [];
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    for (let start = 0; walker.nextNode(); start += walker.currentNode.length) nodes.push({ node: walker.currentNode, start });
    const at = (place) => {
      const { node, start } = nodes.findLast(({ start }) => start <= place);
      return [node, place - start];
    };
    const ranges = [];
    for (const { 0: found, index } of element.textContent.matchAll(this.#pattern)) {
      if (ranges.length >= MOST_RANGES) break;
      const range = new Range();
      range.setStart(...at(index));
      const [node, place] = at(index + found.length - 1);
      range.setEnd(node, place + 1);
      ranges.push(range);
    }
    return ranges;
  }
}
