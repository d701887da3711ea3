/* Boxes that are wider than their place fade where they go on. Only boxes that scroll are stops of the Tab key. */

const SCROLLING = ".scroll, .table-box, .gallery, .pair .thumbs";

function showRest(box) {
  const rest = box.scrollWidth - box.clientWidth;
  box.classList.toggle("is-wide", rest > 2);
  box.classList.toggle("goes-on", rest - box.scrollLeft > 2);
  box.classList.toggle("went-on", rest > 2 && box.scrollLeft > 2);
  if (box.matches(".thumbs")) return; // its pictures are reached by keys
  if (rest > 2 || box.scrollHeight - box.clientHeight > 2) box.tabIndex = 0;
  else box.removeAttribute("tabindex");
}

function startScrolling() {
  const watcher = new ResizeObserver((entries) => {
    for (const box of new Set(entries.map(({ target }) => target.closest(SCROLLING)))) showRest(box);
  });
  for (const box of document.querySelectorAll(SCROLLING)) {
    for (const watched of [box, ...box.children]) watcher.observe(watched);
    box.addEventListener("scroll", () => showRest(box), { passive: true });
  }
}
