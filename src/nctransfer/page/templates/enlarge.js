/* A picture in large, with its class, its id and its nearest images. */

const ENLARGED = 3; // times the size of a small picture

/** What is known of the nearest images of an image: of a map that it is on. */
function nearestOn(maps, number) {
  const map = maps.find((one) => one.places.has(number));
  return map && map.nearest(map.places.get(number));
}

function startEnlarging(maps) {
  const dialog = document.getElementById("enlarged");
  const show = (number) => {
    hideTooltip();
    const large = picture(number, 96 * ENLARGED);
    large?.addEventListener("load", () => Object.assign(large, { width: ENLARGED * large.naturalWidth, height: ENLARGED * large.naturalHeight }));
    const close = button("Close", () => dialog.close(), { class: "plain" });
    dialog.replaceChildren(close, large ?? "", imageFacts(number, nearestOn(maps, number), 56, true));
    if (!dialog.open) dialog.showModal();
    close.focus();
  };
  document.addEventListener("click", (event) => {
    const asked = event.target instanceof Element ? event.target.closest("[data-enlarge]") : null;
    if (asked) show(Number(asked.dataset.enlarge));
  });
  dialog.addEventListener("click", ({ target, clientX, clientY }) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    if (target === dialog && (clientX < left || clientX > right || clientY < top || clientY > bottom)) dialog.close();
  });
}
