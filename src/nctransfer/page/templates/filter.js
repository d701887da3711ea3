/* One box that filters tables, findings and galleries by the name of a class or the id of an image. */

const folded = (text) => text.normalize("NFKC").toLocaleLowerCase();

function filterPage(wanted) {
  for (const list of document.querySelectorAll("[data-filtered]")) {
    const items = [...list.querySelectorAll("[data-item]:not([data-item] *)")];
    for (const item of items) {
      const title = item.closest("[data-group]")?.dataset.group ?? "";
      const inner = [...item.querySelectorAll("[data-item]")].map((one) => one.dataset.item);
      item.hidden = !folded([title, item.dataset.item, ...inner, item.textContent].join(" ")).includes(wanted);
    }
    for (const group of list.querySelectorAll("[data-group]")) group.hidden = !group.querySelector("[data-item]:not([hidden])");
    const shownItems = items.filter((item) => !item.hidden).length;
    const note = list.querySelector(".filter-note");
    note.hidden = !wanted;
    note.textContent = wanted ? `The filter shows ${shownItems} of ${items.length}.` : "";
  }
  document.dispatchEvent(new Event("filtered"));
}

function startFilter() {
  const box = document.getElementById("filter");
  box.disabled = false;
  box.addEventListener("input", oncePerFrame(() => filterPage(folded(box.value.trim()))));
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !box.value) return;
    event.preventDefault();
    box.value = "";
    filterPage("");
  });
}
