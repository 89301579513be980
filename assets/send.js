// How a form is sent: once where it launches something, only to a server that answers, and not left by accident.

import { at } from "./root.js";

// Longer than a server that is well ever takes.
const PATIENCE_MS = 5000;

// The forms that are on their way.
const leaving = new Set();

// A launch is asked for once (`data-once`); who comes back to the form means another one. A form whose text is worth
// keeping (`data-keep`) stays where it is while nobody would take it: the browser's own page would be in its place.
for (const form of document.querySelectorAll("form[data-once], form[data-keep]")) {
  form.addEventListener("submit", async (event) => {
    if (event.submitter?.matches("[data-add], [data-remove]")) {
      leaving.add(form);
      return;
    }
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    if (!form.matches("[data-keep]")) return;
    event.preventDefault();
    tell(form, "");
    if (await isThere()) {
      leaving.add(form);
      if (!form.matches("[data-once]")) delete form.dataset.sent;
      // Without the button's own name: what is left out means the form's own purpose.
      form.submit();
    } else {
      delete form.dataset.sent;
      tell(form, "The server does not answer; nothing was sent. Try again.");
    }
  });
}
addEventListener("pageshow", (event) => {
  const [navigation] = performance.getEntriesByType("navigation");
  if (!event.persisted && navigation?.type !== "back_forward") return;
  leaving.clear();
  for (const form of document.querySelectorAll("form[data-once]")) delete form.dataset.sent;
  for (const field of document.querySelectorAll("[data-nonce]")) {
    field.value = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
});

// Whether the server can take a form now. A refusal is an answer too: it says more about the form than we could here.
async function isThere() {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const answer = await fetch(at("health/ready"), { cache: "no-store", signal }).catch(() => null);
  return answer !== null && ![502, 503, 504].includes(answer.status);
}

function tell(form, text) {
  const bar = form.querySelector(".bar");
  const told = bar.querySelector(".error") ?? document.createElement("span");
  told.className = "error";
  told.setAttribute("role", "alert");
  bar.append(told);
  told.textContent = text;
}

// Whoever leaves a form in which something was changed is asked first. One that was refused is not stored either.
const served = new Map([...document.querySelectorAll("form[data-keep]")].map((form) => [form, typed(form, true)]));
addEventListener("beforeunload", (event) => {
  for (const [form, text] of served) {
    if (!leaving.has(form) && (form.dataset.keep === "unsaved" || typed(form) !== text)) event.preventDefault();
  }
});

// What fields hold, or held when the page came, for a browser may have put in again what was typed before. Empty ones
// say nothing, so that an empty row is no change.
function typed(form, isAsServed = false) {
  const texts = [...form.elements].filter((field) => field.name && !field.matches("button, [type=hidden]")).map((field) => {
    let value = isAsServed ? field.defaultValue : field.value;
    if (field.matches("[type=checkbox], [type=radio]")) value = (isAsServed ? field.defaultChecked : field.checked) ? field.value : "";
    if (field.matches("select") && isAsServed) value = ([...field.options].find((option) => option.defaultSelected) ?? field.options[0]).value;
    return [field.name, value];
  });
  return JSON.stringify(texts.filter(([, value]) => value));
}
