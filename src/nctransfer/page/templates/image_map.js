/* The map of images: principal components, the exact plane of chosen classes, or UMAP. */

const NEAR = 14; // pixels from the pointer to an image that it means
const SHAPES = 4;

/** Draws a mark; its shape goes with its colour, so that marks differ without colours. */
function drawMark(context, shape, x, y, size) {
  context.beginPath();
  if (shape === 0) context.arc(x, y, size, 0, 2 * Math.PI);
  else if (shape === 1) context.rect(x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8);
  else {
    const corners = shape === 2 ? [[0, -1.3], [1.15, 0.8], [-1.15, 0.8]] : [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]];
    for (const [dx, dy] of corners) context.lineTo(x + dx * size, y + dy * size);
    context.closePath();
  }
  context.fill();
}

class ImageMapView {
  constructor(figure, data) {
    this.figure = figure;
    this.data = data;
    this.rows = decoded(data.rows);
    this.labels = Array.from(this.rows, labelOf);
    this.places = new Map(Array.from(this.rows, (number, place) => [number, place]));
    this.canvas = figure.querySelector("canvas");
    this.controls = figure.querySelector(".controls");
    this.details = figure.querySelector(".live");
    this.current = null; // the place of the image below the pointer or chosen by keys
    this.kept = null; // of a click
    this.redraw = oncePerFrame(() => this.draw());
    this.zoom = new Zoom(this.canvas, this.redraw);
    this.buildControls();
    this.buildLegend();
    this.show();
    this.listen();
    followWidth(this.canvas, this.redraw);
    highlight.listeners.push(this.redraw, () => this.colourLegend());
    themeListeners.push(() => this.draw());
  }

  buildControls() {
    const { data } = this;
    const select = (label, options, first) => {
      const made = element("select", {}, ...options.map(([value, text]) => element("option", { value }, text)));
      made.value = first;
      made.addEventListener("change", () => this.show(true));
      const whole = element("label", {}, `${label} `, made);
      this.controls.append(whole);
      return [made, whole];
    };
    const views = [["pca", "Principal components"]];
    if (data.codes.length >= 2) views.push(["plane", "Plane of two or three classes"]);
    if (data.umap) views.push(["umap", "UMAP"]);
    [this.view] = select("View", views, "pca");
    const classes = data.codes.map((code) => [code, nameOf(code)]);
    const chosen = data.closest.length < 2 ? data.codes : data.closest;
    this.chosen = ["Class", "and", "and"].map((label, place) =>
      select(label, place === 2 ? [["", "no third"], ...classes] : classes, place === 2 ? "" : chosen[place]),
    );
    this.controls.append(element("span", { class: "tools" }, ...this.zoom.tools()));
  }

  buildLegend() {
    const legend = this.figure.querySelector(".legend");
    const present = [...new Set(this.labels)].filter((code) => code >= 0).sort((one, other) => one - other);
    const chips = present.map((code) => {
      const chip = classButton(code);
      chip.classList.add("chip");
      return chip;
    });
    legend.append(...chips);
    this.colourLegend();
    rove(legend);
  }

  /** Gives each class of the legend the colour and the shape of its images. */
  colourLegend() {
    for (const chip of this.figure.querySelectorAll(".legend .chip")) {
      const slot = slotOf(Number(chip.dataset.class));
      for (let shape = 0; shape < SHAPES; shape += 1) chip.classList.toggle(`shape-${shape}`, slot !== null && slot % SHAPES === shape);
      if (slot === null) chip.style.removeProperty("--dot");
      else chip.style.setProperty("--dot", `var(--c${slot})`);
    }
  }

  /** The codes of the classes whose plane is shown. */
  planeCodes() {
    return this.chosen.map(([select]) => select.value).filter((value) => value !== "").map(Number);
  }

  /** Shows the plane of two or three classes, where it is known. */
  showPlane(codes) {
    if (!codes.every((code) => this.data.codes.includes(code))) return;
    this.view.value = "plane";
    this.chosen.forEach(([select], place) => (select.value = codes[place] ?? ""));
    this.show(true);
  }

