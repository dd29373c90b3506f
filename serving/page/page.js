import { decide, LEVELS } from "./masks.js";
import { PictureViewer } from "./picture.js";
import { PLANES, ScanViewer, WINDOWS } from "./scan.js";
import { Server } from "./server.js";

const MOST_LISTED = 300;
/** Milliseconds from the last move of the threshold to the question which objects there are then. */
const SETTLED = 250;

const $ = (id) => document.getElementById(id);
const server = new Server(askKey);

/** What the server says of its model. */
let model = null;
/** Resolves when it has. */
let modelKnown = null;
/** What is looked at: {file, answer, areas, probabilities, viewer}; null: nothing yet. */
let shown = null;
/** Of the threshold, 1 to 255; null: the masks are as the run makes them. */
let level = null;
let visible = [];
let opening = new AbortController();
let counting = new AbortController();

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function chip(index) {
  const made = element("span", { className: "chip" });
  made.style.background = model.colours[index];
  return made;
}

const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const percent = (share) => `${number(100 * share, share < 0.1 ? 1 : 0)} %`;

function tellError(error) {
  if (error?.name === "AbortError") return;
  console.info(error);
  const reason = error?.message ?? String(error);
  $("error").textContent = reason.charAt(0).toUpperCase() + reason.slice(1);
  $("error").hidden = false;
}

/** Returns the key that is typed in, "" where none is; again: the last one was wrong. */
async function askKey(again) {
  $("key-error").hidden = !again;
  $("key").value = $("key-box").returnValue = "";
  $("key-box").showModal();
  await new Promise((done) => $("key-box").addEventListener("close", done, { once: true }));
  return $("key-box").returnValue === "given" ? $("key").value : "";
}

/** Predicts a file, and shows what was found; what was begun before is given up. */
async function open(find) {
  giveUp();
  const { signal } = (opening = new AbortController());
  let viewer = null;
  $("error").hidden = true;
  try {
    await modelKnown;
    const file = await find(signal);
    if (file.size > model.limits.max_body_mib * 2 ** 20) {
      throw new Error(`${file.name} has ${number(file.size / 2 ** 20)} MiB, the server takes ${model.limits.max_body_mib}.`);
    }
    tellBusy(`Looking at ${file.name} …`);
    const answer = await (await server.predict(file, [["answer", "view"]], signal)).json();
    signal.throwIfAborted();
    close();
    $("view").hidden = false; // a viewer needs its size
    const isScan = answer.image.slices !== undefined;
    viewer = isScan
      ? new ScanViewer($("view"), model.colours, showSlice)
      : new PictureViewer($("view"), model.colours, selectObject);
    const layers = await viewer.open(file, answer.view, model.classes);
    signal.throwIfAborted();
    delete answer.view;
    shown = { file, answer, viewer, slices: answer.slices, objects: [], ...layers };
    level = null;
    visible = model.classes.map((_, index) => visible[index] ?? true);
    showAll(isScan);
  } catch (error) {
    if (viewer && shown?.viewer !== viewer) viewer.close();
    if (signal.aborted) return;
    if (!shown) close();
    tellError(error);
  } finally {
    if (!signal.aborted) tellBusy("");
  }
}

/** Ends what waits for the server. */
function giveUp() {
  opening.abort();
  stopCounting();
}

function stopCounting() {
  counting.abort();
  clearTimeout(setLevel.settling);
}

/** Takes the image away that is shown. */
function close() {
  stopCounting();
  shown?.viewer.close();
  shown = null;
  $("name").textContent = "";
  for (const id of ["view", "panel", "zoom", "slices"]) $(id).hidden = true;
}

function tellBusy(words) {
  $("busy").hidden = !words;
  $("busy").textContent = words;
  if (words) $("status").textContent = words;
}

function showAll(isScan) {
  $("view").hidden = $("panel").hidden = $("zoom").hidden = false;
  $("cleared").hidden = !shown.answer.cleared;
  $("name").textContent = shown.file.name;
  $("choose").textContent = "Open another …";
  $("objects-box").hidden = isScan;
  $("slices").hidden = $("scan-controls").hidden = !isScan;
  $("threshold-row").hidden = model.covers || model.gate;
  if (isScan) {
    $("slice").max = shown.viewer.slices - 1;
    const amounts = shown.slices.map((slice) => model.classes.reduce((sum, name) => sum + slice.pixels[name], 0));
    goTo(amounts.indexOf(Math.max(...amounts)));
    shown.viewer.setWindow($("window").value);
    shown.viewer.setPlanes($("planes").value);
  }
  shown.viewer.setOpacity($("opacity").value / 100);
  showThreshold();
  showFound(shown.answer);
  paint();
}

