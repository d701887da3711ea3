/* Images: their small pictures, their ids and their classes, by the number of the image. */

const imageIndex = new Map(report.images.numbers.map((number, index) => [number, index]));
const pictureUrls = new Map();

const idOf = (number) => report.images.ids[imageIndex.get(number)] ?? "";
const labelOf = (number) => report.images.labels[imageIndex.get(number)] ?? -1;

/** The address of a small picture, made when it is first shown; `null` if the page has none of this image. */
function pictureUrl(number) {
  const text = report.thumbnails[number];
  if (!text) return null;
  if (!pictureUrls.has(number)) {
    pictureUrls.set(number, URL.createObjectURL(new Blob([bytesOf(text)], { type: "image/webp" })));
  }
  return pictureUrls.get(number);
}

function picture(number, size) {
  const url = pictureUrl(number);
  return url && element("img", { src: url, alt: `${nameOf(labelOf(number))}: ${idOf(number)}`, width: size, height: size });
}

/** What is known of an image: its picture, class and id, and its nearest images. */
function imageCard(number, neighbours, distances) {
  const card = element("div", { class: "image-card" }, picture(number, 96));
  const facts = element("div", {}, element("strong", {}, element("bdi", {}, nameOf(labelOf(number)))));
  facts.append(element("div", { class: "image-id" }, element("bdi", {}, idOf(number))));
  if (neighbours.length) {
    const list = element("ol", { class: "nearest" });
    const blank = () => (neighbours.some(pictureUrl) ? element("span", { class: "blank" }) : null);
    neighbours.forEach((neighbour, rank) => {
      const isOther = labelOf(neighbour) !== labelOf(number);
      list.append(
        element(
          "li",
          { class: isOther ? "is-other" : null, title: idOf(neighbour) },
          picture(neighbour, 40) ?? blank(),
          element("bdi", {}, nameOf(labelOf(neighbour))),
          element("span", { class: "soft" }, ` ${shown(distances[rank])}`),
        ),
      );
    });
    facts.append(element("div", { class: "soft" }, "Nearest images in the full feature space, with their distance:"), list);
  }
  card.append(facts);
  return card;
}

function startImages() {
  for (const img of document.querySelectorAll("img[data-picture]")) img.src = pictureUrl(Number(img.dataset.picture));
  document.addEventListener("pointermove", (event) => {
    const thumb = event.target instanceof Element ? event.target.closest("[data-image]") : null;
    if (thumb) showTooltip(event.clientX, event.clientY, imageCard(Number(thumb.dataset.image), [], []));
  });
  document.addEventListener("pointerout", (event) => {
    if (event.target instanceof Element && event.target.closest("[data-image]")) hideTooltip();
  });
}
