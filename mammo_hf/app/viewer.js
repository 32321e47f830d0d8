// The views of an exam: drawn from 16 bits with window and level, maps over them, a part enlarged, a magnifier.
// Plain script without a build; the server sends figures (exam.py, views_section) and maps (maps_section).
(() => {
  "use strict";
  const START = { level: 0.5, window: 1, opacity: 1, zoom: 1, row: 0.5, fromWall: 0.5, map: true, lens: false };
  const LENS = { size: 180, zoom: 3 };
  const [BAR_MM, STEP] = [50, 0.1];
  const state = { ...START };
  let [views, palette, opacity, pending] = [[], null, 0, 0];

  const byId = (id) => document.getElementById(id);
  const clip = (value, low, high) => Math.min(high, Math.max(low, value));

  // Pixels of a data URL as the server encoded them: no colour management changes them.
  async function pixels(url) {
    const picture = await createImageBitmap(await (await fetch(url)).blob(), { colorSpaceConversion: "none" });
    const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    return context.getImageData(0, 0, picture.width, picture.height);
  }

  async function readView(figure) {
    const source = figure.dataset.pixels;
    const { data, width, height } = await pixels(source);
    const intensity = new Uint16Array(width * height);
    for (let at = 0; at < intensity.length; at++) intensity[at] = (data[4 * at] << 8) | data[4 * at + 1];
    const canvas = figure.querySelector("canvas");
    listen(canvas);
    const whole = new OffscreenCanvas(width, height);
    const [mm, right] = [Number(figure.dataset.mm) || null, figure.dataset.side === "R"];
    return { figure, source, canvas, intensity, width, height, whole, mm, right, values: null };
  }

  async function readMaps() {
    const legend = document.querySelector("#maps .legend");
    if (legend) {
      palette = JSON.parse(legend.dataset.colours);
      opacity = Number(legend.dataset.opacity);
      const stops = [0, 64, 128, 192, 255].map((at) => `rgb(${palette[at].join(",")})`);
      legend.querySelector(".scale").style.background = `linear-gradient(90deg, ${stops.join(",")})`;
    }
    for (const view of views) {
      const map = document.querySelector(`#maps [data-view="${figures().indexOf(view.figure)}"]`);
      const found = map && (await pixels(map.dataset.pixels));
      const fits = found && found.width === view.width && found.height === view.height;
      view.values = fits ? found.data.filter((_, at) => at % 4 === 0) : null;
      view.strength = map ? Number(map.dataset.strength) : 0;
      view.figure.querySelector(".explained").textContent = map ? map.dataset.text : "";
    }
  }

  // Window and level: the 4096 greys of the display; below the window black, above it white.
  function greys() {
    const table = new Uint8ClampedArray(4096);
    for (let at = 0; at < 4096; at++) table[at] = 255 * ((at / 4095 - state.level) / state.window + 0.5);
    return table;
  }

  function paint(view) {
    const context = view.whole.getContext("2d");
    const picture = context.createImageData(view.width, view.height);
    const [out, grey] = [picture.data, greys()];
    const strength = opacity * state.opacity * view.strength;
    const shown = state.map && strength > 0 ? view.values : null;
    // weak values hide no tissue: the same curve as in the pictures that explain writes
    const alphas = Float32Array.from({ length: 256 }, (_, at) => strength * (at / 255) ** 1.5);
    for (let at = 0, to = 0; at < view.intensity.length; at++, to += 4) {
      const value = grey[view.intensity[at] >> 4];
      const map = shown ? shown[at] : 0;
      const colour = map ? palette[map] : null;
      for (let channel = 0; channel < 3; channel++) {
        out[to + channel] = colour ? value + (colour[channel] - value) * alphas[map] : value;
      }
      out[to + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  }

  // The part that is shown, in pixels of the view; both breasts show the same distance from the chest wall.
  function part(view) {
    const [width, height] = [view.width / state.zoom, view.height / state.zoom];
    const column = view.right ? 1 - state.fromWall : state.fromWall;
    const left = clip(column * view.width - width / 2, 0, view.width - width);
    return { left, top: clip(state.row * view.height - height / 2, 0, view.height - height), width, height };
  }

  function place(view) {
    const { canvas } = view;
    // the framework keeps a canvas for another view, and takes its size away
    if (canvas.width !== view.width || canvas.height !== view.height) {
      Object.assign(canvas, { width: view.width, height: view.height });
    }
    const context = canvas.getContext("2d");
    const { left, top, width, height } = part(view);
    context.drawImage(view.whole, left, top, width, height, 0, 0, view.width, view.height);
    drawBar(view, context);
  }

  function drawBar(view, context) {
    if (!view.mm) return;
    const length = (BAR_MM / view.mm) * state.zoom;
    if (length > view.width) return;
    const [unit, bottom] = [view.height / 100, view.height - view.height / 50];
    const left = view.right ? unit : view.width - length - unit;
    context.fillStyle = "#fff";
    context.fillRect(left, bottom, length, unit / 3);
    context.font = `${3 * unit}px system-ui, sans-serif`;
    context.fillText(`${BAR_MM} mm`, left, bottom - unit);
  }

  function show(repaint = true) {
    if (!pending) requestAnimationFrame(drawAll);
    pending = Math.max(pending, repaint ? 2 : 1);
  }

  function drawAll() {
    for (const view of views) {
      if (pending === 2) paint(view);
      place(view);
    }
    pending = 0;
    for (const name of ["level", "window", "opacity", "zoom"]) if (byId(name)) byId(name).value = state[name];
    const { dataset } = document.body; // what is drawn, for tests
    Object.assign(dataset, { drawn: Number(dataset.drawn || 0) + 1, maps: views.filter((view) => view.values).length });
  }

  // Where the picture of a view is on the screen: at the chest wall of a canvas that may be wider or higher.
  function onScreen({ canvas, right }) {
    const box = canvas.getBoundingClientRect();
    const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
    const [width, height] = [canvas.width * scale, canvas.height * scale];
    return { left: right ? box.right - width : box.left, top: box.top + (box.height - height) / 2, width, height };
  }

  // The point of a view, as fractions, that is under the pointer.
  function pointed(view, event) {
    const [box, shown] = [onScreen(view), part(view)];
    const column = (shown.left + clip((event.clientX - box.left) / box.width, 0, 1) * shown.width) / view.width;
    const row = (shown.top + clip((event.clientY - box.top) / box.height, 0, 1) * shown.height) / view.height;
    return { row, column, fromWall: view.right ? 1 - column : column };
  }

  const zoomBy = (factor) => ((state.zoom = clip(state.zoom * factor, 1, 8)), show(false));

  const viewOf = (canvas) => views.find((view) => view.canvas === canvas);

  function listen(canvas) {
    if (canvas.listening) return;
    canvas.listening = true;
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      from = { x: event.clientX, y: event.clientY, level: state.level, window: state.window, moved: false };
      if (event.pointerType === "mouse") canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (state.lens && viewOf(canvas)) drawLens(viewOf(canvas), event);
      if (!from || event.pointerType !== "mouse") return; // a finger scrolls the page
      const [right, down] = [event.clientX - from.x, event.clientY - from.y];
      from.moved = from.moved || Math.hypot(right, down) > 4;
      if (!from.moved) return;
      state.window = clip(from.window + right / 300, 0.05, 2);
      state.level = clip(from.level + down / 300, 0, 1);
      show();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (from && !from.moved && viewOf(canvas)) {
        const { row, fromWall } = pointed(viewOf(canvas), event);
        Object.assign(state, { row, fromWall });
        show(false);
      }
      from = null;
    });
    canvas.addEventListener("pointerleave", () => ((from = null), (byId("lens").hidden = true)));
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // the wheel alone scrolls the page
      event.preventDefault();
      zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2);
    }, { passive: false });
  }

  function drawLens(view, event) {
    const lens = byId("lens");
    const { row, column } = pointed(view, event);
    const side = (LENS.size / LENS.zoom / onScreen(view).width) * part(view).width;
    Object.assign(lens, { width: LENS.size, height: LENS.size, hidden: false });
    const beside = (at, most) => `${clip(at - LENS.size / 2, 0, most - LENS.size)}px`;
    Object.assign(lens.style, { left: beside(event.clientX, innerWidth), top: beside(event.clientY, innerHeight) });
    const [left, top] = [column * view.width - side / 2, row * view.height - side / 2];
    lens.getContext("2d").drawImage(view.whole, left, top, side, side, 0, 0, LENS.size, LENS.size);
  }

  const sideways = (step) => (state.fromWall = clip(state.fromWall + step / state.zoom, 0, 1));
  const KEYS = {
    ArrowUp: () => (state.row = clip(state.row - STEP / state.zoom, 0, 1)),
    ArrowDown: () => (state.row = clip(state.row + STEP / state.zoom, 0, 1)),
    ArrowLeft: (view) => sideways(view.right ? STEP : -STEP),
    ArrowRight: (view) => sideways(view.right ? -STEP : STEP),
    "+": () => zoomBy(1.25),
    "=": () => zoomBy(1.25), // the same key without shift
    "-": () => zoomBy(0.8),
    " ": () => (state.map = !state.map),
    m: () => (state.lens = !state.lens),
    0: () => Object.assign(state, START),
  };

  function pressed(event) {
    const view = viewOf(event.target);
    if (!view || !KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    KEYS[event.key](view);
    afterSwitch();
    show();
  }

  function afterSwitch() {
    byId("show-map").setAttribute("aria-pressed", String(state.map));
    byId("magnifier").setAttribute("aria-pressed", String(state.lens));
    byId("lens").hidden = true;
  }

  // A picture of scores and views, without anything that names a file or a person.
  function result() {
    const height = 700;
    const sizes = views.map((view) => Math.round((view.width / view.height) * height));
    const lines = [...document.querySelectorAll("#scores caption, #scores tbody tr, #maps .legend")]
      .map((one) => one.innerText.replace(/\s+/g, " ").trim());
    const canvas = document.createElement("canvas");
    const width = Math.max(900, sizes.reduce((sum, one) => sum + one, 0));
    Object.assign(canvas, { width, height: height + 26 * (lines.length + 2) });
    const context = canvas.getContext("2d");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "#fff";
    context.font = "18px system-ui, sans-serif";
    [byId("research").innerText.split(":")[0], ...lines].forEach((line, at) => context.fillText(line, 12, 26 * (at + 1)));
    let left = 0;
    views.forEach((view, at) => {
      context.drawImage(view.canvas, left, canvas.height - height, sizes[at], height);
      context.fillText(view.figure.querySelector("figcaption").innerText, left + 8, canvas.height - height + 22);
      left += sizes[at];
    });
    canvas.toBlob((blob) => {
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "result.png" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  const ACTIONS = { "show-map": KEYS[" "], magnifier: KEYS.m, reset: KEYS[0], "save-picture": result, "print-page": () => print() };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("#toolbar button");
    if (!button) return;
    if (button.dataset.window) {
      Object.assign(state, { window: Number(button.dataset.window), level: Number(button.dataset.level) });
    } else ACTIONS[button.id]();
    afterSwitch();
    show();
  });
  document.addEventListener("input", (event) => {
    if (!event.target.closest("#toolbar") || !(event.target.id in state)) return;
    state[event.target.id] = Number(event.target.value);
    show(event.target.id !== "zoom");
  });
  document.addEventListener("keydown", pressed);

  // The framework puts new figures and maps into the page, or others into the same elements; what is new is read.
  const figures = () => [...document.querySelectorAll("#views figure")];
  const knownOf = (figure) => views.find((one) => one.figure === figure && one.source === figure.dataset.pixels);
  let read = "";

  function changed() {
    for (const figure of figures()) {
      const canvas = figure.querySelector("canvas");
      if (knownOf(figure) || canvas.width === 1) continue;
      // never an earlier view under another one's name, not even until the new one is read
      Object.assign(canvas, { width: 1, height: 1 });
      figure.querySelector(".explained").textContent = "";
    }
    views = figures().map(knownOf).filter(Boolean);
    for (const id of ["toolbar", "compare"]) if (byId(id)) byId(id).hidden = !figures().length;
    renewed = renewed.then(renew).catch(console.error);
  }

  async function renew() {
    const sources = [...document.querySelectorAll("#views [data-pixels], #maps [data-pixels]")];
    const now = sources.map((one) => `${one.dataset.pixels.length} ${one.dataset.pixels.slice(-64)}`).join();
    if (now !== read) {
      read = now;
      const found = await Promise.all(figures().map((figure) => knownOf(figure) || readView(figure)));
      views = found.filter((view) => view.source === view.figure.dataset.pixels);
      await readMaps();
      show();
    } else if (views.some((view) => view.canvas.width !== view.width)) show(false);
  }
  let renewed = Promise.resolve();
  const watched = { subtree: true, childList: true, attributeFilter: ["data-pixels", "width"] };
  new MutationObserver(changed).observe(document.documentElement, watched);
})();
