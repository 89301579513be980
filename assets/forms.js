// Forms: rows come and go without a reload, what is wrong is told as soon as a field is left and leads there after a
// refusal, and a command keeps its indentation. The server judges all of it; this only asks it sooner.

for (const hint of document.querySelectorAll("[data-moving]")) hint.hidden = false;

// A form that was refused goes on at the first thing that is wrong with it.
const wrong = document.querySelector("form .error:not(:empty)")?.closest(".row, .field");
if (wrong) {
  const field = wrong.querySelector("[aria-invalid=true]") ?? wrong.querySelector("input:not([type=hidden]), select, textarea");
  const folded = wrong.closest("details");
  if (folded) folded.open = true;
  field?.focus();
}

// Rows. A new one is a copy of the last, emptied.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-add], [data-remove]");
  if (!button) return;
  const rows = button.closest("[data-rows]");
  const all = rows.querySelectorAll("[data-row]");
  if (button.matches("[data-add]")) {
    if (!all.length) return;
    event.preventDefault();
    addRow(all[all.length - 1]).querySelector("input").focus();
  } else {
    event.preventDefault();
    const row = button.closest("[data-row]");
    const next = row.nextElementSibling?.querySelector("input, button") ?? rows.querySelector("[data-add]");
    if (all.length > 1) row.remove();
    else for (const field of row.querySelectorAll("input, textarea")) field.value = "";
    number(rows);
    next?.focus();
  }
});

// Who adds many numbers them at the end.
export function addRow(last, { isNumbered = true } = {}) {
  const row = last.cloneNode(true);
  for (const field of row.querySelectorAll("input, textarea")) {
    field.value = "";
    field.defaultValue = "";
    field.removeAttribute("aria-invalid");
    field.readOnly = false;
  }
  for (const error of row.querySelectorAll(".error")) error.textContent = "";
  row.querySelector(".changed")?.remove();
  last.after(row);
  if (isNumbered) number(row.closest("[data-rows]"));
  return row;
}

export function number(rows) {
  rows.querySelectorAll("[data-row]").forEach((row, i) => {
    for (const field of row.querySelectorAll("[aria-label]")) {
      field.setAttribute("aria-label", field.getAttribute("aria-label").replace(/\d+$/, i + 1));
    }
    const remove = row.querySelector("[data-remove]");
    if (remove) {
      remove.value = remove.value.replace(/\d+$/, i);
      remove.querySelector(".sr").textContent = remove.querySelector(".sr").textContent.replace(/\d+$/, i + 1);
    }
  });
}

// Who fills the last row goes on with the next one. Names that are fixed have no empty row to copy.
document.addEventListener("input", (event) => {
  const row = event.target.closest("[data-row]");
  if (!row || !event.target.value || event.target.readOnly) return;
  const rows = row.closest("[data-rows]").querySelectorAll("[data-row]");
  if (row === rows[rows.length - 1] && row.querySelector("[data-remove], [list]")) addRow(row);
});

// What is wrong with the fields that were left, as the server sees it.
for (const form of document.querySelectorAll("form[data-check]")) {
  const left = new Set();
  let asked = 0;
  form.addEventListener("change", async (event) => {
    left.add(event.target.name);
    const mine = ++asked;
    const body = new URLSearchParams(new FormData(form));
    body.set("action", "check");
    const answer = await fetch(location.href, { method: "POST", body, headers: { accept: "text/html" } }).catch(() => null);
    if (!answer?.ok || mine !== asked) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (mine !== asked) return;
    for (const field of form.elements) {
      if (!left.has(field.name) || !field.id.startsWith("f-")) continue;
      const error = document.getElementById(field.id.replace("f-", "e-"));
      const next = error && fresh.getElementById(error.id);
      if (!next) continue;
      if (error.textContent !== next.textContent) error.textContent = next.textContent;
      if (next.textContent) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    }
    showRowErrors(form, fresh, "env_name", left.has("env_name") || left.has("env_value"));
    if (left.has("tags")) copyText(form, fresh, "e-tags");
    if (left.has("env_name") || left.has("env_value")) copyText(form, fresh, "e-env");
  });
}

function copyText(form, fresh, id) {
  const [error, next] = [document.getElementById(id), fresh.getElementById(id)];
  if (error && next) error.textContent = next.textContent;
}

// The server answers with the rows it was sent, in their order.
function showRowErrors(form, fresh, name, isWanted) {
  if (!isWanted) return;
  const rowsOf = (root) => [...root.querySelectorAll(`[name=${name}]`)].map((field) => field.closest("[data-row]"));
  const next = rowsOf(fresh);
  rowsOf(form).forEach((row, i) => {
    const text = next[i]?.querySelector(".error")?.textContent ?? "";
    row.querySelector(".error").textContent = text;
    const field = row.querySelector("input");
    if (text) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  });
}

// A text whose lines are indented. Escape lets the next Tab leave it, so that nobody is trapped.
const STEP = "  ";
for (const editor of document.querySelectorAll("textarea[data-editor]")) {
  let isLeaving = false;
  editor.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "Escape") {
      isLeaving = true;
      return;
    }
    if (event.key === "Tab" && !isLeaving) {
      event.preventDefault();
      if (event.shiftKey) unindent(editor);
      else indent(editor);
    } else if (event.key === "Enter") {
      event.preventDefault();
      const before = editor.value.slice(0, editor.selectionStart);
      const [blank] = before.slice(before.lastIndexOf("\n") + 1).match(/^[ \t]*/);
      insert(editor, `\n${blank}`);
    }
    isLeaving = false;
  });
  editor.addEventListener("blur", () => (isLeaving = false));
}

// As typing does, so that it can be undone.
function insert(editor, text) {
  if (!document.execCommand("insertText", false, text)) editor.setRangeText(text, editor.selectionStart, editor.selectionEnd, "end");
}

function lines(editor) {
  const start = editor.value.lastIndexOf("\n", editor.selectionStart - 1) + 1;
  const next = editor.value.indexOf("\n", Math.max(editor.selectionEnd - 1, editor.selectionStart));
  return [start, next < 0 ? editor.value.length : next];
}

function indent(editor) {
  if (!editor.value.slice(editor.selectionStart, editor.selectionEnd).includes("\n")) return insert(editor, STEP);
  change(editor, (line) => (line ? STEP + line : line));
}

function unindent(editor) {
  change(editor, (line) => line.replace(/^(\t| {1,2})/, ""));
}

function change(editor, each) {
  const [start, end] = lines(editor);
  const text = editor.value.slice(start, end).split("\n").map(each).join("\n");
  const caret = editor.selectionStart === editor.selectionEnd ? editor.selectionStart : null;
  const shift = text.length - (end - start);
  editor.setSelectionRange(start, end);
  insert(editor, text);
  if (caret === null) editor.setSelectionRange(start, start + text.length);
  else editor.setSelectionRange(Math.max(start, caret + shift), Math.max(start, caret + shift));
}