  show(isChosen = false) {
    const kind = this.view.value;
    for (const [, label] of this.chosen) label.hidden = kind !== "plane";
    this.plane = null;
    let says = this.data.says[kind];
    if (kind === "plane") says = this.showChosenPlane(isChosen) ?? says;
    else {
      const { x, y } = kind === "umap" ? this.data.umap : this.data;
      this.x = decoded(x);
      this.y = decoded(y);
    }
    const note = this.figure.querySelector(".map-note");
    note.textContent = says;
    note.classList.toggle("notice", kind === "umap");
    this.fit();
    this.centres = this.middles();
    this.zoom.reset();
  }

  /** Computes the plane; returns what is to be said if there is none. */
  showChosenPlane(isChosen) {
    const codes = this.planeCodes();
    if (isChosen) pinOnly(codes);
    const nowhere = new Float32Array(this.rows.length);
    [this.x, this.y] = [nowhere, nowhere];
    if (new Set(codes).size !== codes.length) return "Choose different classes.";
    this.planes ??= {
      count: this.data.codes.length,
      ...Object.fromEntries(["products", "gram", "points", "means"].map((name) => [name, decoded(this.data[name])])),
    };
    const plane = planeOf(this.planes, codes.map((code) => this.data.codes.indexOf(code)));
    if (!plane) return "Both classes have the same mean, so no plane follows from them.";
    this.plane = { ...plane, codes };
    [this.x, this.y] = [plane.x, plane.y];
    return this.plane.corners.length < 3 ? this.data.says.line : null;
  }

  /** The limits of what is shown. */
  fit() {
    const limits = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    [this.left, this.right] = limits(this.x);
    [this.low, this.high] = limits(this.y);
  }

  /** From the map to the drawing at zoom 1; both axes have the same unit. */
  inBox(x, y) {
    const { width, height } = this.zoom.box;
    const unit = 0.94 * Math.min(width / (this.right - this.left || 1), height / (this.high - this.low || 1));
    return [width / 2 + (x - (this.left + this.right) / 2) * unit, height / 2 - (y - (this.low + this.high) / 2) * unit];
  }

  at(place) {
    return this.zoom.outside(...this.inBox(this.x[place], this.y[place]));
  }

  draw() {
    const width = this.canvas.parentElement.clientWidth;
    const height = Math.max(280, Math.min(width * 0.68, 620));
    const context = sized(this.canvas, width, height);
    const { box } = this.zoom;
    if (box.width !== width || box.height !== height) {
      Object.assign(box, { left: 0, top: 0, width, height });
      this.zoom.reset();
    }
    if (this.plane) this.drawBorders(context);
    const anyLit = highlight.hovered.length > 0 || highlight.pinned.length > 0;
    const size = Math.min(Math.max(90 / Math.sqrt(this.rows.length), 1.7), 4) * Math.min(this.zoom.scale, 4) ** 0.4;
    const layers = [[], []]; // what is highlighted, or else has a colour, lies above
    this.labels.forEach((code, place) => layers[Number(anyLit ? isLit(code) : slotOf(code) !== null)].push(place));
    for (const [layer, places] of layers.entries()) {
      for (const place of places) this.drawImage(context, place, size * (anyLit && layer ? 1.25 : 1), anyLit && !layer);
    }
    if (this.plane) this.drawMeans(context);
    else this.drawNames(context);
    for (const place of new Set([this.kept, this.current])) if (place !== null) this.drawNear(context, place, size);
  }

  drawImage(context, place, size, isFaint) {
    const code = this.labels[place];
    const slot = isFaint ? null : (slotOf(code) ?? (highlight.hovered.includes(code) ? "hovered" : null));
    context.fillStyle = slot === null ? css("point", isFaint ? 0.35 : 0.7) : slot === "hovered" ? css("ink", 0.85) : css(`c${slot}`, 0.8);
    drawMark(context, typeof slot === "number" ? slot % SHAPES : 0, ...this.at(place), size);
  }