/** Paints the mask anew, as soon as the browser draws again. */
function paint() {
  cancelAnimationFrame(paint.asked);
  paint.asked = requestAnimationFrame(() => shown?.viewer.paint(areas(), visible));
}

function areas() {
  return level === null ? shown.areas : decide(shown.probabilities, level, !model.overlapping);
}

function showThreshold() {
  const chosen = model.classes.map((name) => model.steps[name]);
  const usual = chosen[0].threshold;
  if (level === null) $("threshold").value = Math.round(usual * LEVELS);
  const value = $("threshold").value / LEVELS;
  $("threshold-value").textContent = level === null && new Set(chosen.map((steps) => steps.threshold)).size > 1 ? "several" : value.toFixed(2);
  $("threshold").setAttribute("aria-valuetext", $("threshold-value").textContent);
  $("reset").hidden = level === null;
  if (model.gate) $("threshold-note").textContent = "With a gate the model's own threshold holds.";
  else if (model.covers) $("threshold-note").textContent = "Every pixel belongs to its most probable class.";
  else $("threshold-note").textContent = level === null
    ? "As the model was tuned; masks are cleaned where that helped."
    : "What is at least as probable as this, with no cleaning.";
}

/** Shows the classes with what was found of each, and the objects. */
function showFound({ classes, objects, slices }) {
  shown.slices = slices;
  const focused = document.activeElement.id;
  $("classes").replaceChildren(...model.classes.map((name, index) => {
    const found = classes[name];
    const amount = found.volume_ml === undefined ? percent(found.share) : `${number(found.volume_ml)} ml`;
    const box = element("input", { type: "checkbox", id: `class-${index}`, checked: visible[index] });
    box.addEventListener("change", () => {
      visible[index] = box.checked;
      paint();
      drawAmounts();
      listObjects();
    });
    const parts = [box, chip(index), element("span", { className: "name" }, name), element("span", { className: "amount" }, amount)];
    return element("li", {}, element("label", {}, ...parts));
  }));
  shown.objects = objects.toSorted((first, second) => second.pixels - first.pixels);
  shown.viewer.setObjects(shown.objects, (one) => visible[model.classes.indexOf(one.class)]);
  if (focused.startsWith("class-")) $(focused).focus();
  listObjects();
  drawAmounts();
  const amounts = model.classes.map((name) => `${name}: ${classes[name].objects === undefined ? `${number(classes[name].volume_ml)} millilitres` : `${number(classes[name].objects)} objects`}`);
  $("status").textContent = `Found ${amounts.join(", ")}.`;
}

function listObjects() {
  const listed = shown.objects.map((one, index) => [one, index]).filter(([one]) => visible[model.classes.indexOf(one.class)]);
  $("count").textContent = `(${number(listed.length)})`;
  $("objects").classList.remove("old");
  $("objects").replaceChildren(...listed.slice(0, MOST_LISTED).map(([one, index]) => {
    const amount = `${number(one.pixels)} px · ${percent(one.score)}`;
    const parts = [chip(model.classes.indexOf(one.class)), element("span", { className: "name" }, `${one.class} ${index + 1}`)];
    const button = element("button", { type: "button" }, ...parts, element("span", { className: "amount" }, amount));
    button.dataset.object = index;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => selectObject(button.getAttribute("aria-pressed") === "true" ? -1 : index));
    return element("li", {}, button);
  }));
  $("more").hidden = listed.length <= MOST_LISTED;
  $("more").textContent = `The ${MOST_LISTED} largest; the download has all.`;
}

function selectObject(index) {
  shown.viewer.highlight(index);
  for (const button of $("objects").querySelectorAll("button")) {
    const is = Number(button.dataset.object) === index;
    button.setAttribute("aria-pressed", is);
    if (is) button.scrollIntoView({ block: "nearest" });
  }
}

/** Takes the threshold's slider; null: as the run decides. */
function setLevel(chosen) {
  level = chosen;
  stopCounting();
  $("error").hidden = true;
  showThreshold();
  paint();
  if (level === null) showFound(shown.answer);
  else {
    shown.viewer.highlight(-1);
    $("objects").classList.add("old");
    setLevel.settling = setTimeout(() => countAgain().catch(tellError), SETTLED);
  }
}

