// The palette: type a part of a task's name, press Enter, be there. Opened by Ctrl K or `/`.
import { dialog, go, shortcut } from "./keys.js";
import { at } from "./root.js";

// A server that takes longer is as good as away.
const PATIENCE_MS = 10_000;

const WAIT_MS = 120;
const NONE = "No matches.";
const AWAY = "The server does not answer, so only this page was searched.";
let parts;
let options = [];
let selected = 0;
let asked = 0;

function build() {
  const element = dialog("palette", "Search or jump to");
  const input = document.createElement("input");
  input.type = "text";
  input.placeholder = "Search tasks, runs and clusters, or type where to go";
  input.autocomplete = "off";
  input.spellcheck = false;
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-label", "Search or jump to");
  input.setAttribute("aria-expanded", "true");
  input.setAttribute("aria-controls", "palette-list");
  input.setAttribute("aria-autocomplete", "list");
  const list = document.createElement("ul");
  list.id = "palette-list";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Where to go");
  element.append(input, list);
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    show(matching(input.value));
    timer = setTimeout(() => search(input.value), WAIT_MS);
  });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      select(selected + step);
    } else if (event.key === "Enter" && options[selected]) {
      event.preventDefault();
      take(options[selected]);
    }
  });
  return { element, input, list };
}

// What this page offers: its navigation, and its own buttons and links that ask to be here.
function offered() {
  const links = [...document.querySelectorAll(".top nav a")].map((link) => ({ text: `Go to ${link.textContent.trim()}`, hint: "Page", address: link.href }));
  const own = [...document.querySelectorAll(".head .button")].map((button) => ({ text: button.textContent.trim(), hint: "This page", press: button }));
  const task = { text: "New task", hint: "Page", address: at("ui/tasks/new") };
  const isOwn = own.some((option) => option.text === task.text);
  return [...own, ...links, ...(isOwn ? [] : [task]), { text: "API", hint: "Page", address: at("api/docs/") }];
}

function matching(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return offered().filter((option) => words.every((word) => option.text.toLowerCase().includes(word)));
}

async function search(text) {
  const mine = ++asked;
  if (!text.trim()) return;
  let found = [];
  let none = NONE;
  try {
    const answer = await fetch(at(`ui/palette?q=${encodeURIComponent(text)}`), { headers: { accept: "application/json" }, signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.ok) found = await answer.json();
    else none = AWAY;
  } catch {
    // What the page itself offers is still here.
    none = AWAY;
  }
  if (mine === asked && parts.element.open) show([...found, ...matching(text)], none);
}

function show(next, none = NONE) {
  options = next;
  parts.list.replaceChildren(...options.map(row));
  if (!options.length) {
    const item = document.createElement("li");
    item.className = "none";
    item.setAttribute("role", "presentation");
    item.textContent = none;
    parts.list.append(item);
  }
  select(0);
}

function row(option, index) {
  const item = document.createElement("li");
  item.id = `palette-${index}`;
  item.setAttribute("role", "option");
  const text = document.createElement("span");
  text.textContent = option.text;
  const hint = document.createElement("span");
  hint.textContent = option.hint ?? "";
  item.append(text, hint);
  item.addEventListener("pointermove", () => selected === index || select(index));
  item.addEventListener("click", () => take(option));
  return item;
}

function select(index) {
  if (!options.length) {
    parts.input.removeAttribute("aria-activedescendant");
    return;
  }
  selected = (index + options.length) % options.length;
  [...parts.list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === selected)));
  parts.input.setAttribute("aria-activedescendant", `palette-${selected}`);
  parts.list.children[selected].scrollIntoView({ block: "nearest" });
}

function take(option) {
  parts.element.close();
  if (option.press) option.press.click();
  else go(option.address);
}

function open() {
  parts ??= build();
  if (parts.element.open) return;
  parts.input.value = "";
  show(matching(""));
  parts.element.showModal();
  parts.input.focus();
}

shortcut("/", "Search or jump to anything", open);
document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) {
    event.preventDefault();
    open();
  }
});
for (const link of document.querySelectorAll("[data-palette]")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open();
  });
}
