/* Colours: they stand in the style sheet, as they differ between light and dark. */

const PALETTE = 7; // --c0 to --c6
let known = {};

/** A colour of the style sheet as [red, green, blue], each 0 to 255. */
function rgb(name) {
  if (!known[name]) {
    const probe = element("span", { style: `color: var(--${name})` });
    document.body.append(probe);
    known[name] = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
  }
  return known[name];
}

const css = (name, opacity = 1) => `rgb(${rgb(name).join(" ")} / ${opacity})`;

/**
 * The place of a class in the palette: its own where all classes have one; otherwise the kept classes take places in turn,
 * or those of the closest pairs if none is kept.
 * `null`: the class has no colour.
 */
function slotOf(code) {
  if (report.classes.length <= PALETTE) return code;
  const { pinned } = highlight;
  const place = (pinned.length ? pinned : (report.maps[0]?.closest ?? [])).indexOf(code);
  return place >= 0 ? place : null;
}

function colourOf(code) {
  const slot = slotOf(code);
  return slot === null ? null : `var(--c${slot})`;
}

/** The colour at a share (0 to 1) of a ramp of the style sheet: `near`, `share` or `mistake`. */
function rampAt(ramp, share) {
  const stops = [0, 1, 2, 3].map((stop) => rgb(`${ramp}-${stop}`));
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const below = Math.min(Math.floor(place), stops.length - 2);
  return stops[below].map((value, i) => Math.round(value + (stops[below + 1][i] - value) * (place - below)));
}

const rampGradient = (ramp) => `linear-gradient(to right, ${[0, 1, 2, 3].map((stop) => `var(--${ramp}-${stop})`).join(", ")})`;

/** Black or white, whichever reads better on a colour. */
const inkOn = ([red, green, blue]) => (red * 0.299 + green * 0.587 + blue * 0.114 > 140 ? "#000" : "#fff");
