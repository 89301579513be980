// The view of a log. Only the lines around the screen are in the page, and a few chunks in memory, whatever the length
// of the log: the rest is asked for when it is looked at. The server tells how far the log reaches by now.
import { isCurrent, isStale } from "./current.js";
import { look } from "./live.js";
import { LogLines } from "./log-lines.js";
import { LogSearch } from "./log-search.js";
import { follow as followLog, listen } from "./news.js";

// Lines in the page above and below the screen.
const BEYOND = 60;
// Browsers draw nothing that is much higher. Of a longer log the scrollbar shows the place in proportion.
const MOST_PX = 8_000_000;
// How long a wheel or a finger goes on moving what it moved.
const WHEEL_MS = 500;
const MOST_COPIED = 5_000;
// Until lines that could not be fetched are asked for again.
const SHORTEST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;

for (const section of document.querySelectorAll("[data-log]")) view(section);

function view(section) {
  const address = section.dataset.log;
  const part = (name) => section.querySelector(`[data-log-${name}]`);
  const box = part("view");
  const space = box.querySelector(".log-space");
  const rows = box.querySelector(".log-rows");

  const log = new LogLines(address, rows, () => {
    part("extent").textContent = `${count(log.extent.lines, "line")}, ${size(log.extent.bytes)}`;
    lookToTheEnd();
  });
  // Which lines are in the page (counted from 0), and where they stand in the space that is scrolled.
  const shown = { first: 0, count: 0, top: 0 };
  let isFollowing = false;
  let isWrapped = false;
  let marked = null;
  let search = null;
  let rowHeight = 20;
  let averageHeight = 20;

  // ---- What is on the screen

  const screenful = () => Math.max(Math.floor(box.clientHeight / rowHeight), 1);
  // Whether each line has its own place in the scrolled space.
  const isExact = () => !isWrapped && log.extent.lines * rowHeight <= MOST_PX;
  const spaceHeight = () => {
    if (shown.first === 0 && shown.count >= log.extent.lines && shown.count > 0) return rows.offsetHeight;
    return Math.min(Math.ceil(log.extent.lines * (isWrapped ? averageHeight : rowHeight)), MOST_PX);
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
  let failures = 0;
  let retry;
  // Shows a line at the top of the screen, `px` of it above; or the end. The latest wish counts.
  async function show(wish) {
    asked?.abort.abort();
    clearTimeout(retry);
    const mine = { ...wish, abort: new AbortController() };
    asked = mine;
    isShowing = true;
    try {
      const top = wish.isEnd ? log.extent.lines - screenful() : wish.line;
      const line = Math.max(Math.min(top, log.extent.lines - 1), 0);
      const first = Math.max(line - BEYOND, 0);
      const last = wish.isEnd ? Infinity : line + screenful() + BEYOND;
      const lines = await log.between(first, Math.min(last, log.extent.lines), mine.abort.signal);
      if (asked !== mine) return;
      place(first, lines, { ...wish, line });
      failures = 0;
      section.classList.remove("is-away");
      isCurrent("log");
    } catch {
      // What was given up for a later wish is that one's matter.
      if (asked !== mine) return;
      section.classList.add("is-away");
      isStale("log", "Lines of the log could not be read");
      retry = setTimeout(() => show(wish), Math.min(SHORTEST_PAUSE_MS * 2 ** failures++, LONGEST_PAUSE_MS));
    } finally {
      if (asked === mine) isShowing = false;
    }
  }

  function place(first, lines, { line, px = 0, isEnd = false, staysPut = false }) {
    const focused = rows.contains(document.activeElement) ? document.activeElement.closest(".line")?.id : null;
    put(lines);
    if (focused) rows.querySelector(`#${focused} a`)?.focus({ preventScroll: true });
    Object.assign(shown, { first, count: lines.length });
    if (lines.length) averageHeight = rows.offsetHeight / lines.length;
    space.style.height = `${spaceHeight()}px`;
    part("empty").hidden = log.extent.lines > 0;

    const within = (lines[line - first]?.offsetTop ?? 0) + px;
    const height = space.offsetHeight;
    let top = box.scrollTop;
    if (first === 0) {
      shown.top = 0;
      top = within;
    } else if (isExact()) {
      shown.top = first * rowHeight;
      top = shown.top + within;
    } else if (first + lines.length >= log.extent.lines) {
      shown.top = Math.max(height - rows.offsetHeight, 0);
      top = shown.top + within;
    } else {
      // There is always room to scroll on, up and down.
      const margin = Math.min(rows.offsetHeight, height / 4);
      const proportional = (line / Math.max(log.extent.lines - screenful(), 1)) * scrollRange();
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

  // What stays is not touched, so that what is selected stays selected.
  function put(lines) {
    const kept = new Set(lines);
    for (const row of [...rows.children]) if (!kept.has(row)) row.remove();
    let at = rows.firstElementChild;
    for (const line of lines) {
      if (line === at) at = at.nextElementSibling;
      else rows.insertBefore(line, at);
    }
  }

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

  const isAtEnd = () => shown.first + shown.count >= log.extent.lines && shown.top + rows.offsetHeight <= box.scrollTop + box.clientHeight + rowHeight / 2;

  function onScroll() {
    const top = box.scrollTop;
    const moved = top - expectedTop;
    if (Math.abs(moved) < 1) return;
    expectedTop = top;
    if (moved < 0) follow(false);
    const margin = (BEYOND / 3) * rowHeight;
    const coversAbove = shown.first === 0 || shown.top <= top - margin;
    const coversBelow = shown.first + shown.count >= log.extent.lines || shown.top + rows.offsetHeight >= top + box.clientHeight + margin;
    // The wheel moves by pixels, however quickly; the scrollbar leaps.
    const isLeap = Math.abs(moved) > 2 * box.clientHeight && performance.now() - wheeledAt > WHEEL_MS;
    // A log that grows runs away from who scrolls to its end.
    if (moved > 0 && top >= scrollRange() - 2 * rowHeight) {
      jumpToEnd();
    } else if (isExact()) {
      if (!coversAbove || !coversBelow) show({ line: Math.floor(top / rowHeight), px: top % rowHeight });
    } else if (isLeap) {
      show({ line: Math.round((top / scrollRange()) * Math.max(log.extent.lines - screenful(), 0)) });
    } else if (!coversAbove || !coversBelow) {
      show({ ...topLine(), staysPut: true });
    }
    showEndButton();
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
  // With Ctrl or without: where the place is in proportion, the browser's own way would end on any line.
  box.addEventListener("keydown", (event) => {
    if (event.shiftKey || event.altKey || event.metaKey) return;
    if (event.key === "Home") jumpToStart();
    else if (event.key === "End") jumpToEnd();
    else return;
    event.preventDefault();
  });
  box.addEventListener("wheel", byHand, { passive: true });
  box.addEventListener("touchmove", byHand, { passive: true });

  // ---- Following

  function follow(isOn) {
    isFollowing = isOn;
    section.classList.toggle("is-following", isOn && !log.extent.isComplete);
    showEndButton();
  }

  function showEndButton() {
    part("end").hidden = isFollowing || isAtEnd() || log.extent.lines === 0;
  }

  function jumpToStart() {
    follow(false);
    box.scrollLeft = 0;
    return show({ line: 0 });
  }

  function jumpToEnd() {
    follow(true);
    return show({ isEnd: true });
  }
  part("end").addEventListener("click", () => {
    jumpToEnd();
    box.focus({ preventScroll: true });
  });

  // How far the log reaches by now comes with the news, until it is complete.
  const run = address.split("/").at(-2);
  function attend() {
    if (log.extent.isComplete) return;
    followLog(run);
    const quiet = listen(({ logs }) => {
      if (logs[run] === null) isStale("gone");
      if (!logs[run]) return;
      const { lines, bytes, is_complete: isComplete } = logs[run];
      const isNews = log.reach({ lines, bytes, isComplete });
      if (isComplete) {
        quiet();
        followLog(null);
        follow(isFollowing);
        part("missing")?.remove();
        if (!lines) part("empty").textContent = "Nothing was written.";
        // What is around the log changes with the end as well.
        look();
      }
      if (isNews) grown();
    });
  }

  let isGrowing = false;
  let hasGrown = false;
  async function grown() {
    hasGrown = true;
    if (isGrowing) return;
    isGrowing = true;
    while (hasGrown) {
      hasGrown = false;
      if (isFollowing) await show({ isEnd: true });
      else if (!isShowing && (shown.first + shown.count < log.extent.lines || isAtEnd()) && endIsNear()) await show({ ...topLine(), staysPut: true });
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

  const ABOVE = 1 / 3;
  // Shows a line a third below the top of the screen; or what is `px` below its beginning.
  function goTo(number, px = 0) {
    follow(false);
    return show({ line: number - 1, px: px - Math.floor(box.clientHeight * ABOVE) });
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

  function find(text, isCase) {
    search?.stop();
    search = null;
    if (text) {
      const start = shown.count && !isFollowing ? topLine().line + 1 : 1;
      const mine = new LogSearch(address, text, isCase, start, () => {
        if (search !== mine) return;
        lookToTheEnd();
        if (mine.current === null && mine.first !== null) goToHit(mine.first);
        else tellHits();
      });
      search = mine;
      mine.look(log.extent);
    }
    tellHits();
  }

  // While a log grows, what was counted is so far; once it is complete, all is counted.
  function lookToTheEnd() {
    if (search && !search.hasFailed && log.extent.isComplete && search.isBehind(log.extent)) search.look(log.extent);
  }

  async function goToHit(line) {
    const mine = search;
    Object.assign(mine, { current: line, isCurrentHidden: false });
    tellHits();
    const isInSight = shown.count && line - 1 >= topLine().line && line < topLine().line + screenful();
    if (isInSight && !isWrapped) follow(false);
    else await goTo(line);
    const row = rows.querySelector(`#L${line}`);
    if (!row || search !== mine || mine.current !== line) return;
    mine.isCurrentHidden = !mine.isIn(row.querySelector(".t"));
    if (mine.isCurrentHidden) {
      box.scrollLeft = 0;
      await show({ line: line - 1 });
    } else {
      await bringIntoSight(row, mine.rangesIn(row.querySelector(".t"))[0]);
    }
    tellHits();
  }

  // A long line is wider than the screen, or higher where it is wrapped.
  async function bringIntoSight(row, range) {
    const screen = box.getBoundingClientRect();
    const text = range.getBoundingClientRect();
    const numbers = row.querySelector(".n").getBoundingClientRect().right;
    if (text.left < numbers || text.right > screen.left + box.clientWidth) {
      box.scrollLeft += text.left - screen.left - box.clientWidth * ABOVE;
    }
    if (text.top >= screen.top && text.bottom <= screen.top + box.clientHeight) return;
    await goTo(Number(row.id.slice(1)), Math.floor(text.top - row.getBoundingClientRect().top));
  }

  async function step(by) {
    const mine = search;
    if (!mine) return;
    if (mine.isBehind(log.extent)) await mine.look(log.extent);
    const { hits } = mine;
    if (search !== mine || !hits.length) return;
    goToHit(hits[(hits.indexOf(mine.current) + by + hits.length) % hits.length]);
  }

  function tellHits() {
    part("previous").hidden = part("next").hidden = !search;
    part("hits").textContent = search ? hitsInWords(search) : "";
    decorate();
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
    if (isSought() && !search.hasFailed) step(1);
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
    for (const row of rows.children) for (const range of search.rangesIn(row.querySelector(".t"))) highlight.add(range);
    CSS.highlights.set("log-hit", highlight);
  }

  // ---- Wrapping, copying

  function wrap(isOn) {
    isWrapped = isOn;
    part("wrap").setAttribute("aria-pressed", String(isOn));
    section.classList.toggle("is-wrapped", isOn);
  }

  part("wrap").addEventListener("click", () => {
    const here = shown.count ? topLine() : { line: 0 };
    const wasAtEnd = isFollowing || isAtEnd();
    wrap(!isWrapped);
    remember("log-wrap", isWrapped);
    show(wasAtEnd ? { isEnd: true } : { line: here.line });
  });

  function showTimes(isOn) {
    part("times").setAttribute("aria-pressed", String(isOn));
    section.classList.toggle("has-times", isOn);
  }

  part("times").addEventListener("click", () => {
    const isOn = !section.classList.contains("has-times");
    showTimes(isOn);
    remember("log-times", isOn);
    if (isWrapped && shown.count) show({ ...topLine(), staysPut: true });
  });

  part("copy").addEventListener("click", async () => {
    const told = part("copied");
    try {
      const { lines, where } = await linesToCopy();
      const text = lines.map((row) => `${row.querySelector(".t").textContent}\n`).join("");
      await copy(text);
      told.textContent = `Copied ${count(lines.length, "line")}${where}`;
    } catch {
      told.textContent = "Can’t copy";
    }
    setTimeout(() => (told.textContent = "Copy"), 2000);
  });
  // The marked lines, or the log; of one that is too long, what is on the screen.
  async function linesToCopy() {
    const { lines } = log.extent;
    if (!marked && lines > MOST_COPIED) return { lines: [...rows.children].filter(isOnScreen), where: " on the screen" };
    const { from, to } = marked ?? { from: 1, to: lines };
    const { found } = await log.fetch(from - 1, Math.min(to - from + 1, MOST_COPIED));
    return { lines: found, where: "" };
  }
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
  const endsEarly = begins + rows.children.length - 1 < log.extent.lines;
  section.classList.add("is-live");
  for (const name of ["wrap", "times", "copy"]) part(name).hidden = false;
  part("pages").hidden = true;
  part("find").hidden = true;
  part("found")?.remove();
  measure();
  wrap(remembered("log-wrap"));
  showTimes(remembered("log-times"));
  marked = marksOf(location.hash);
  if (marked) goTo(marked.from);
  else if (endsEarly) show({ line: begins - 1 });
  else jumpToEnd();
  if (field.value) find(...sought());
  attend();
}

// How somebody wants logs to be shown. A browser may refuse to keep anything; then it is so on this page only.
function remember(name, isOn) {
  try {
    localStorage.setItem(name, String(isOn));
  } catch {}
}

function remembered(name) {
  try {
    return localStorage.getItem(name) === "true";
  } catch {
    return false;
  }
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

function hitsInWords({ hits, current, isCurrentHidden, isBusy, isFull, isComplete, hasFailed }) {
  if (hasFailed) return "The search broke off: press Enter to search again";
  const soFar = isComplete ? "" : " so far";
  if (!hits.length) return isBusy ? "Searching…" : `No line holds it${soFar}`;
  const more = isFull ? "+" : isBusy ? "…" : soFar;
  const where = isCurrentHidden ? `, in a part of line ${current.toLocaleString("en")} that is not shown` : "";
  return `${(hits.indexOf(current) + 1).toLocaleString("en")} of ${hits.length.toLocaleString("en")}${more}${where}`;
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
