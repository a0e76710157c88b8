// Words for numbers, and elements for words. Text goes in as text only, whatever it holds: clients
// choose the names of files and users.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(count) {
  let unit = 0;
  while (count >= 1023.5 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  const digits = unit > 0 && count < 99.95 ? 1 : 0;
  return `${count.toFixed(digits)} ${UNITS[unit]}`;
}

export function rate(perSecond) {
  return `${bytes(perSecond)}/s`;
}

// "7s", "3m 12s", "5h 2m", "4d 1h".
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const steps = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const first = steps.findIndex(([length]) => whole >= length);
  if (first < 0) return "0s";
  let rest = whole;
  const parts = [];
  for (const [length, name] of steps.slice(first, first + 2)) {
    const count = Math.floor(rest / length);
    rest %= length;
    if (count > 0) parts.push(`${count}${name}`);
  }
  return parts.join(" ");
}

export function latency(seconds) {
  return seconds < 1 ? `${(seconds * 1000).toFixed(1)} ms` : `${seconds.toFixed(1)} s`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

// The time of day where the viewer is.
export function clock(time, seconds = true) {
  const shape = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (seconds) shape.second = "2-digit";
  return new Date(time).toLocaleTimeString("en", shape);
}

export function byId(id) {
  return document.getElementById(id);
}

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Sets a text only if it is another one: what has not changed is neither laid out nor read anew.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// Makes the children of an element those of `items`, in their order. What stays keeps its element,
// so that a selection in it stays too.
export function keep(parent, items, key, create, update) {
  parent.kept ??= new Map();
  const kept = new Map();
  let next = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const element = parent.kept.get(name) ?? create(item);
    parent.kept.delete(name);
    update(element, item);
    kept.set(name, element);
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  for (const gone of parent.kept.values()) gone.remove();
  parent.kept = kept;
}

// A row of a table whose cells are named, so that a narrow screen can show them as a card.
export function row(cells) {
  const fill = ([label, shape]) => make("td", { role: "cell", "data-label": label, class: shape });
  return make("tr", { role: "row" }, ...cells.map(fill));
}
