/* The Escape key closes what was opened last; if nothing is open, the highlighted classes are let go. */

const closers = []; // each closes one thing, and returns whether it was open

/** Adds what Escape closes; what is added later is closed first. */
const onEscape = (closer) => closers.unshift(closer);

function startEscape() {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    closers.some((closer) => closer());
  });
}
