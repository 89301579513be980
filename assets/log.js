// The view of a log. Only the lines around the screen are in the page, and a few chunks in memory, whatever the length
// of the log: the rest is asked for when it is looked at. The server tells how far the log reaches by now.
import { refresh } from "./live.js";

// Lines are fetched and kept in chunks of this many.
const CHUNK = 200;
const CHUNKS_KEPT = 12;
// Lines in the page above and below the screen.
const BEYOND = 60;
// Browsers draw nothing that is much higher. Of a longer log the scrollbar shows the place in proportion.
const MOST_PX = 8_000_000;
// How long a wheel or a finger goes on moving what it moved.
const WHEEL_MS = 500;
const MOST_HITS = 10_000;
const MOST_COPIED = 5_000;

for (const section of document.querySelectorAll("[data-log]")) view(section);

function view(section) {
  const address = section.dataset.log;
  const part = (name) => section.querySelector(`[data-log-${name}]`);
  const box = part("view");
  const space = box.querySelector(".log-space");
  const rows = box.querySelector(".log-rows");

  const extent = { lines: Number(rows.dataset.lines), bytes: Number(rows.dataset.bytes), isComplete: rows.dataset.complete === "true" };
  // Which lines are in the page (counted from 0), and where they stand in the space that is scrolled.
  const shown = { first: 0, count: 0, top: 0 };
  const chunks = new Map();
  let isFollowing = false;
  let isWrapped = false;
  let marked = null;
  let rowHeight = 20;
  let averageHeight = 20;

  // ---- Lines from the server

  async function fetchLines(from, count, signal) {
    const found = [];
    while (found.length < count) {
      const answer = await fetch(`${address}/lines?from=${from + found.length + 1}&count=${count - found.length}`, { signal });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(".log-rows");
      found.push(...[...fresh.children].map((row) => document.adoptNode(row)));
      reach({ lines: Number(fresh.dataset.lines), bytes: Number(fresh.dataset.bytes), isComplete: fresh.dataset.complete === "true" });
      if (!fresh.children.length || from + found.length >= extent.lines) break;
    }
    return found;
  }

  // A chunk as it is now. One at the end of the log is asked for what came after, from its last line on.
  async function load(index, signal) {
    let chunk = chunks.get(index);
    chunks.delete(index);
    chunk ??= { lines: [], bytes: -1, isWhole: false };
    if (!chunk.isWhole && chunk.bytes !== extent.bytes) {
      const known = Math.max(chunk.lines.length - 1, 0);
      const bytes = extent.bytes;
      const fresh = await fetchLines(index * CHUNK + known, CHUNK - known, signal);
      chunk = { lines: [...chunk.lines.slice(0, known), ...fresh], bytes, isWhole: false };
      chunk.isWhole = chunk.lines.length === CHUNK && (extent.isComplete || extent.lines > (index + 1) * CHUNK);
    }
    chunks.set(index, chunk);
    for (const old of chunks.keys()) {
      if (chunks.size <= CHUNKS_KEPT) break;
      chunks.delete(old);
    }
    return chunk;
  }

  async function linesBetween(first, last, signal) {
    const found = [];
    for (let index = Math.floor(first / CHUNK); index * CHUNK < last; index++) {
      const { lines } = await load(index, signal);
      found.push(...lines.slice(Math.max(first - index * CHUNK, 0), last - index * CHUNK));
      if (lines.length < CHUNK) break;
    }
    return found;
  }

  // ---- What is on the screen

  const screenful = () => Math.max(Math.floor(box.clientHeight / rowHeight), 1);
  // Whether each line has its own place in the scrolled space.
  const isExact = () => !isWrapped && extent.lines * rowHeight <= MOST_PX;
  const spaceHeight = () => {
    if (shown.first === 0 && shown.count >= extent.lines && shown.count > 0) return rows.offsetHeight;
    return Math.min(Math.ceil(extent.lines * (isWrapped ? averageHeight : rowHeight)), MOST_PX);
  };
  const scrollRange = () => Math.max(space.offsetHeight - box.clientHeight, 1);

  let expectedTop = 0;
  let wheeledAt = -Infinity;
  function scrollTo(top) {
    box.scrollTop = top;
    expectedTop = box.scrollTop;
  }

  let asked = null;
  let isShowing = false;
  // Shows a line at the top of the screen, `px` of it above; or the end. The latest wish counts.
  async function show(wish) {
    asked?.abort.abort();
    const mine = { ...wish, abort: new AbortController() };
    asked = mine;
    isShowing = true;
    try {
      const top = wish.isEnd ? extent.lines - screenful() : wish.line;
      const line = Math.max(Math.min(top, extent.lines - 1), 0);
      const first = Math.max(line - BEYOND, 0);
      const last = wish.isEnd ? Infinity : line + screenful() + BEYOND;
      const lines = await linesBetween(first, Math.min(last, extent.lines), mine.abort.signal);
      if (asked !== mine) return;
      place(first, lines, { ...wish, line });
      section.classList.remove("is-away");
    } catch (error) {
      if (asked !== mine || error.name === "AbortError") return;
      section.classList.add("is-away");
    } finally {
      if (asked === mine) isShowing = false;
    }
  }

  function place(first, lines, { line, px = 0, isEnd = false, staysPut = false }) {
    const focused = rows.contains(document.activeElement) ? document.activeElement.closest(".line")?.id : null;
    if (!isSame(lines)) rows.replaceChildren(...lines);
    if (focused) rows.querySelector(`#${focused} a`)?.focus({ preventScroll: true });
    Object.assign(shown, { first, count: lines.length });
    if (lines.length) averageHeight = rows.offsetHeight / lines.length;
    space.style.height = `${spaceHeight()}px`;
    part("empty").hidden = extent.lines > 0;

    const within = (lines[line - first]?.offsetTop ?? 0) + px;
    const height = space.offsetHeight;
    let top = box.scrollTop;
    if (first === 0) {
      shown.top = 0;
      top = within;
    } else if (isExact()) {
      shown.top = first * rowHeight;
      top = shown.top + within;
    } else if (first + lines.length >= extent.lines) {
      shown.top = Math.max(height - rows.offsetHeight, 0);
      top = shown.top + within;
    } else {
      // There is always room to scroll on, up and down.
      const margin = Math.min(rows.offsetHeight, height / 4);
      const proportional = (line / Math.max(extent.lines - screenful(), 1)) * scrollRange();
      top = Math.min(Math.max(staysPut ? top : proportional, margin), height - box.clientHeight - margin);
      shown.top = top - within;
    }
    rows.style.transform = `translateY(${shown.top}px)`;
    if (isEnd) top = height;
    if (Math.abs(top - box.scrollTop) >= 1) scrollTo(top);
    else expectedTop = box.scrollTop;
    decorate();
    showEndButton();
  }

  const isSame = (lines) => lines.length === rows.children.length && lines.every((line, i) => line === rows.children[i]);

  // The line at the top of the screen, and how much of it is above. Beyond the lines in the page it is a guess.
  function topLine() {
    const within = box.scrollTop - shown.top;
    if (isExact()) return { line: shown.first + Math.floor(within / rowHeight), px: within % rowHeight };
    const beyond = within < 0 ? within : Math.max(within - rows.offsetHeight, 0);
    if (beyond) return { line: shown.first + (within < 0 ? 0 : shown.count) + Math.floor(beyond / averageHeight), px: 0 };
    let [low, high] = [0, rows.children.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (rows.children[middle].offsetTop <= within) low = middle;
      else high = middle - 1;
    }
    return { line: shown.first + low, px: within - (rows.children[low]?.offsetTop ?? 0) };
  }

  const isAtEnd = () => shown.first + shown.count >= extent.lines && shown.top + rows.offsetHeight <= box.scrollTop + box.clientHeight + rowHeight / 2;

  function onScroll() {
    const top = box.scrollTop;
    const moved = top - expectedTop;
    if (Math.abs(moved) < 1) return;
    expectedTop = top;
    if (moved < 0) follow(false);
    const margin = (BEYOND / 3) * rowHeight;
    const coversAbove = shown.first === 0 || shown.top <= top - margin;
    const coversBelow = shown.first + shown.count >= extent.lines || shown.top + rows.offsetHeight >= top + box.clientHeight + margin;
    // The wheel moves by pixels, however quickly; the scrollbar leaps.
    const isLeap = Math.abs(moved) > 2 * box.clientHeight && performance.now() - wheeledAt > WHEEL_MS;
    if (isExact()) {
      if (!coversAbove || !coversBelow) show({ line: Math.floor(top / rowHeight), px: top % rowHeight });
    } else if (isLeap) {
      show({ line: Math.round((top / scrollRange()) * Math.max(extent.lines - screenful(), 0)) });
    } else if (!coversAbove || !coversBelow) {
      show({ ...topLine(), staysPut: true });
    }
    if (moved > 0 && isAtEnd()) follow(true);
    else showEndButton();
  }

  box.addEventListener("scroll", onScroll, { passive: true });
  // Where the scrollbar is in proportion, it is put right when the hand rests.
  box.addEventListener("scrollend", () => {
    if (!isExact() && !isShowing && !isFollowing && shown.count) show(topLine());
  });
  const byHand = (event) => {
    wheeledAt = performance.now();
    if (event.deltaY < 0) follow(false);
  };
  box.addEventListener("wheel", byHand, { passive: true });
  box.addEventListener("touchmove", byHand, { passive: true });

  // ---- Following

  function follow(isOn) {
    isFollowing = isOn;
    section.classList.toggle("is-following", isOn && !extent.isComplete);
    showEndButton();
  }

  function showEndButton() {
    part("end").hidden = isFollowing || isAtEnd() || extent.lines === 0;
  }

  function jumpToEnd() {
    follow(true);
    return show({ isEnd: true });
  }
  part("end").addEventListener("click", () => {
    jumpToEnd();
    box.focus({ preventScroll: true });
  });

  // Takes in how far the log reaches. True where that is news.
  function reach(next) {
    if (next.bytes === extent.bytes && next.lines === extent.lines && next.isComplete === extent.isComplete) return false;
    // A log that was cut back is another one.
    if (next.bytes < extent.bytes) chunks.clear();
    Object.assign(extent, next);
    part("extent").textContent = `${count(extent.lines, "line")}, ${size(extent.bytes)}`;
    return true;
  }

  let growth = null;
  function listen() {
    growth?.close();
    growth = null;
    if (document.hidden || extent.isComplete) return;
    growth = new EventSource(`${address}/growth`);
    growth.addEventListener("message", ({ data }) => {
      const { lines, bytes, is_complete: isComplete } = JSON.parse(data);
      if (reach({ lines, bytes, isComplete })) grown();
    });
    growth.addEventListener("end", () => {
      growth.close();
      follow(isFollowing);
      // What is around the log changes with the end as well.
      refresh().catch(() => {});
    });
  }
  document.addEventListener("visibilitychange", listen);

  let isGrowing = false;
  let hasGrown = false;
  async function grown() {
    hasGrown = true;
    if (isGrowing) return;
    isGrowing = true;
    while (hasGrown) {
      hasGrown = false;
      if (isFollowing) await show({ isEnd: true });
      else if (!isShowing && (shown.first + shown.count < extent.lines || isAtEnd()) && endIsNear()) await show({ ...topLine(), staysPut: true });
      else space.style.height = `${spaceHeight()}px`;
    }
    isGrowing = false;
    showEndButton();
  }
  const endIsNear = () => shown.count === 0 || shown.first + shown.count < topLine().line + screenful() + BEYOND;

  // ---- Marked lines: #L120, #L120-L130

  function marksOf(hash) {
    const found = /^#L(\d+)(?:-L(\d+))?$/.exec(hash);
    if (!found) return null;
    const [one, other] = [Number(found[1]), Number(found[2] ?? found[1])];
    return { from: Math.min(one, other), to: Math.max(one, other) };
  }

  function mark(lines) {
    marked = lines;
    const hash = lines.from === lines.to ? `#L${lines.from}` : `#L${lines.from}-L${lines.to}`;
    history.replaceState(history.state, "", hash);
    decorate();
  }

  function goTo(number) {
    follow(false);
    return show({ line: Math.max(number - 1 - Math.floor(screenful() / 3), 0) });
  }

  rows.addEventListener("click", (event) => {
    const link = event.target.closest("a.n");
    if (!link || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const number = Number(link.textContent);
    follow(false);
    if (event.shiftKey && marked) mark({ from: Math.min(marked.from, number), to: Math.max(marked.from, number) });
    else mark({ from: number, to: number });
  });

  addEventListener("hashchange", () => {
    marked = marksOf(location.hash);
    if (marked) goTo(marked.from);
  });

  // ---- Search

  let search = null;

  async function find(text, isCase) {
    search?.abort.abort();
    if (!text) {
      search = null;
      tellHits();
      decorate();
      return;
    }
    const start = shown.count && !isFollowing ? topLine().line + 1 : 1;
    // What is found from here on, and what is found from the beginning to here.
    const mine = { text, isCase, start, after: [], before: [], current: null, until: 0, isBusy: true, isFull: false, abort: new AbortController() };
    search = mine;
    tellHits();
    try {
      await collect(mine, mine.after, start, Infinity);
      if (mine.start > 1) await collect(mine, mine.before, 1, mine.start);
    } catch (error) {
      if (search === mine && error.name !== "AbortError") part("hits").textContent = "The search broke off";
      return;
    }
    mine.isBusy = false;
    mine.until = extent.lines;
    tellHits();
  }

  async function collect(mine, hits, from, until) {
    let place = `line=${from}`;
    while (place) {
      const query = new URLSearchParams({ q: mine.text, case: String(mine.isCase) });
      const answer = await fetch(`${address}/search?${query}&${place}`, { signal: mine.abort.signal });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const found = await answer.json();
      if (search !== mine) throw new DOMException("", "AbortError");
      const known = hits.at(-1) ?? 0;
      const fresh = found.lines.filter((line) => line > known && line < until);
      const isBeyond = fresh.length < found.lines.length && found.lines.at(-1) >= until;
      const room = MOST_HITS - mine.after.length - mine.before.length;
      for (const line of fresh.slice(0, room)) hits.push(line);
      mine.isFull = fresh.length > room;
      place = found.next && !isBeyond && !mine.isFull ? `next=${encodeURIComponent(found.next)}` : null;
      if (mine.current === null && hits.length) goToHit(hits[0]);
      tellHits();
      decorate();
    }
  }

  const hitsInOrder = () => (search ? [...search.before, ...search.after] : []);

  function goToHit(line) {
    search.current = line;
    const isOnScreen = shown.count && line - 1 >= topLine().line && line < topLine().line + screenful();
    if (isOnScreen && !isWrapped) {
      follow(false);
      decorate();
    } else goTo(line);
    tellHits();
  }

  async function step(by) {
    if (!search) return;
    if (!search.isBusy && !search.isFull && extent.lines > search.until) {
      const from = Math.max(search.until, 1);
      search.until = extent.lines;
      await collect(search, search.after, from, Infinity).catch(() => {});
      if (!search) return;
    }
    const hits = hitsInOrder();
    if (!hits.length) return;
    const at = hits.indexOf(search.current);
    goToHit(hits[(at + by + hits.length) % hits.length]);
  }

  function tellHits() {
    const has = Boolean(search);
    part("previous").hidden = part("next").hidden = !has;
    part("find").hidden = true;
    if (!has) {
      part("hits").textContent = "";
      return;
    }
    const hits = hitsInOrder();
    const more = search.isFull ? "+" : search.isBusy ? "…" : "";
    if (!hits.length) part("hits").textContent = search.isBusy ? "Searching…" : "No line holds it";
    else part("hits").textContent = `${(hits.indexOf(search.current) + 1).toLocaleString("en")} of ${hits.length.toLocaleString("en")}${more}`;
  }

  const form = section.querySelector(".log-search");
  const field = form.elements.namedItem("q");
  const sought = () => [field.value, form.elements.namedItem("case").checked];
  const isSought = () => search && search.text === field.value && search.isCase === form.elements.namedItem("case").checked;
  let typing;
  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => isSought() || find(...sought()), 250);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    if (isSought()) step(1);
    else find(...sought());
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.shiftKey) {
      event.preventDefault();
      step(-1);
    } else if (event.key === "Escape") {
      field.value = "";
      find("");
      box.focus({ preventScroll: true });
    }
  });
  part("next").addEventListener("click", () => step(1));
  part("previous").addEventListener("click", () => step(-1));

  // ---- What lines are drawn with: marks, and the text that is searched for

  function decorate() {
    for (const row of rows.children) {
      const number = Number(row.id.slice(1));
      row.classList.toggle("is-marked", Boolean(marked) && number >= marked.from && number <= marked.to);
      row.classList.toggle("is-hit", search?.current === number);
    }
    if (!("highlights" in CSS)) return;
    CSS.highlights.delete("log-hit");
    if (!search) return;
    const highlight = new Highlight();
    for (const row of rows.children) for (const range of hitsIn(row.querySelector(".t"))) highlight.add(range);
    CSS.highlights.set("log-hit", highlight);
  }

  function hitsIn(element) {
    const fold = (text) => (search.isCase ? text : text.toLowerCase());
    const text = fold(element.textContent);
    const needle = fold(search.text);
    // Where the other case is longer, places differ.
    if (text.length !== element.textContent.length || !text.includes(needle)) return [];
    const ranges = [];
    const nodes = [];
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    for (let start = 0; walker.nextNode(); start += walker.currentNode.length) nodes.push({ node: walker.currentNode, start });
    const at = (place) => {
      const { node, start } = nodes.findLast(({ start }) => start <= place);
      return [node, place - start];
    };
    for (let from = text.indexOf(needle); from >= 0 && ranges.length < 100; from = text.indexOf(needle, from + needle.length)) {
      const range = new Range();
      range.setStart(...at(from));
      const [node, place] = at(from + needle.length - 1);
      range.setEnd(node, place + 1);
      ranges.push(range);
    }
    return ranges;
  }

  // ---- Wrapping, copying

  part("wrap").addEventListener("click", () => {
    const here = shown.count ? topLine() : { line: 0 };
    const wasAtEnd = isFollowing || isAtEnd();
    isWrapped = !isWrapped;
    part("wrap").setAttribute("aria-pressed", String(isWrapped));
    section.classList.toggle("is-wrapped", isWrapped);
    show(wasAtEnd ? { isEnd: true } : { line: here.line });
  });

  part("copy").addEventListener("click", async () => {
    const lines = marked ? await linesToCopy() : [...rows.children].filter(isOnScreen);
    const text = lines.map((row) => `${row.querySelector(".t").textContent}\n`).join("");
    const told = part("copied");
    try {
      await copy(text);
      told.textContent = `Copied ${count(lines.length, "line")}`;
    } catch {
      told.textContent = "Can’t copy";
    }
    setTimeout(() => (told.textContent = "Copy"), 2000);
  });
  const linesToCopy = () => fetchLines(marked.from - 1, Math.min(marked.to - marked.from + 1, MOST_COPIED));
  const isOnScreen = (row) => {
    const top = shown.top + row.offsetTop;
    return top + row.offsetHeight > box.scrollTop && top < box.scrollTop + box.clientHeight;
  };

  // ---- The beginning

  function measure() {
    const line = rows.querySelector(".line");
    const height = line && !isWrapped ? line.getBoundingClientRect().height : 0;
    if (height > 0) rowHeight = height;
  }

  new ResizeObserver(() => {
    if (!shown.count) return;
    measure();
    if (isFollowing) show({ isEnd: true });
    else show({ ...topLine(), staysPut: true });
  }).observe(box);

  const firstRow = rows.firstElementChild;
  const begins = firstRow ? Number(firstRow.id.slice(1)) : 1;
  const endsEarly = begins + rows.children.length - 1 < extent.lines;
  section.classList.add("is-live");
  for (const name of ["wrap", "copy"]) part(name).hidden = false;
  part("pages").hidden = true;
  part("find").hidden = true;
  part("found")?.remove();
  measure();
  marked = marksOf(location.hash);
  if (marked) goTo(marked.from);
  else if (endsEarly) show({ line: begins - 1 });
  else jumpToEnd();
  if (field.value) find(...sought());
  listen();
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without TLS there is only the old way.
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "sr";
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (!isCopied) throw new Error("the browser does not copy");
}

// The same words as the server's.
function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function size(bytes) {
  let tenths = bytes * 10;
  let unit = "bytes";
  for (const larger of ["kB", "MB", "GB", "TB"]) {
    if (tenths < 10_000) break;
    tenths = Math.floor(tenths / 1000);
    unit = larger;
  }
  return unit === "bytes" || tenths >= 1000 ? `${Math.floor(tenths / 10)} ${unit}` : `${Math.floor(tenths / 10)}.${tenths % 10} ${unit}`;
}
