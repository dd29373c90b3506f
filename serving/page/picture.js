import { bytes, count, rgb, unzipped } from "./masks.js";

const MOST_ZOOM = 64;

/** A picture under its mask, to zoom and pan. */
export class PictureViewer {
  /**
   * @param {HTMLElement} place that it fills.
   * @param {string[]} colours of the classes.
   * @param {(index: number) => void} select called with the object that was clicked, or -1.
   */
  constructor(place, colours, select) {
    this.colours = colours.map(rgb);
    this.select = select;
    this.objects = [];
    this.root = document.createElement("div");
    this.root.className = "picture";
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "img");
    this.layers = document.createElement("div");
    this.layers.className = "layers";
    this.image = document.createElement("canvas");
    this.mask = document.createElement("canvas");
    this.mask.id = "mask";
    this.outline = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.layers.append(this.image, this.mask, this.outline);
    this.root.append(this.layers);
    place.replaceChildren(this.root);
    this.resizing = new ResizeObserver(() => this.fit());
    this.resizing.observe(this.root);
    this.#listen();
  }

  /** Shows an answer's picture; returns {areas, probabilities} of its classes. */
  async open(file, view, names) {
    const image = await createImageBitmap(new Blob([bytes(view.image)]));
    for (const layer of [this.image, this.mask]) [layer.width, layer.height] = [image.width, image.height];
    this.outline.setAttribute("width", image.width);
    this.outline.setAttribute("height", image.height);
    this.image.getContext("2d").drawImage(image, 0, 0);
    this.root.setAttribute("aria-label", `${file.name}, ${image.width} by ${image.height} pixels, with what was found`);
    this.fit();
    const of = (layers) => Promise.all(names.map((name) => unzipped(layers[name])));
    return { areas: await of(view.areas), probabilities: await of(view.probabilities) };
  }

  /** Paints the areas of the classes that are visible, the smallest over the others. */
  paint(areas, visible) {
    const painted = new ImageData(this.mask.width, this.mask.height);
    const order = areas.map((area, index) => [count(area), index]).filter(([, index]) => visible[index]);
    for (const [, index] of order.sort((first, second) => second[0] - first[0])) {
      const [red, green, blue] = this.colours[index];
      const words = new Uint32Array(painted.data.buffer);
      const word = new Uint32Array(new Uint8ClampedArray([red, green, blue, 255]).buffer)[0];
      areas[index].forEach((value, pixel) => {
        if (value) words[pixel] = word;
      });
    }
    this.mask.getContext("2d").putImageData(painted, 0, 0);
  }

  /** Takes an opacity from 0 to 1. */
  setOpacity(opacity) {
    this.mask.style.opacity = opacity;
  }

  /** Takes objects, to be found by a click: those of which `isShown` is true, of several the last. */
  setObjects(objects, isShown) {
    this.objects = objects;
    this.isShown = isShown;
    this.highlight(-1);
  }

  /** Outlines an object; -1: none. */
  highlight(index) {
    this.outline.replaceChildren();
    if (index < 0) return;
    for (const name of ["around", "edge"]) {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", drawing(this.objects[index]));
      path.setAttribute("fill-rule", "evenodd");
      path.setAttribute("class", name);
      this.outline.append(path);
    }
    this.#reveal(this.objects[index].bbox);
  }

  /** Shows the whole picture. */
  fit() {
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!this.image.width || !width) return;
    this.scale = Math.min(width / this.image.width, height / this.image.height);
    this.least = this.scale / 2;
    this.x = (width - this.image.width * this.scale) / 2;
    this.y = (height - this.image.height * this.scale) / 2;
    this.#place();
  }

  /** Zooms by a factor around a point of the view, its middle if there is none. */
  zoom(factor, x = this.root.clientWidth / 2, y = this.root.clientHeight / 2) {
    const scale = Math.min(Math.max(this.scale * factor, this.least), Math.max(MOST_ZOOM, this.least));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#place();
  }

  /** Lets go of all it holds. */
  close() {
    this.resizing.disconnect();
    this.root.remove();
  }

  #place() {
    this.layers.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.layers.classList.toggle("near", this.scale >= 2);
  }

  /** Moves a box [x, y, width, height] of the picture into view. */
  #reveal([left, top, width, height]) {
    const x = this.x + (left + width / 2) * this.scale, y = this.y + (top + height / 2) * this.scale;
    if (x < 0 || y < 0 || x > this.root.clientWidth || y > this.root.clientHeight) {
      this.x += this.root.clientWidth / 2 - x;
      this.y += this.root.clientHeight / 2 - y;
      this.#place();
    }
  }

  #listen() {
    const fingers = new Map();
    let moved = 0;
    const at = (event) => {
      const box = this.root.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const spread = () => {
      const [[ax, ay], [bx, by]] = [...fingers.values()];
      return [Math.hypot(ax - bx, ay - by), (ax + bx) / 2, (ay + by) / 2];
    };
    this.root.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.root.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, at(event));
      moved = fingers.size > 1 ? Infinity : 0;
      this.root.classList.add("dragged");
    });
    this.root.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return;
      const before = fingers.size === 2 ? spread() : null;
      const [oldX, oldY] = fingers.get(event.pointerId);
      const [x, y] = at(event);
      fingers.set(event.pointerId, [x, y]);
      moved += Math.hypot(x - oldX, y - oldY);
      if (before) {
        const [distance, middleX, middleY] = spread();
        this.x += middleX - before[1];
        this.y += middleY - before[2];
        this.zoom(distance / Math.max(before[0], 1), middleX, middleY);
      } else if (fingers.size === 1) {
        this.x += x - oldX;
        this.y += y - oldY;
        this.#place();
      }
    });
    const lift = (event) => {
      fingers.delete(event.pointerId);
      if (!fingers.size) this.root.classList.remove("dragged");
      if (event.type === "pointerup" && moved < 4) this.#click(...at(event));
    };
    this.root.addEventListener("pointerup", lift);
    this.root.addEventListener("pointercancel", lift);
    this.root.addEventListener("lostpointercapture", lift);
    this.root.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...at(event));
    }, { passive: false });
    this.root.addEventListener("keydown", (event) => this.#press(event));
  }

  #press(event) {
    const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.key in steps) {
      this.x += steps[event.key][0];
      this.y += steps[event.key][1];
      this.#place();
    } else if (event.key === "+" || event.key === "=") this.zoom(1.4);
    else if (event.key === "-") this.zoom(1 / 1.4);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }

  #click(viewX, viewY) {
    const x = (viewX - this.x) / this.scale, y = (viewY - this.y) / this.scale;
    const context = this.mask.getContext("2d");
    const hit = this.objects.findLastIndex((one) => {
      if (!this.isShown(one)) return false;
      const [left, top, width, height] = one.bbox;
      const inside = x >= left && y >= top && x < left + width && y < top + height;
      return inside && context.isPointInPath(new Path2D(drawing(one)), x, y, "evenodd");
    });
    this.select(hit);
  }
}

/** Returns an object's polygons as a path of SVG. */
function drawing(one) {
  return one.polygon.flat().map((ring) => `M${ring.map((point) => point.join(" ")).join("L")}Z`).join("");
}