  drawBorders(context) {
    const { corners, codes } = this.plane;
    context.setLineDash([5, 5]);
    context.strokeStyle = css("soft");
    context.lineWidth = 1;
    const far = 1e3;
    const lines = codes.length === 3 && corners.length === 3 ? bordersOf(corners) : [[0, 0, 0, 1], [0, 0, 0, -1]];
    for (const [x, y, dx, dy] of lines) {
      context.beginPath();
      context.moveTo(...this.zoom.outside(...this.inBox(x, y)));
      context.lineTo(...this.zoom.outside(...this.inBox(x + far * dx, y + far * dy)));
      context.stroke();
    }
    context.setLineDash([]);
  }

  /** The middle of the images of each class: the median along each axis. */
  middles() {
    const median = (values) => values.sort((one, other) => one - other)[values.length >> 1];
    const places = new Map();
    this.labels.forEach((code, place) => code >= 0 && (places.get(code) ?? places.set(code, []).get(code)).push(place));
    return [...places].map(([code, own]) => [code, median(own.map((i) => this.x[i])), median(own.map((i) => this.y[i]))]);
  }

  /** Names of classes amid their images, those of highlighted ones first; a name that would cover another one is left out. */
  drawNames(context) {
    const taken = [];
    const rank = ([code]) => (highlight.hovered.includes(code) ? 0 : highlight.pinned.includes(code) ? 1 : 2);
    for (const [code, x, y] of [...this.centres].sort((one, other) => rank(one) - rank(other))) {
      const isMarked = isLit(code);
      const [middle, top] = this.zoom.outside(...this.inBox(x, y));
      context.font = context.font.replace(/^.*?(?=\d+px)\d+px/, isMarked ? "600 12px" : "12px");
      const text = cut(context, nameOf(code), 130);
      const wide = context.measureText(text).width / 2 + 3;
      const isSeen = middle > 0 && middle < this.zoom.box.width;
      const left = isSeen ? Math.min(Math.max(middle, wide), this.zoom.box.width - wide) : middle;
      const covers = ([otherLeft, otherTop, otherWide]) => Math.abs(left - otherLeft) < wide + otherWide && Math.abs(top - otherTop) < 15;
      if (taken.some(covers)) continue;
      taken.push([left, top, wide]);
      this.write(context, text, left, top, "middle", isMarked ? "ink" : "soft");
    }
  }

  /** A text with a rim in the colour of the ground. */
  write(context, text, x, y, baseline, colour) {
    context.textAlign = "center";
    context.textBaseline = baseline;
    context.lineWidth = 4;
    context.lineJoin = "round";
    context.strokeStyle = css("paper", 0.85);
    context.strokeText(text, x, y);
    context.fillStyle = css(colour);
    context.fillText(text, x, y);
  }

  drawMeans(context) {
    const names = [...this.plane.codes.map(nameOf), "mean of all"];
    context.font = context.font.replace(/^\d+px/, "600 12px");
    this.plane.corners.forEach((corner, i) => {
      const [x, y] = this.zoom.outside(...this.inBox(...corner));
      this.write(context, cut(context, names[i], 150), x, y - 9, "bottom", "ink");
      for (const [colour, wide] of [["paper", 5], ["ink", 2]]) {
        context.strokeStyle = css(colour);
        context.lineWidth = wide;
        context.beginPath();
        context.moveTo(x - 6, y);
        context.lineTo(x + 6, y);
        context.moveTo(x, y - 6);
        context.lineTo(x, y + 6);
        context.stroke();
      }
    });
  }

  /** An image with lines to its nearest images, so far as they are on the map. */
  drawNear(context, place, size) {
    const [x, y] = this.at(place);
    context.strokeStyle = css("ink");
    context.lineWidth = 1;
    for (const number of this.nearest(place).numbers) {
      const other = this.places.get(number);
      if (other === undefined) continue;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(...this.at(other));
      context.stroke();
    }
    context.lineWidth = 2;
    context.beginPath();
    context.arc(x, y, size + 3, 0, 2 * Math.PI);
    context.stroke();
  }

