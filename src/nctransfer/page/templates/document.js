/* The document: its data, and elements made of text. No text ever becomes markup. */

const report = JSON.parse(document.getElementById("report-data").textContent);

/** A new element. Children are elements or texts; `null` is left out. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function button(label, onClick, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", onClick);
  return made;
}

/** Calls a function once per frame, however often it is asked for. */
function oncePerFrame(call) {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      call();
    });
  };
}

const nameOf = (code) => report.classes[code] ?? "";
const countOf = (code) => report.counts[code] ?? 0;

/** The name of a class as a button that highlights it everywhere. */
function classButton(code) {
  return element("button", { type: "button", class: "name", "data-class": code }, element("bdi", {}, nameOf(code)));
}