/** Asks the server what there is at the threshold: the list is what the API says. */
async function countAgain() {
  const { signal } = (counting = new AbortController());
  const found = await (await server.predict(shown.file, [["answer", "objects"], ["threshold", level / LEVELS]], signal)).json();
  if (!signal.aborted) showFound(found);
}

function goTo(slice) {
  shown.viewer.goTo(slice);
  showSlice(slice);
}

function showSlice(slice) {
  $("slice").value = slice;
  $("slice-number").textContent = `${slice + 1} / ${Number($("slice").max) + 1}`;
  drawAmounts();
}

/** Draws how many voxels each slice has of each visible class, and where one is. */
function drawAmounts() {
  if (!shown?.slices) return;
  const canvas = $("amounts"), { slices } = shown;
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = canvas.clientHeight * devicePixelRatio;
  const context = canvas.getContext("2d"), { width, height } = canvas;
  const most = Math.max(1, ...slices.flatMap((slice) => Object.values(slice.pixels)));
  const step = width / slices.length;
  context.globalAlpha = 0.75;
  model.classes.forEach((name, index) => {
    if (!visible[index]) return;
    context.fillStyle = model.colours[index];
    slices.forEach((slice, place) => {
      const tall = (slice.pixels[name] / most) * height;
      context.fillRect(place * step, height - tall, Math.max(step, 1), tall);
    });
  });
  context.globalAlpha = 1;
  context.fillStyle = getComputedStyle(document.body).color;
  context.fillRect((Number($("slice").value) + 0.5) * step - 1, 0, 2 * devicePixelRatio, height);
}

/** Saves what the API answers, for what is shown: its threshold, its classes. */
async function download(answer) {
  const names = model.classes.filter((_, index) => visible[index]), { file } = shown;
  const threshold = level === null ? null : level / LEVELS;
  if (!names.length) throw new Error("No class is shown, so there is nothing to save.");
  // Masks of classes that overlap are files of their own.
  const files = answer === "mask" && model.overlapping ? names.map((name) => [name]) : [names];
  for (const classes of files) {
    const query = [["answer", answer], ["threshold", threshold]];
    if (classes.length < model.classes.length) query.push(...classes.map((name) => ["class", name]));
    const response = await server.predict(file, query);
    const ending = { "image/png": "png", "application/json": "json", "application/gzip": "nii.gz" }[response.headers.get("content-type")];
    const name = [file.name.replace(/\.(nii\.gz|[^.]*)$/i, ""), ...(files.length > 1 ? classes : []), answer, ending].join(".");
    await save(response, name);
  }
}

