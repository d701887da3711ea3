/* A canvas that is sharp on every screen, with zoom and shift. */

const FINE = 3; // pixels of a canvas for each CSS pixel, in print
let isPrinting = false;

/** Sets the size of a canvas in CSS pixels and returns its context, whose unit is the CSS pixel. */
function sized(canvas, width, height) {
  const ratio = Math.max(devicePixelRatio || 1, isPrinting ? FINE : 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = `12px ${getComputedStyle(canvas).fontFamily}`;
  return context;
}

/** What part of a drawing is seen: `box` is where it stands on the canvas; without zoom, all of it is seen. */
class Zoom {
  constructor(canvas, redraw) {
    this.canvas = canvas;
    this.redraw = redraw;
    this.box = { left: 0, top: 0, width: 1, height: 1 };
    this.reset();
    this.listen();
  }

  reset() {
    [this.scale, this.x, this.y] = [1, 0, 0];
    this.changed();
  }

  /** Zooms about a point of the canvas, by default the middle. */
  by(factor, x = this.box.left + this.box.width / 2, y = this.box.top + this.box.height / 2) {
    const [inX, inY] = this.inside(x, y);
    this.scale = Math.min(Math.max(this.scale * factor, 1), 64);
    this.x = inX - (x - this.box.left) / this.scale;
    this.y = inY - (y - this.box.top) / this.scale;
    this.changed();
  }

  shift(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.changed();
  }

  changed() {
    const { width, height } = this.box;
    this.x = Math.min(Math.max(this.x, 0), width - width / this.scale);
    this.y = Math.min(Math.max(this.y, 0), height - height / this.scale);
    this.canvas.style.touchAction = this.scale > 1 ? "none" : "pan-x pan-y";
    this.redraw();
  }

  /** From the canvas to the drawing at zoom 1, and back. */
  inside(x, y) {
    return [(x - this.box.left) / this.scale + this.x, (y - this.box.top) / this.scale + this.y];
  }

  outside(x, y) {
    return [(x - this.x) * this.scale + this.box.left, (y - this.y) * this.scale + this.box.top];
  }

  listen() {
    const { canvas } = this;
    let last = null;
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return; // the page scrolls
        event.preventDefault();
        this.by(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
      },
      { passive: false },
    );
    canvas.addEventListener("pointerdown", (event) => {
      last = this.scale > 1 ? [event.clientX, event.clientY] : null;
      this.wasMoved = false;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last || !event.buttons) return;
      const [dx, dy] = [last[0] - event.clientX, last[1] - event.clientY];
      if (Math.abs(dx) + Math.abs(dy) > 3 || this.wasMoved) {
        this.wasMoved = true;
        last = [event.clientX, event.clientY];
        this.shift(dx / this.scale, dy / this.scale);
      }
    });
    window.addEventListener("pointerup", () => (last = null));
  }

  tools() {
    return [
      button("+", () => this.by(1.6), { "aria-label": "Zoom in", title: "Zoom in" }),
      button("−", () => this.by(1 / 1.6), { "aria-label": "Zoom out", title: "Zoom out" }),
      button("Reset", () => this.reset(), { "aria-label": "Show all", title: "Show all" }),
    ];
  }

  onKey(key) {
    if (key === "+" || key === "=") this.by(1.6);
    else if (key === "-") this.by(1 / 1.6);
    else if (key === "0") this.reset();
    else return false;
    return true;
  }
}

/** Redraws when the width of the parent changes. */
function followWidth(canvas, redraw) {
  let width = 0;
  new ResizeObserver(() => {
    if (canvas.parentElement.clientWidth === width) return;
    width = canvas.parentElement.clientWidth;
    redraw();
  }).observe(canvas.parentElement);
}

/** A text cut to a width. Isolates keep its direction to itself. */
function cut(context, text, width) {
  const isolated = (part) => `\u2068${part}\u2069`;
  if (context.measureText(text).width <= width) return isolated(text);
  const letters = [...text];
  let [low, high] = [0, letters.length];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (context.measureText(`${letters.slice(0, middle).join("")}…`).width <= width) low = middle;
    else high = middle - 1;
  }
  return isolated(`${letters.slice(0, low).join("")}…`);
}
