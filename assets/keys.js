// Shortcuts: one place that listens, and a sheet that lists them (`?`).

const shortcuts = new Map();

// shortcut("g t", "Go to tasks", act): keys that follow one another, spelt as KeyboardEvent.key, with a space between.
export function shortcut(keys, words, act) {
  shortcuts.set(keys, { words, act });
}

// Keys that are typed into a field are text.
const isTyping = (target) => target instanceof Element && (target.closest("input, textarea, select") || target.isContentEditable);

// Who speaks to the machine, or hits keys by accident, can do without them. The browser remembers it.
const OFF = "single-keys-off";
function areOff() {
  try {
    return localStorage.getItem(OFF) === "true";
  } catch {
    return false;
  }
}

function switchOff(isOff) {
  try {
    localStorage.setItem(OFF, String(isOff));
  } catch {}
}

const PATIENCE_MS = 1200;
let typed = "";
let since = 0;

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  if (event.key.length !== 1 || areOff()) return;
  const now = Date.now();
  typed = now - since < PATIENCE_MS && typed ? `${typed} ${event.key}` : event.key;
  since = now;
  const found = shortcuts.get(typed) ?? shortcuts.get(event.key);
  if (found) {
    event.preventDefault();
    typed = "";
    found.act();
  }
});

export const go = (address) => location.assign(address);

// A dialog that is made when it is first asked for. Escape and a press beside it close it.
export function dialog(className, label) {
  const element = document.createElement("dialog");
  element.className = className;
  element.setAttribute("aria-label", label);
  element.addEventListener("click", (event) => {
    if (event.target === element) element.close();
  });
  document.body.append(element);
  return element;
}

let sheet;
function showShortcuts() {
  if (!sheet) {
    sheet = dialog("keys", "Shortcuts");
    const box = document.createElement("div");
    box.className = "sheet";
    const title = document.createElement("h2");
    title.textContent = "Shortcuts";
    const list = document.createElement("dl");
    for (const [keys, { words }] of [["Ctrl K", { words: "Search or jump to anything" }], ...shortcuts]) {
      const term = document.createElement("dt");
      for (const key of keys.split(" ")) {
        const cap = document.createElement("kbd");
        cap.textContent = key;
        term.append(cap, " ");
      }
      const meaning = document.createElement("dd");
      meaning.textContent = words;
      list.append(term, meaning);
    }
    const choice = document.createElement("label");
    choice.className = "check";
    const switched = document.createElement("input");
    switched.type = "checkbox";
    switched.checked = !areOff();
    switched.addEventListener("change", () => switchOff(!switched.checked));
    choice.append(switched, " Keys without Ctrl do something");
    box.append(title, list, choice);
    box.tabIndex = 0;
    sheet.append(box);
  }
  sheet.showModal();
}

shortcut("?", "Show this list", showShortcuts);
for (const button of document.querySelectorAll("[data-keys]")) {
  button.hidden = false;
  button.addEventListener("click", showShortcuts);
}

// The sections of the navigation by `g` and their first letter.
for (const link of document.querySelectorAll(".top nav a")) {
  const name = link.textContent.trim();
  shortcut(`g ${name[0].toLowerCase()}`, `Go to ${name.toLowerCase()}`, () => go(link.href));
}

// What a page offers: `data-shortcut="e"` on a link or button presses it, on a field goes there.
for (const element of document.querySelectorAll("[data-shortcut]")) {
  const words = element.dataset.shortcutWords ?? element.getAttribute("aria-label") ?? element.placeholder ?? element.textContent.trim();
  shortcut(element.dataset.shortcut, words || element.textContent.trim(), () => {
    if (element.matches("input, textarea, select")) {
      element.focus();
      element.select?.();
    } else {
      element.click();
    }
  });
}
