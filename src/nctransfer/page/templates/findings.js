/* Findings with a checkbox each; the ticked ones are exported as CSV. */

function startFindings() {
  for (const part of document.querySelectorAll("[data-findings]")) {
    const { name, columns, rows } = report.findings[Number(part.dataset.findings)];
    const boxes = [...part.querySelectorAll("input[data-finding]")];
    const isShown = (box) => !box.closest("[data-item]").hidden;
    const ticked = () => boxes.filter((box) => box.checked).map((box) => rows[Number(box.dataset.finding)]);
    const save = button("", () => download(`${name}.csv`, csvText([columns, ...ticked()])), { class: "primary" });
    const all = element("input", { type: "checkbox" });
    const update = () => {
      const count = ticked().length;
      const open = boxes.filter(isShown);
      const openTicked = open.filter((box) => box.checked).length;
      const hidden = count - openTicked;
      save.textContent = hidden ? `Export ${count} ticked, ${hidden} of them hidden by the filter` : `Export ${count} ticked as CSV`;
      save.disabled = !count;
      all.checked = openTicked > 0 && openTicked === open.length;
      all.indeterminate = openTicked > 0 && openTicked < open.length;
    };
    all.addEventListener("change", () => {
      for (const box of boxes) if (isShown(box)) box.checked = all.checked;
      update();
    });
    part.addEventListener("change", update);
    document.addEventListener("filtered", update);
    part.querySelector(".tools").append(element("label", {}, all, " Tick all that are shown"), save);
    for (const box of boxes) box.disabled = false;
    update();
  }
}
