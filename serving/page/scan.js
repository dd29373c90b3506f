import { rgb, voxels } from "./masks.js";

const MOST_ZOOM = 16;
const LIBRARY = "./vendor/niivue-0.69.0.umd.js";

/** Windows that radiologists look through: lowest and highest Hounsfield unit. */
export const WINDOWS = {
  lungs: [-1350, 150],
  "soft tissue": [-160, 240],
  bones: [-500, 1300],
  brain: [0, 80],
  "all values": null,
};

export const PLANES = ["axial", "coronal", "sagittal", "all three"];

/** A scan under its mask, by NiiVue. */
export class ScanViewer {
  /**
   * @param {HTMLElement} place that it fills.
   * @param {string[]} colours of the classes.
   * @param {(slice: number) => void} follow called when another axial slice is looked at.
   */
  constructor(place, colours, follow) {
    this.colours = colours.map(rgb);
    this.follow = follow;
    this.root = document.createElement("div");
    this.root.className = "scan";
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.tabIndex = 0;
    this.root.append(this.canvas);
    place.replaceChildren(this.root);
    // Before NiiVue, whose own keys would change what the controls beside it say.
    for (const name of ["keydown", "keyup"]) this.root.addEventListener(name, (event) => this.#press(event), true);
  }

  /** Shows a file and its mask; returns {areas, probabilities} of the classes. */
  async open(file, view, names) {
    if (!document.createElement("canvas").getContext("webgl2")) {
      throw new Error("This browser cannot show volumes: it has no WebGL 2. The server's API answers without it.");
    }
    // It comes with no module of its own: loaded, it is a global.
    await import(LIBRARY);
    const { Niivue, NVImage } = globalThis.niivue;
    this.niivue = new Niivue({
      backColor: [0.06, 0.075, 0.085, 1],
      crosshairColor: [0.5, 0.75, 1, 0.6],
      dragAndDropEnabled: false,
      isNearestInterpolation: true,
      isRadiologicalConvention: true,
      loadingText: "",
      logLevel: "silent",
      multiplanarShowRender: 0,
      showLegend: false,
    });
    await this.niivue.attachToCanvas(this.canvas);
    const signature = new Uint8Array(await file.slice(0, 2).arrayBuffer());
    const ending = signature[0] === 0x1f && signature[1] === 0x8b ? "nii.gz" : "nii";
    // NiiVue goes by the name's ending.
    const scan = await NVImage.loadFromFile({ file: new File([file], `scan.${ending}`), name: `scan.${ending}` });
    const first = view.areas[names[0]];
    const mask = await NVImage.loadFromBase64({ base64: first, name: "mask.nii.gz", opacity: 0.55 });
    const [red, green, blue] = [0, 1, 2].map((channel) => [0, ...this.colours.map((colour) => colour[channel])]);
    const alpha = red.map((_, index) => (index ? 255 : 0));
    mask.setColormapLabel({ R: red, G: green, B: blue, A: alpha, I: red.map((_, index) => index) });
    // The voxels are the same; of headers that contradict themselves NiiVue and the server may believe different parts.
    mask.hdr.affine = scan.hdr.affine.map((row) => [...row]);
    mask.calculateRAS();
    this.niivue.addVolume(scan);
    this.niivue.addVolume(mask);
    this.slices = scan.dimsRAS[3];
    this.canvas.setAttribute("aria-label", `${file.name}, ${this.slices} slices, with what was found`);
    this.setPlanes(PLANES[0]);
    this.niivue.onLocationChange = () => {
      const slice = Math.min(Math.floor(this.niivue.scene.crosshairPos[2] * this.slices), this.slices - 1);
      if (slice !== this.slice) this.follow((this.slice = slice));
    };
    const of = (layers) => Promise.all(names.map((name) => voxels(layers[name])));
    return { areas: await of(view.areas), probabilities: await of(view.probabilities) };
  }

  /** Paints the areas of the classes that are visible, the later ones over the others. */
  paint(areas, visible) {
    const mask = this.niivue.volumes[1];
    const labels = new Uint8Array(areas[0].length);
    areas.forEach((area, index) => {
      if (!visible[index]) return;
      for (let voxel = 0; voxel < labels.length; voxel += 1) if (area[voxel]) labels[voxel] = index + 1;
    });
    mask.img = labels;
    this.#refresh(1);
  }

  /** Takes an opacity from 0 to 1. */
  setOpacity(opacity) {
    this.niivue.volumes[1].opacity = opacity;
    cancelAnimationFrame(this.asked);
    this.asked = requestAnimationFrame(() => this.#refresh(1));
  }

  /** Scans have no objects. */
  setObjects() {}

  /** Nor is one highlighted. */
  highlight() {}

  /** Shows an axial slice, 0 being the lowest. */
  goTo(slice) {
    this.slice = slice;
    this.niivue.scene.crosshairPos[2] = (slice + 0.5) / this.slices;
    this.niivue.drawScene();
  }

  /** Takes a name of WINDOWS. */
  setWindow(name) {
    const scan = this.niivue.volumes[0];
    [scan.cal_min, scan.cal_max] = WINDOWS[name] ?? [scan.global_min, scan.global_max];
    this.#refresh(0);
  }

  /** Takes one of PLANES. */
  setPlanes(name) {
    const { sliceTypeAxial, sliceTypeCoronal, sliceTypeSagittal, sliceTypeMultiplanar } = this.niivue;
    const types = [sliceTypeAxial, sliceTypeCoronal, sliceTypeSagittal, sliceTypeMultiplanar];
    // In one plane the cross would only lie over what is looked at.
    this.niivue.setCrosshairWidth(name === PLANES.at(-1) ? 0.5 : 0);
    this.niivue.setSliceType(types[PLANES.indexOf(name)]);
  }

  /** Zooms by a factor around the cross. */
  zoom(factor) {
    const pan = this.niivue.scene.pan2Dxyzmm, cross = this.niivue.frac2mm(this.niivue.scene.crosshairPos);
    const scale = Math.min(Math.max(pan[3] * factor, 0.5), MOST_ZOOM);
    // NiiVue zooms around the scanner's origin, which may lie in a corner.
    const moved = [0, 1, 2].map((axis) => pan[axis] + cross[axis] * (pan[3] - scale));
    this.niivue.setPan2Dxyzmm([...moved, scale]);
  }

  /** Shows whole slices. */
  fit() {
    this.niivue.setPan2Dxyzmm([0, 0, 0, 1]);
  }

  /** Lets go of all it holds. */
  close() {
    cancelAnimationFrame(this.asked);
    this.niivue?.cleanup();
    this.niivue?.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    this.root.remove();
  }

  /** Brings a volume to the GPU again. */
  #refresh(layer) {
    // NiiVue 0.69 makes a new texture of the mask each time, and leaves the old one there.
    if (layer === 1) this.niivue.gl.deleteTexture(this.niivue.overlayTexture);
    this.niivue.refreshLayers(this.niivue.volumes[layer], layer);
    this.niivue.drawScene();
  }

  #press(event) {
    if (event.key === "Tab") return;
    event.stopPropagation();
    const does = {
      "+": () => this.zoom(1.4),
      "=": () => this.zoom(1.4),
      "-": () => this.zoom(1 / 1.4),
      0: () => this.fit(),
      PageUp: () => this.#step(1),
      PageDown: () => this.#step(-1),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    if (event.type === "keydown") does();
  }

  #step(slices) {
    const slice = Math.min(Math.max(this.slice + slices, 0), this.slices - 1);
    this.goTo(slice);
    this.follow(slice);
  }
}
