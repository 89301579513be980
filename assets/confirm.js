// What asks back on a page of its own asks in a dialog instead: `data-confirm` on the link that leads there. The form is
// that page's, so that both always ask the same.
import { dialog } from "./keys.js";

// After that the browser goes to the page itself.
const PATIENCE_MS = 5000;
let box;

async function ask(link) {
  const answer = await fetch(link.href, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(PATIENCE_MS) });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const form = page.getElementById("confirm");
  if (!answer.ok || !form) return false;
  box ??= dialog("asks", link.textContent.trim());
  // The page below has its own first heading.
  const title = document.createElement("h2");
  title.replaceChildren(...form.querySelector("h1").childNodes);
  form.querySelector("h1").replaceWith(title);
  box.replaceChildren(document.adoptNode(form));
  box.showModal();
  form.querySelector("[data-close]")?.focus();
  return true;
}

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element && event.target.closest("a[data-confirm], [data-close]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link.matches("[data-close]")) {
    if (!link.closest("dialog")) return;
    event.preventDefault();
    box.close();
    return;
  }
  event.preventDefault();
  ask(link).then((asked) => asked || location.assign(link.href)).catch(() => location.assign(link.href));
});

// What became of it stands in the address. It is told once: a reload or a way back does not tell it again.
for (const notice of document.querySelectorAll("[data-told]")) {
  const address = new URL(location.href);
  address.searchParams.delete(notice.dataset.told);
  history.replaceState(null, "", address);
}
