/* A heat map of pairs of classes: distances, or shares of a confusion matrix. */

const LABEL_ROOM = 9; // pixels that a cell needs for the name of its class
const VALUE_ROOM = 30; // and for its value

/** How values become colours: `colour(value, isDiagonal)` and the bars of the legend. */
function scaleOf(kind, values, count) {
  const others = values.filter((value, i) => Number.isFinite(value) && i % (count + 1));
  others.sort();
  const most = others.length ? others[others.length - 1] : 1;
  if (kind === "share") {
    const largest = most > 0 ? most : 1;
    const root = (share) => Math.sqrt(share / largest); // so that rare mistakes are seen
    return {
      colour: (value, isDiagonal) => (isDiagonal ? rampAt("share", value) : value > 0 ? rampAt("mistake", root(value)) : rgb("paper")),
      bars: [
        ["share", "right", ["0%", "50%", "100%"]],
        ["mistake", "mistaken", ["0%", percent(largest / 4), percent(largest)]],
      ],
    };
  }
  const low = others.length ? others[0] : 0;
  const high = others.length ? others[Math.floor(0.98 * (others.length - 1))] : 1;
  const place = (value) => (high > low ? (value - low) / (high - low) : 0);
  return {
    colour: (value, isDiagonal) => (isDiagonal ? rgb("ground") : rampAt("near", 1 - place(value))),
    bars: [["near", "", [`${most > high ? "≥ " : ""}${shown(high)}`, shown((low + high) / 2), shown(low)]]],
  };
}

class MatrixView {
  constructor(figure, { kind, codes, values }) {
    Object.assign(this, { figure, kind, codes, count: codes.length, values: decoded(values) });
    this.canvas = figure.querySelector("canvas");
    this.says = figure.querySelector(".live");
    this.cell = null; // [row, column] below the pointer or chosen by keys
    this.places = new Map(codes.map((code, place) => [code, place]));
    this.redraw = oncePerFrame(() => this.draw());
    this.zoom = new Zoom(this.canvas, this.redraw);
    figure.querySelector(".tools").append(...this.zoom.tools());
    this.paint();
    this.listen();
    followWidth(this.canvas, this.redraw);
    highlight.listeners.push(this.redraw);
    themeListeners.push(() => {
      this.paint();
      this.draw();
    });
  }

  value(row, column) {
    return this.values[row * this.count + column];
  }

  format(value) {
    return this.kind === "share" ? percent(value) : shown(value);
  }

  /** Paints all cells, one pixel each, and the legend. */
  paint() {
    const { count, values } = this;
    const scale = scaleOf(this.kind, values, count);
    const cells = new ImageData(count, count);
    const unknown = rgb("line");
    for (let i = 0; i < values.length; i++) {
      const known = Number.isFinite(values[i]) ? scale.colour(values[i], i % (count + 1) === 0) : unknown;
      cells.data.set([...known, 255], 4 * i);
    }
    this.cells = element("canvas", { width: count, height: count });
    this.cells.getContext("2d").putImageData(cells, 0, 0);
    this.colours = cells.data;
    const bars = scale.bars.map(([ramp, name, ticks]) => {
      const bar = element("span", { class: "ramp", style: `background: ${rampGradient(ramp)}` });
      const words = ticks.map((tick) => element("span", {}, tick));
      return element("span", { class: "scale" }, name, element("span", { class: "scale-bar" }, bar, element("span", { class: "ticks" }, ...words)));
    });
    this.figure.querySelector(".scales").replaceChildren(...bars);
  }

