/* Groups of buttons that are one stop of the Tab key; the arrow keys move within a group. */

const GROUPS = "table.sortable thead, table.sortable tbody, .gallery, .finding, .pair";

const isSeen = (one) => one.getClientRects().length > 0;

/** The nearest of some buttons above or below one. */
function nearestAcross(buttons, from, down) {
  const start = from.getBoundingClientRect();
  let [best, found] = [Infinity, null];
  for (const one of buttons) {
    const box = one.getBoundingClientRect();
    const ahead = down ? box.top - start.bottom : start.top - box.bottom;
    const far = Math.max(ahead, 0) + Math.abs(box.left - start.left) / 4;
    if (one !== from && ahead > -4 && far < best) [best, found] = [far, one];
  }
  return found;
}

function rove(group) {
  const all = () => [...group.querySelectorAll("button")];
  let stop = null;
  const setStop = (next) => {
    if (stop) stop.tabIndex = -1;
    stop = next;
    if (stop) stop.tabIndex = 0;
  };
  for (const one of all()) one.tabIndex = -1;
  setStop(all()[0] ?? null);
  group.addEventListener("focusin", (event) => event.target.matches("button") && setStop(event.target));
  group.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: 0, ArrowDown: 0 }[event.key];
    if (step === undefined || event.ctrlKey || event.altKey || event.metaKey || !event.target.matches("button")) return;
    const buttons = all().filter(isSeen);
    const next = step ? buttons[buttons.indexOf(event.target) + step] : nearestAcross(buttons, event.target, event.key === "ArrowDown");
    next?.focus();
    event.preventDefault();
  });
  document.addEventListener("filtered", () => {
    if (stop && !isSeen(stop)) setStop(all().find(isSeen) ?? stop);
  });
}

function startRoving() {
  for (const group of document.querySelectorAll(GROUPS)) rove(group);
}
