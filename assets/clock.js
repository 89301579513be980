// The server's time, whatever this machine's clock says: news of the server carry it, and from there the browser's own
// steady clock counts on. Durations and "3 min ago" on pages are kept true by it, in the same words as the server's.

const TIMES_MS = 1000;
// An answer that took long says less. One that differs by more than this is believed in any case: a clock was set.
const JUMP_MS = 5000;

// The server's time minus the steady clock's; unknown until the server has answered once.
let ahead;

// An answer just came that was given at this time of the server.
export function sync(serverTime) {
  const measured = serverTime - performance.now();
  // What is on its way for a while makes the server seem to be behind.
  if (ahead === undefined || measured > ahead || ahead - measured > JUMP_MS) ahead = measured;
}

// In milliseconds; undefined while it is not known.
export function now() {
  return ahead === undefined ? undefined : performance.now() + ahead;
}

// The time of day, as people here write it; empty while it is not known.
export function timeOfDay(time) {
  return time === undefined ? "" : new Date(time).toLocaleTimeString();
}

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

export function duration(ms) {
  const seconds = Math.floor(Math.max(ms, 0) / 1000);
  const two = (large, unit, small, smaller) => (small ? `${large} ${unit} ${small} ${smaller}` : `${large} ${unit}`);
  if (seconds < 1) return `${Math.max(Math.floor(ms), 0)} ms`;
  if (seconds < 60) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (seconds < 3600) return two(Math.floor(seconds / 60), "min", seconds % 60, "s");
  if (seconds < 86400) return two(Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "min");
  return two(Math.floor(seconds / 86400), "d", Math.floor((seconds % 86400) / 3600), "h");
}

setInterval(() => {
  const time = now();
  if (document.hidden || time === undefined) return;
  // What goes on is counted on only while it is known that it does.
  if (!document.documentElement.classList.contains("is-away")) {
    for (const element of document.querySelectorAll("[data-since]")) {
      element.textContent = duration(time - Date.parse(element.dataset.since));
    }
  }
  for (const element of document.querySelectorAll("time[datetime]")) {
    const words = relative(Math.trunc((time - Date.parse(element.dateTime)) / 1000), element.dateTime.slice(0, 10));
    if (element.textContent !== words) element.textContent = words;
  }
}, TIMES_MS);