  nearest(place) {
    this.neighbours ??= decoded(this.data.neighbours);
    this.distances ??= decoded(this.data.distances);
    const each = this.neighbours.length / this.rows.length;
    const part = (values) => [...values.slice(place * each, (place + 1) * each)];
    return { numbers: part(this.neighbours), distances: part(this.distances) };
  }

  card(place, isKept = false) {
    return imageCard(this.rows[place], this.nearest(place), isKept);
  }

  /** The image for which a measure of its place on the canvas is least. */
  least(measure) {
    let [best, found] = [Infinity, null];
    for (let place = 0; place < this.rows.length; place++) {
      const value = measure(...this.at(place), place);
      if (value < best) [best, found] = [value, place];
    }
    return found;
  }

  imageAt(x, y) {
    return this.least((left, top) => {
      const far = Math.hypot(left - x, top - y);
      return far <= NEAR ? far : Infinity;
    });
  }

  choose(place) {
    this.current = place;
    hover(...(place === null ? [] : [this.labels[place]]));
    this.redraw();
  }

  /** Keeps the card of an image in view: over the map, on the side where the image is not; below it on narrow screens. */
  keep(place) {
    const wasKept = this.kept !== null;
    this.kept = place;
    this.redraw();
    if (place === null) {
      this.details.replaceChildren();
      return wasKept;
    }
    const close = button("×", () => this.keep(null), { class: "close", "aria-label": "Close" });
    this.details.replaceChildren(this.card(place, true), close);
    const { width } = this.zoom.box;
    const [left] = this.at(place);
    this.details.classList.toggle("at-left", left > width / 2);
    this.details.style.setProperty("--room", `${Math.max(left, width - left) - 24}px`);
    this.details.scrollIntoView({ block: "nearest" });
    return true;
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointermove", (event) => {
      event.stopPropagation();
      const place = this.imageAt(event.offsetX, event.offsetY);
      if (place !== this.current) this.choose(place);
      if (place === null) hideTooltip();
      else showTooltip(event.clientX, event.clientY, this.card(place));
    });
    canvas.addEventListener("pointerleave", () => {
      this.choose(null);
      hideTooltip();
    });
    canvas.addEventListener("click", (event) => {
      if (this.zoom.wasMoved) return;
      this.keep(this.imageAt(event.offsetX, event.offsetY));
      hideTooltip();
    });
    canvas.addEventListener("blur", () => this.choose(null));
    canvas.addEventListener("keydown", (event) => this.onKey(event));
    onEscape(() => this.keep(null));
  }

  onKey(event) {
    const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    if (step) this.walk(...step);
    else if (event.key === "Enter" && this.current !== null) pinClass(this.labels[this.current]);
    else if (!this.zoom.onKey(event.key)) return;
    event.preventDefault();
  }

  /** To the next image in a direction; first to the one in the middle. */
  walk(right, down) {
    const { width, height } = this.zoom.box;
    let next;
    if (this.current === null) next = this.least((x, y) => Math.hypot(x - width / 2, y - height / 2));
    else {
      const [fromX, fromY] = this.at(this.current);
      next = this.least((x, y, place) => {
        const ahead = (x - fromX) * right + (y - fromY) * down;
        const aside = Math.abs((x - fromX) * down) + Math.abs((y - fromY) * right);
        return place === this.current || ahead <= 0 || aside > ahead ? Infinity : ahead + aside;
      });
    }
    if (next === null) return;
    this.choose(next);
    this.keep(next);
  }
}

/** Buttons that show a plane in the first map. */
function startPlanes(maps) {
  for (const shower of document.querySelectorAll("button[data-plane]")) {
    const codes = shower.dataset.plane.split(",").map(Number);
    const map = maps.find((one) => codes.every((code) => one.data.codes.includes(code)));
    shower.hidden = !map;
    shower.addEventListener("click", () => {
      map.showPlane(codes);
      map.figure.scrollIntoView({ block: "start", behavior: "smooth" });
    });
  }
}
