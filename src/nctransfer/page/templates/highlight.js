/* One class, or a few, highlighted everywhere at once: hover or focus shows a class, a click keeps it. */

const MOST_PINNED = 7; // as many colours tell apart
const highlight = { hovered: [], pinned: [], listeners: [] };

const isLit = (code) => highlight.hovered.includes(code) || highlight.pinned.includes(code);

function hover(...codes) {
  if (codes.join() === highlight.hovered.join()) return;
  highlight.hovered = codes;
  showHighlight();
}

function pinClass(code) {
  const { pinned } = highlight;
  highlight.pinned = pinned.includes(code) ? pinned.filter((one) => one !== code) : [...pinned, code].slice(-MOST_PINNED);
  showHighlight();
}

function pinOnly(codes) {
  highlight.pinned = codes.slice(0, MOST_PINNED);
  showHighlight();
}

const showHighlight = oncePerFrame(() => {
  for (const lit of document.querySelectorAll(".is-lit")) {
    lit.classList.remove("is-lit");
    lit.style.removeProperty("--mark");
  }
  for (const code of new Set([...highlight.pinned, ...highlight.hovered])) {
    for (const lit of document.querySelectorAll(`[data-class="${code}"]`)) {
      lit.classList.add("is-lit");
      lit.style.setProperty("--mark", colourOf(code) ?? "var(--accent)");
      if (lit.matches("button.name")) lit.setAttribute("aria-pressed", String(highlight.pinned.includes(code)));
    }
  }
  for (const once of document.querySelectorAll('button.name[aria-pressed="true"]:not(.is-lit)')) once.removeAttribute("aria-pressed");
  showPins();
  for (const listener of highlight.listeners) listener();
});

/** The classes that are kept, in the bar at the top. It is made anew for others only: a button stays while it is pressed. */
function showPins() {
  const bar = document.getElementById("pins");
  const { pinned } = highlight;
  if (bar.dataset.pinned === pinned.join()) return;
  bar.dataset.pinned = pinned.join();
  bar.hidden = !pinned.length;
  const chips = pinned.map((code) => {
    const chip = button(element("bdi", {}, nameOf(code)), () => pinClass(code), { class: "chip", title: "Highlight no longer" });
    chip.style.setProperty("--mark", colourOf(code) ?? "var(--accent)");
    chip.append(element("span", { "aria-hidden": "true" }, " ×"));
    return chip;
  });
  bar.replaceChildren("Highlighted:", ...chips, button("Clear", () => pinOnly([]), { class: "plain" }));
}

/** The class that an element stands for, as a list of none or one. */
function codesAt(target) {
  const named = target instanceof Element ? target.closest("[data-class]") : null;
  return named ? [Number(named.dataset.class)] : [];
}

function startHighlight() {
  document.addEventListener("pointerover", (event) => hover(...codesAt(event.target)));
  document.addEventListener("focusin", (event) => hover(...codesAt(event.target)));
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-enlarge]")) codesAt(event.target).forEach(pinClass);
  });
  onEscape(() => pinOnly([]));
}
