/* One box that filters tables, findings and galleries by the name of a class or the id of an image. */

/** A text without regard to case and accents: "Übung" is "ubung", "Straße" is "strasse". */
const plain = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toUpperCase().toLowerCase();

const searched = new WeakMap();

/** What the filter looks at in a row, a picture or a finding. */
function searchedText(item) {
  if (!searched.has(item)) {
    const title = item.closest("[data-group]")?.dataset.group ?? "";
    const inner = [...item.querySelectorAll("[data-item]")].map((one) => one.dataset.item);
    searched.set(item, plain([title, item.dataset.item, ...inner, item.textContent].join(" ")));
  }
  return searched.get(item);
}

function filterList(list, wanted) {
  const items = [...list.querySelectorAll("[data-item]:not([data-item] *)")];
  for (const item of items) item.hidden = !searchedText(item).includes(wanted);
  for (const group of list.querySelectorAll("[data-group]")) group.hidden = !group.querySelector("[data-item]:not([hidden])");
  const found = items.filter((item) => !item.hidden).length;
  const says = !wanted ? "" : found ? `The filter shows ${found} of ${items.length}.` : "No match.";
  const note = list.querySelector(".filter-note");
  note.hidden = !wanted;
  note.textContent = says;
  list.classList.toggle("is-empty", !found);
  const summary = list.parentElement.querySelector(":scope > summary");
  if (summary) summary.dataset.found = says;
}

function filterPage(wanted) {
  for (const list of document.querySelectorAll("[data-filtered]")) filterList(list, wanted);
  document.dispatchEvent(new Event("filtered"));
}

function startFilter() {
  const box = document.getElementById("filter");
  box.disabled = false;
  box.addEventListener("input", oncePerFrame(() => filterPage(plain(box.value.trim()))));
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !box.value) return;
    event.preventDefault();
    box.value = "";
    filterPage("");
  });
}
