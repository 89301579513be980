// A pasted `.env` file becomes a row for each of its variables.
import { addRow, number } from "./forms.js";

document.addEventListener("paste", (event) => {
  const field = event.target;
  const row = field instanceof Element && field.matches("[name=env_name], [name=env_value]") && field.closest("[data-row]");
  if (!row || [...row.querySelectorAll("input, textarea")].some((other) => other.value)) return;
  const pairs = variables(event.clipboardData?.getData("text/plain") ?? "");
  // One alone may be meant as a value that holds `=`.
  if (!pairs?.length || (pairs.length === 1 && field.name === "env_value")) return;
  event.preventDefault();
  fill(row, pairs);
});

// The names and values of all lines, or nothing where any line is something else.
function variables(text) {
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
  const found = lines.map((line) => line.match(/^(?:export\s+)?([A-Za-z_][\w.-]*)\s*=\s*(.*)$/));
  if (found.includes(null)) return null;
  return found.map(([, name, value]) => [name, value.replace(/^(["'])(.*)\1$/, "$2")]);
}

// A variable that has a row already is changed there.
function fill(row, pairs) {
  const rows = row.closest("[data-rows]");
  const nameOf = (other) => other.querySelector("[name=env_name]");
  const named = new Map([...rows.querySelectorAll("[data-row]")].reverse().map((other) => [nameOf(other).value, other]));
  let place = row;
  let isFree = true;
  for (const [name, value] of pairs) {
    let there = named.get(name);
    if (!there) {
      if (!isFree) place = addRow(place, { isNumbered: false });
      isFree = false;
      there = place;
      nameOf(there).value = name;
      named.set(name, there);
    }
    there.querySelector("[name=env_value]").value = value;
  }
  if (!place.nextElementSibling?.matches("[data-row]") && nameOf(place).value) addRow(place, { isNumbered: false });
  number(rows);
  (place.nextElementSibling?.querySelector("input") ?? place.querySelector("input")).focus();
  // What is wrong with them is asked for as if they had been typed.
  nameOf(place).dispatchEvent(new Event("change", { bubbles: true }));
}
