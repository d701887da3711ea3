/* Numbers as people write and read them. */

const MULTIPLES = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };

/** The first number in a text: "≥ 1,234.5 ± 3" is 1234.5, "94.7%" is 94.7, "1.2 MB" is 1.2 million, "none" is NaN. */
function numberIn(text) {
  const found = text
    .replaceAll("\u2212", "-")
    .match(/([-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?)(?:\s?([kMGT])(?:i?B)?(?![A-Za-z]))?/);
  if (!found) return text.includes("∞") ? Infinity : NaN;
  return Number.parseFloat(found[1].replaceAll(",", "")) * (MULTIPLES[found[2]] ?? 1);
}

/** Three significant digits. */
function shown(value) {
  if (Number.isNaN(value)) return "not defined";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = size >= 100 ? Math.round(value).toLocaleString("en") : size === 0 ? "0" : value.toPrecision(3);
  return text.replace("-", "−");
}

const percent = (share) => (Number.isFinite(share) ? `${(100 * share).toFixed(1)}%` : "not defined");