async function save(answer, name) {
  const link = element("a", { href: URL.createObjectURL(await (await answer).blob()), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function showExamples() {
  $("examples-box").hidden = !model.examples.length;
  $("try").textContent = model.examples.some((example) => example.image) ? " Try one yourself." : "";
  for (const [index, example] of model.examples.entries()) {
    const caption = `${example.rank.replace("-", " ")}: ${example.name}`;
    const image = element("img", { alt: `Image, truth, prediction and difference of ${caption}`, loading: "lazy" });
    const told = element("figcaption", {}, element("span", { title: caption }, caption));
    if (example.image) {
      const button = element("button", { type: "button" }, "Try it");
      button.setAttribute("aria-label", `Try ${caption}`);
      button.addEventListener("click", () => tryExample(index, example));
      told.append(button);
    }
    $("examples").append(element("li", {}, element("figure", {}, image, told)));
    server.ask(`v1/examples/${index}/picture`).then((answer) => answer.blob()).then((blob) => {
      image.src = URL.createObjectURL(blob);
    }).catch(tellError);
  }
}

function tryExample(index, example) {
  scrollTo({ top: 0, behavior: "smooth" });
  open(async (signal) => {
    const blob = await (await server.ask(`v1/examples/${index}/image`, { signal })).blob();
    return new File([blob], `${example.name}.png`);
  });
}

/** Shows the scores that have an interval, of the evaluation whose images are the examples. */
function showScores() {
  const name = model.examples[0]?.evaluation ?? "test", metrics = model.scores[name];
  if (!metrics) return;
  const scores = Object.keys(metrics).filter((key) => !/[/@]/.test(key) && Array.isArray(metrics[`${key}_ci95`]) && metrics[key] !== null);
  if (!scores.length) return;
  const digits = (value) => number(value, 3);
  $("judged").textContent = `Judged on ${number(metrics.num_examples)} images (evaluation “${name}”).`;
  $("scores").replaceChildren(...scores.map((key) => {
    const label = key.replaceAll("_", " ").replace(/\b(iou|f1|f2)\b/, (word) => (word === "iou" ? "IoU" : word.toUpperCase()));
    const [low, high] = metrics[`${key}_ci95`];
    const cells = [digits(metrics[key]), `${digits(low)} to ${digits(high)}`].map((text) => element("td", {}, text));
    return element("tr", {}, element("th", { scope: "row" }, label.charAt(0).toUpperCase() + label.slice(1)), ...cells);
  }));
  $("scores-box").hidden = false;
}

function openFile(file) {
  open(async () => file);
}

function listen() {
  $("file").addEventListener("change", () => {
    if ($("file").files.length) openFile($("file").files[0]);
    $("file").value = "";
  });
  // Before the viewers, which keep such events to themselves.
  const first = { capture: true };
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => $("stage").classList.toggle("over", hasFiles(event)), first);
  addEventListener("dragleave", (event) => event.relatedTarget ?? $("stage").classList.remove("over"), first);
  addEventListener("dragover", (event) => event.preventDefault(), first);
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
  }, first);
  addEventListener("paste", (event) => event.clipboardData.files.length && openFile(event.clipboardData.files[0]));
  $("opacity").addEventListener("input", () => {
    $("opacity-value").textContent = `${$("opacity").value} %`;
    shown?.viewer.setOpacity($("opacity").value / 100);
  });
  $("threshold").addEventListener("input", () => setLevel(Number($("threshold").value)));
  $("reset").addEventListener("click", () => {
    setLevel(null);
    $("threshold").focus();
  });
  $("slice").addEventListener("input", () => goTo(Number($("slice").value)));
  $("amounts").addEventListener("click", (event) => {
    goTo(Math.floor((event.offsetX / $("amounts").clientWidth) * (Number($("slice").max) + 1)));
  });
  addEventListener("resize", drawAmounts);
  for (const name of Object.keys(WINDOWS)) $("window").append(new Option(name));
  for (const name of PLANES) $("planes").append(new Option(name));
  $("window").addEventListener("change", () => shown.viewer.setWindow($("window").value));
  $("planes").addEventListener("change", () => shown.viewer.setPlanes($("planes").value));
  for (const button of document.querySelectorAll("[data-zoom]")) {
    const does = { in: () => shown.viewer.zoom(1.4), out: () => shown.viewer.zoom(1 / 1.4), fit: () => shown.viewer.fit() };
    button.addEventListener("click", does[button.dataset.zoom]);
  }
  for (const button of document.querySelectorAll("[data-download]")) {
    button.addEventListener("click", async () => {
      $("error").hidden = true;
      button.disabled = true;
      await download(button.dataset.download).catch(tellError);
      button.disabled = false;
    });
  }
}

async function start() {
  listen();
  modelKnown = server.ask("v1/model").then((answer) => answer.json());
  model = await modelKnown;
  const isScan = model.input === "scan";
  document.title = $("title").textContent = model.name;
  $("finds").textContent = `Finds ${model.classes.join(", ")} in ${isScan ? "CT scans" : "pictures"}.`;
  $("invite").textContent = isScan ? "Drop a CT scan here" : "Drop an image here";
  $("takes").textContent = isScan ? "NIfTI: .nii, .nii.gz" : "PNG, JPEG, TIFF or BMP";
  $("file").accept = isScan ? ".nii,.gz" : "image/*,.tif,.tiff";
  $("about").textContent = `Model ${model.sha256.slice(0, 12)}, trained on records ${model.fingerprint.slice(0, 12)}, ${model.precision}. `;
  $("about").append(element("a", { href: "openapi.json", download: "" }, "API"));
  $("about").lastChild.addEventListener("click", (event) => {
    event.preventDefault(); // a link would go without the key
    save(server.ask("openapi.json"), "openapi.json").catch(tellError);
  });
  $("opacity-value").textContent = `${$("opacity").value} %`;
  showScores();
  showExamples();
}

start().catch(tellError);
