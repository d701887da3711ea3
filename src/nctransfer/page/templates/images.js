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

/** A small picture that a click enlarges. */
function enlarging(number, size) {
  const small = picture(number, size);
  return small && element("button", { type: "button", class: "enlarge", "data-enlarge": number }, small);
}

/** The nearest images of an image: their pictures, classes and distances. */
function nearestList(number, { numbers, distances }, size, canEnlarge) {
  const list = element("ol", { class: "nearest", style: `--size: ${size}px` });
  const blank = () => (numbers.some(pictureUrl) ? element("span", { class: "blank" }) : null);
  numbers.forEach((near, rank) => {
    list.append(
      element(
        "li",
        { class: labelOf(near) === labelOf(number) ? null : "is-other", title: idOf(near) },
        (canEnlarge ? enlarging(near, size) : picture(near, size)) ?? blank(),
        element("bdi", {}, nameOf(labelOf(near))),
        element("span", { class: "soft" }, ` ${shown(distances[rank])}`),
      ),
    );
  });
  return list;
}

/** The class and the id of an image, and its nearest images where they are known. */
function imageFacts(number, nearest, size = 40, canEnlarge = false) {
  const facts = element("div", {}, element("strong", {}, element("bdi", {}, nameOf(labelOf(number)))));
  facts.append(element("div", { class: "image-id" }, element("bdi", {}, idOf(number))));
  if (nearest?.numbers.length) {
    facts.append(element("div", { class: "soft" }, "Nearest images in the full feature space, with their distance:"));
    facts.append(nearestList(number, nearest, size, canEnlarge));
  }
  return facts;
}

/** All that is known of an image, with its picture. */
function imageCard(number, nearest = null, canEnlarge = false) {
  const small = canEnlarge ? enlarging(number, 96) : picture(number, 96);
  return element("div", { class: "image-card" }, small, imageFacts(number, nearest, 40, canEnlarge));
}

function startImages() {
  for (const img of document.querySelectorAll("img[data-picture]")) img.src = pictureUrl(Number(img.dataset.picture));
  document.addEventListener("pointermove", (event) => {
    const thumb = event.target instanceof Element ? event.target.closest("[data-image]") : null;
    if (thumb) showTooltip(event.clientX, event.clientY, imageCard(Number(thumb.dataset.image)));
  });
  document.addEventListener("pointerout", (event) => {
    if (event.target instanceof Element && event.target.closest("[data-image]")) hideTooltip();
  });
}
