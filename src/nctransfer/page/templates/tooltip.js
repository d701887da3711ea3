/* One tooltip beside the pointer. Escape closes it until the pointer moves on. */

const MOVED = 8; // pixels
let pointer = null;
let dismissed = null;

function showTooltip(x, y, ...children) {
  pointer = [x, y];
  if (dismissed && Math.hypot(x - dismissed[0], y - dismissed[1]) < MOVED) return;
  dismissed = null;
  const box = document.getElementById("tooltip");
  box.replaceChildren(...children);
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect();
  const left = x + 16 + width > innerWidth ? x - width - 16 : x + 16;
  const top = y + 16 + height > innerHeight ? y - height - 16 : y + 16;
  box.style.left = `${Math.max(4, Math.min(left, innerWidth - width - 4))}px`;
  box.style.top = `${Math.max(4, top)}px`;
}

function hideTooltip() {
  document.getElementById("tooltip").hidden = true;
}

/** Hides the tooltip, also where the pointer rests; returns whether there was one. */
function dismissTooltip() {
  const wasShown = !document.getElementById("tooltip").hidden;
  if (wasShown) dismissed = pointer;
  hideTooltip();
  return wasShown;
}
