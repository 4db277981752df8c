"use strict";
// Draws the maps from their values and reads a pixel's. The numbers are those of spade_cli/report/run_page.py.
const DATA = JSON.parse(document.getElementById("data").textContent);
const STEPS = 4095;
const byId = (id) => document.getElementById(id);
const colours = Object.fromEntries(Object.entries(DATA.palettes).map(([what, text]) => [what, bytes(text)]));
const state = { blend: 0.5, exposure: 1, scale: "own", copies: "mean", what: "strength", x: 0.5, y: 0.5 };
const maps = [];  // {box, canvas, value, width, height, mean, plain, method}; mean and plain: {strength, signed}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

async function inflated(base64) {
  const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpacked(packed) {  // -> strength and signed sum of each pixel
  const raw = await inflated(packed.data);
  const count = packed.width * packed.height;
  const strength = new Float32Array(count), signed = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const share = (raw[i] | (raw[count + i] << 8)) / STEPS;
    strength[i] = packed.max * share * share;
    signed[i] = strength[i] * ((raw[2 * count + i] << 24) >> 24) / 127;
  }
  return { strength, signed };
}

function signed(method) {  // a map without a negative value, such as the size of a gradient, speaks against nothing
  return state.what === "sign" && method.signed;
}

function shown(map) {  // the values of a map: a method without a plain map keeps its mean
  return state.copies === "plain" && map.plain ? map.plain : map.mean;
}

function topOf(method, network) {  // the value that gets the brightest colour
  const plain = state.copies === "plain" && Object.values(method.maps).every((one) => one.plain);
  const top = (one) => (plain ? one.plain.top : one.top);
  const common = plain ? Math.max(...Object.values(method.maps).map(top)) : method.top;
  return (state.scale === "own" ? top(method.maps[network]) : common) / state.exposure;
}

function draw(map) {
  const { canvas, width, height } = map;
  const sign = signed(map.method);
  const values = sign ? shown(map).signed : shown(map).strength;
  const image = canvas.getContext("2d").createImageData(width, height);
  const palette = colours[sign ? "sign" : "strength"];
  const top = topOf(map.method, map.network);
  const over = Math.min(1, 2 * state.blend);  // up to the middle the map comes; from there the view goes
  const alone = Math.max(0, 2 * state.blend - 1);
  for (let i = 0; i < values.length; i++) {
    const share = Math.max(-1, Math.min(1, values[i] / top));
    const level = sign ? Math.round(127.5 + 127.5 * share) : Math.floor(255 * share);
    // The root lets faint regions show, as in the overlays beside this page.
    const weight = 0.85 * Math.sqrt(Math.abs(share)) * over;
    image.data.set(palette.subarray(3 * level, 3 * level + 3), 4 * i);
    image.data[4 * i + 3] = 255 * (weight + (1 - weight) * alone);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function drawAll() {
  const grey = Math.min(1, 2 * state.blend);
  document.documentElement.style.setProperty("--grey", grey);
  document.documentElement.style.setProperty("--light", 1 - 0.3 * grey);
  maps.forEach(draw);
  document.querySelectorAll(".method").forEach(legend);
  byId("times").value = `× ${short(state.exposure)}`;
}

function legend(card) {
  const method = DATA.methods[card.dataset.method], sign = signed(method);
  const palette = colours[sign ? "sign" : "strength"];
  const context = card.querySelector(".legend canvas").getContext("2d");
  const image = context.createImageData(256, 1);
  for (let i = 0; i < 256; i++) {
    image.data.set(palette.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  const tops = Object.keys(method.maps).map((network) => [network, short(topOf(method, network))]);
  const own = state.scale === "own" && tops.length > 1;
  const top = own ? tops.map(([network, one]) => `${network} ${one}`).join(", ") : tops[0][1];
  card.querySelector(".low").textContent = sign ? "against" : state.what === "sign" ? "without sign: 0" : "0";
  card.querySelector(".high").textContent = sign ? `for: ${top}` : `${top} and above`;
}

function short(value) {  // three digits, without trailing zeros
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(2);
  return text.replace(/^-/, "−");
}

function read() {  // the same place on every map
  for (const map of maps) {
    const x = Math.floor(state.x * map.width), y = Math.floor(state.y * map.height);
    const i = y * map.width + x;
    map.box.classList.add("read");
    map.mark.style.left = `${(100 * (x + 0.5)) / map.width}%`;
    map.mark.style.top = `${(100 * (y + 0.5)) / map.height}%`;
    map.value.value = short(signed(map.method) ? shown(map).signed[i] : shown(map).strength[i]);
  }
}

function say(map) {
  const both = maps.filter((other) => other.method === map.method);
  const place = `column ${Math.floor(state.x * map.width)}, row ${Math.floor(state.y * map.height)}`;
  byId("announce").textContent = `${place}: ${both.map((one) => `${one.network} ${one.value.value}`).join(", ")}`;
}

function listen(map) {
  map.box.addEventListener("pointermove", (event) => {
    const box = map.box.getBoundingClientRect();
    state.x = Math.min(0.9999, Math.max(0, (event.clientX - box.left) / box.width));
    state.y = Math.min(0.9999, Math.max(0, (event.clientY - box.top) / box.height));
    read();
  });
  map.box.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 10 : 1);
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const move = (at, by, size) => (Math.min(size - 1, Math.max(0, Math.floor(at * size) + by * step)) + 0.5) / size;
    state.x = move(state.x, dx, map.width);
    state.y = move(state.y, dy, map.height);
    read();
    say(map);
  });
  map.box.addEventListener("focus", () => { read(); say(map); });
}

async function start() {
  for (const card of document.querySelectorAll(".method")) {
    const method = DATA.methods[card.dataset.method];
    for (const box of card.querySelectorAll(".map")) {
      const network = box.dataset.network, packed = method.maps[network];
      const canvas = box.querySelector("canvas");
      canvas.width = packed.width;
      canvas.height = packed.height;
      const value = box.parentElement.querySelector(".value");
      const map = { box, canvas, value, network, method, mark: box.querySelector("i"), width: packed.width, height: packed.height };
      map.mean = await unpacked(packed);
      map.plain = packed.plain && await unpacked(packed.plain);
      maps.push(map);
      listen(map);
    }
  }
  if (!maps.length) return;
  const controls = byId("controls");
  controls.addEventListener("input", () => {
    state.blend = Number(byId("blend").value) / 100;
    state.exposure = 10 ** Number(byId("exposure").value);
    state.what = controls.elements.what.value;
    state.scale = controls.elements.scale.value;
    state.copies = controls.elements.copies?.value ?? "mean";
    drawAll();
    if (maps[0].box.classList.contains("read")) read();
  });
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.dispatchEvent(new Event("input"));  // a browser keeps a form's values when it loads a page again
  document.documentElement.dataset.drawn = maps.length;
}

function copying() {
  const copy = byId("copy");
  if (!navigator.clipboard) return;
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId("command").textContent);
    copy.textContent = "Copied";
  });
}

copying();
start();