  draw() {
    const room = this.canvas.parentElement.clientWidth;
    const forNames = Math.min(room * 0.28, 150, this.longestName() + 12);
    const whole = Math.max(Math.min(room - 1, forNames + 660), 120); // with the names, or without
    const hasNames = ((whole - forNames) / this.count) * this.zoom.scale >= LABEL_ROOM;
    const margin = hasNames ? forNames : 1;
    const side = whole - margin;
    this.figure.querySelector(".names-hint").hidden = hasNames;
    const context = sized(this.canvas, whole + 1, whole + 1);
    const { box } = this.zoom;
    if (box.width !== side) {
      const change = side / box.width;
      Object.assign(box, { left: margin, top: margin, width: side, height: side });
      this.zoom.shift(this.zoom.x * (change - 1), this.zoom.y * (change - 1)); // what is seen stays
    }
    this.size = (side / this.count) * this.zoom.scale; // of a cell
    const [left, top] = this.zoom.outside(0, 0);
    context.save();
    context.beginPath();
    context.rect(box.left, box.top, side, side);
    context.clip();
    context.imageSmoothingEnabled = this.size < 1; // cells smaller than a pixel are averaged
    context.imageSmoothingQuality = "high";
    context.drawImage(this.cells, left, top, this.size * this.count, this.size * this.count);
    if (this.size >= VALUE_ROOM) this.drawValues(context, left, top);
    this.drawLit(context, left, top);
    context.restore();
    context.strokeStyle = css("line");
    context.strokeRect(box.left - 0.5, box.top - 0.5, side + 1, side + 1);
    this.drawNames(context, left, top, hasNames);
  }

  /** The width of the longest name, in pixels. */
  longestName() {
    if (!this.longest) {
      const context = this.canvas.getContext("2d");
      context.font = `600 11px ${getComputedStyle(this.canvas).fontFamily}`;
      this.longest = Math.max(...this.codes.map((code) => context.measureText(nameOf(code)).width));
    }
    return this.longest;
  }

  /** The first and last row (or column) that is seen from an offset on. */
  seen(offset, start) {
    const { width } = this.zoom.box;
    return [Math.max(Math.floor((start - offset) / this.size), 0), Math.min(Math.ceil((start + width - offset) / this.size), this.count)];
  }

  drawValues(context, left, top) {
    const { box } = this.zoom;
    const [firstRow, lastRow] = this.seen(top, box.top);
    const [firstColumn, lastColumn] = this.seen(left, box.left);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = context.font.replace(/^\d+px/, "11px");
    for (let row = firstRow; row < lastRow; row++) {
      for (let column = firstColumn; column < lastColumn; column++) {
        const value = this.value(row, column);
        if ((row === column && this.kind === "distance") || (this.kind === "share" && !value)) continue;
        const at = 4 * (row * this.count + column);
        context.fillStyle = inkOn(this.colours.slice(at, at + 3));
        const text = this.kind === "share" ? (100 * value).toFixed(value < 0.0995 ? 1 : 0) : shown(value);
        context.fillText(Number.isNaN(value) ? "?" : text, left + (column + 0.5) * this.size, top + (row + 0.5) * this.size);
      }
    }
  }

  drawLit(context, left, top) {
    const { size, count } = this;
    for (const [code, place] of this.places) {
      if (!isLit(code)) continue;
      const slot = slotOf(code);
      context.strokeStyle = css(slot === null ? "accent" : `c${slot}`);
      context.lineWidth = 2;
      context.strokeRect(left, top + place * size, count * size, size);
      context.strokeRect(left + place * size, top, size, count * size);
    }
    if (this.cell) {
      const [row, column] = this.cell;
      context.strokeStyle = css("ink");
      context.lineWidth = 2;
      context.strokeRect(left + column * size, top + row * size, size, size);
    }
  }

