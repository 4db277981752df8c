"use strict";
// Filters, sorts and draws the rows of a batch, a screen or two at a time.
const ROWS = JSON.parse(document.getElementById("data").textContent);
const CHUNK = 60;  // cards drawn at once: two screens of a large display
const byId = (id) => document.getElementById(id);
const controls = byId("controls"), list = byId("runs");
const order = new Intl.Collator(undefined, { numeric: true });
let shown = [], drawn = 0;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function percent(share) {
  if (share === null || share === undefined) return "?";
  if (share > 0.99 && share < 1) return `${Math.min(99.9, 100 * share).toFixed(1)}%`;  // all is all
  return `${(100 * share).toFixed(0)}%`;
}

function card(row) {
  const item = element("li", "run");
  if (row.thumbnail) {
    const image = element("img");
    Object.assign(image, { src: row.thumbnail, alt: `${row.image}, its dense map and its trace's map`, loading: "lazy", width: 384, height: 128 });
    item.append(image);
  } else {
    item.append(element("div", "none", row.status === "done" ? "no picture" : row.status));
  }
  const text = element("div", "text");
  const title = element(row.link ? "a" : "b", "", row.image);
  if (row.link) title.href = row.link;
  text.append(title);
  if (row.status !== "done") text.append(element("p", "changed", row.reason ?? row.status));
  if (row.dense.label) {
    const changed = row.same === false;
    text.append(element("p", changed ? "changed" : "", `${row.dense.label} ${percent(row.dense.probability)} → ${changed ? row.trace.label + " " : ""}${percent(row.trace.probability)}`));
  }
  const figures = [];
  if (row.agreement !== null) figures.push(`agreement ${percent(row.agreement)}`);
  if (row.sparsity !== null) figures.push(`sparsity ${percent(row.sparsity)}`);
  for (const [name, value] of Object.entries(row.extra)) figures.push(`${name} ${value}`);
  if (figures.length) text.append(element("p", "figures", figures.join(" · ")));
  if (row.flags) {
    const flag = element("p", "flagged", `⚠\ufe0e ${row.flagged[0]}${row.flags > 1 ? `, and ${row.flags - 1} more` : ""}`);
    text.append(flag);
  }
  item.append(text);
  return item;
}

function more() {
  const next = shown.slice(drawn, drawn + CHUNK);
  list.append(...next.map(card));
  drawn += next.length;
}

function fits(row, asked) {
  if (asked.target && row.target !== asked.target) return false;
  if (asked.fidelity === "same" && row.same !== true) return false;
  if (asked.fidelity === "changed" && row.same !== false) return false;
  if (asked.fidelity === "failed" && row.status === "done") return false;
  if (asked.flagged && !row.flags) return false;
  const words = `${row.image} ${row.target} ${row.dense.label} ${row.trace.label}`.toLowerCase();
  return !asked.find || words.includes(asked.find.trim().toLowerCase());
}

function compare(one, two) {  // what is not known comes last, whichever way the rest is sorted
  if (typeof one === "number" && typeof two === "number") return one - two;
  return order.compare(String(one), String(two));
}

function update() {
  const asked = Object.fromEntries(new FormData(controls));
  shown = ROWS.filter((row) => fits(row, asked));
  if (asked.sort) {
    const value = (row) => row[asked.sort] ?? row.extra[asked.sort] ?? null;
    const way = asked.falling ? -1 : 1;
    shown.sort((one, two) => {
      const [a, b] = [value(one), value(two)];
      if (a === null || b === null) return (a === null) - (b === null);
      return way * compare(a, b);
    });
  } else if (asked.falling) {
    shown.reverse();
  }
  list.replaceChildren();
  drawn = 0;
  more();
  byId("count").value = `${shown.length.toLocaleString()} of ${ROWS.length.toLocaleString()}`;
  const filled = Object.entries(asked).filter(([, value]) => value);
  history.replaceState(null, "", `#${new URLSearchParams(filled)}`);  // what is seen can be bookmarked and come back to
}

function restore() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const field of controls.elements) {
    if (!field.name) continue;
    if (field.type === "checkbox") field.checked = asked.has(field.name);
    else field.value = asked.get(field.name) ?? "";
  }
}

controls.addEventListener("input", update);
controls.addEventListener("submit", (event) => event.preventDefault());
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) more();
}, { rootMargin: "1500px" }).observe(byId("end"));
restore();
update();
