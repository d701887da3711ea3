/* Tables that sort by any column: a first click ascending, a second descending, a third as it was. */

const collator = new Intl.Collator("en", { numeric: true });

/** Whether most cells that say something begin with a number. */
function isOfNumbers(texts) {
  const said = texts.filter((text) => text && !/^[–—-]$/.test(text));
  const numbers = said.filter((text) => /^[^A-Za-z]*\d/.test(text) || text === "∞");
  return said.length > 0 && numbers.length > said.length / 2;
}

/** Row numbers in the order of their texts; a cell without a value stands last either way. */
function sortedOrder(texts, isNumeric, isDescending) {
  const keys = texts.map((text) => (isNumeric ? numberIn(text) : text));
  const isEmpty = (key) => (isNumeric ? Number.isNaN(key) : key === "");
  const compare = isNumeric ? (one, other) => one - other || 0 : collator.compare;
  return texts
    .map((_, row) => row)
    .sort((one, other) => {
      if (isEmpty(keys[one]) || isEmpty(keys[other])) return isEmpty(keys[one]) - isEmpty(keys[other]);
      return compare(keys[one], keys[other]) * (isDescending ? -1 : 1);
    });
}

function sortTable(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const next = { none: "ascending", ascending: "descending", descending: "none" }[heads[column].getAttribute("aria-sort")];
  for (const head of heads) if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", "none");
  heads[column].setAttribute("aria-sort", next);
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((one, other) => one.dataset.row - other.dataset.row);
  const texts = rows.map((row) => row.cells[column].textContent.trim());
  const isNumeric = heads[column].classList.contains("number") || isOfNumbers(texts);
  const order = next === "none" ? rows.keys() : sortedOrder(texts, isNumeric, next === "descending");
  body.append(...[...order].map((row) => rows[row]));
}

function startTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tBodies[0].rows].forEach((row, place) => (row.dataset.row = place));
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.classList.contains("pictures")) return; // they have no order
      head.setAttribute("aria-sort", "none");
      const sorter = button("", () => sortTable(table, column), { class: "sorter" });
      sorter.append(...head.childNodes);
      head.append(sorter);
    });
  }
}