  /** Names in the margin; without one, those of highlighted classes alone, over the cells. */
  drawNames(context, left, top, hasNames) {
    const { box } = this.zoom;
    const rim = hasNames ? null : css("paper", 0.9);
    const [edge, room] = hasNames ? [box.left - 6, box.left - 12] : [box.left + 4, box.width / 2];
    const inCell = (place, axis) => this.cell !== null && this.cell[axis] === place;
    context.textBaseline = "middle";
    const write = (place, axis, offset, start) => {
      const middle = offset + (place + 0.5) * this.size;
      const code = this.codes[place];
      const isMarked = isLit(code) || inCell(place, axis);
      if (middle < start || middle > start + box.width || !(hasNames || isMarked)) return;
      context.font = `${isMarked ? "600 " : ""}${this.size < 11 ? 9 : this.size < 13 ? 10 : 11}px ${getComputedStyle(this.canvas).fontFamily}`;
      context.fillStyle = css(isMarked ? "ink" : "soft");
      const text = cut(context, nameOf(code), room);
      context.save();
      context.translate(...(axis === 0 ? [edge, middle] : [middle, edge]));
      if (axis === 1) context.rotate(-Math.PI / 2);
      context.textAlign = (axis === 0) === hasNames ? "right" : "left";
      if (rim) Object.assign(context, { strokeStyle: rim, lineWidth: 4, lineJoin: "round" }).strokeText(text, 0, 0);
      context.fillText(text, 0, 0);
      context.restore();
    };
    for (let place = 0; place < this.count; place++) {
      write(place, 0, top, box.top);
      write(place, 1, left, box.left);
    }
  }

  cellAt(x, y) {
    const { left, top, width } = this.zoom.box;
    if (x < left || y < top || x >= left + width || y >= top + width) return null;
    const [inX, inY] = this.zoom.inside(x, y);
    const place = (along) => Math.min(Math.floor((along / width) * this.count), this.count - 1);
    return [place(inY), place(inX)];
  }

  facts([row, column]) {
    const [one, other] = [this.codes[row], this.codes[column]];
    const value = this.format(this.value(row, column));
    const named = (code) => [element("bdi", {}, nameOf(code)), element("span", { class: "soft" }, ` (n = ${countOf(code)})`)];
    const pair = this.kind === "share" ? ["given ", ...named(one), ", predicted ", ...named(other)] : [...named(one), " and ", ...named(other)];
    return [element("strong", {}, row === column && this.kind === "distance" ? "the same class" : value), element("div", {}, ...pair)];
  }

  choose(cell, isSpoken) {
    this.cell = cell;
    hover(...new Set((cell ?? []).map((place) => this.codes[place])));
    if (isSpoken && cell) this.says.replaceChildren(...this.facts(cell));
    this.redraw();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointermove", (event) => {
      const cell = this.cellAt(event.offsetX, event.offsetY);
      this.choose(cell, false);
      if (cell) showTooltip(event.clientX, event.clientY, ...this.facts(cell));
      else hideTooltip();
    });
    canvas.addEventListener("pointerleave", () => {
      this.choose(null, false);
      hideTooltip();
    });
    canvas.addEventListener("click", (event) => {
      const cell = this.cellAt(event.offsetX, event.offsetY);
      if (!cell || this.zoom.wasMoved) return;
      this.choose(cell, true);
      this.pin(cell);
    });
    canvas.addEventListener("blur", () => this.choose(null, false));
    canvas.addEventListener("keydown", (event) => this.onKey(event));
  }

  pin(cell) {
    pinOnly([...new Set(cell.map((place) => this.codes[place]))]);
  }

  onKey(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step) {
      const inside = (place) => Math.min(Math.max(place, 0), this.count - 1);
      this.choose(this.cell ? this.cell.map((place, axis) => inside(place + step[axis])) : [0, 0], true);
      this.follow();
    } else if (event.key === "Enter" && this.cell) this.pin(this.cell);
    else if (!this.zoom.onKey(event.key)) return;
    event.preventDefault();
  }

  /** Shifts what is seen so that the chosen cell is in it. */
  follow() {
    const { box, scale } = this.zoom;
    const size = box.width / this.count;
    const room = box.width / scale;
    const inside = (start, place) => Math.min(Math.max(start, (place + 1) * size - room), place * size);
    const [row, column] = this.cell;
    this.zoom.shift(inside(this.zoom.x, column) - this.zoom.x, inside(this.zoom.y, row) - this.zoom.y);
  }
}
