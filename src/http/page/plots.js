// The two plots: drawn as SVG in pixels, told again as a sentence and as a table.

import { byId, bytes, clock, draw, make, plural, put, rate } from "./parts.js";

const HOUR = 3600;
const MINUTE = 60;
const HEIGHT = 190;
const LEFT = 72;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;
// Every outcome of a transfer that is somebody's failure.
const FAILURES = ["aborted", "client-failed", "gateway-failed", "upstream-failed"];

// `history` as the node sends it, or null.
export function drawPlots(history) {
  const empty = { step: 10, end: [], up: [], down: [], sessions: [], transfers: {}, failed_logins: [], refused: [] };
  drawTraffic(history ?? empty);
  drawTrouble(history ?? empty);
}

function drawTraffic(history) {
  const { end, up, down, step } = history;
  const top = niceBytes(Math.max(0, ...up, ...down));
  const frame = axes("traffic-plot", "traffic", end.at(-1), top, rate);
  for (const [name, values] of [["down", down], ["up", up]]) {
    const points = end.map((time, index) => [frame.x(time), frame.y(values[index]), time]);
    for (const run of runs(points, step)) {
      const line = run.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`);
      const [first, last] = [run[0][0].toFixed(1), run.at(-1)[0].toFixed(1)];
      const floor = frame.y(0).toFixed(1);
      const area = `M${first},${floor} L${line.join(" L")} L${last},${floor} Z`;
      // Only one of the two is filled, so that colour is not all that tells them apart.
      if (name === "up") frame.svg.append(draw("path", { class: "area", d: area }));
      frame.svg.append(draw("path", { class: `line ${name}`, d: `M${line.join(" L")}` }));
      if (run.length === 1) {
        frame.svg.append(draw("circle", { class: name, cx: run[0][0], cy: run[0][1], r: 2.5 }));
      }
    }
  }
  const total = (values) => values.reduce((sum, value) => sum + value * step, 0);
  const most = (values) => {
    const peak = Math.max(0, ...values);
    return peak > 0 ? `${rate(peak)} at most, ${clock(end[values.indexOf(peak)] * 1000, false)}` : "nothing";
  };
  const sentence = end.length === 0
    ? "The first ten seconds are not over yet."
    : `From clients ${bytes(total(up))} (${most(up)}); to clients ${bytes(total(down))} (${most(down)}).`;
  put(byId("traffic-summary"), sentence);
  const mean = (values) => rate(values.reduce((sum, value) => sum + value, 0) / values.length);
  table("traffic-table", ["From", "From clients", "To clients", "Sessions"], history, ({ of }) => [
    mean(of(up)), mean(of(down)), `${of(history.sessions).at(-1)}`,
  ]);
}

function drawTrouble(history) {
  const { end } = history;
  const failed = end.map((_, index) => FAILURES.reduce((sum, name) => sum + history.transfers[name][index], 0));
  const kinds = [["failed", failed], ["refused", history.refused], ["logins", history.failed_logins]];
  const now = end.at(-1);
  const bars = Array.from({ length: HOUR / MINUTE }, () => [0, 0, 0]);
  end.forEach((time, index) => {
    const bar = bars[bars.length - 1 - Math.floor((now - time) / MINUTE)];
    if (bar) kinds.forEach(([, values], kind) => { bar[kind] += values[index]; });
  });
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const top = niceCount(Math.max(0, ...bars.map(sum)));
  const frame = axes("trouble-plot", "trouble", now, top, (value) => `${Math.round(value)}`);
  const width = (frame.width - LEFT - RIGHT) / bars.length;
  bars.forEach((bar, minute) => {
    let below = 0;
    bar.forEach((value, kind) => {
      if (value === 0) return;
      const [low, high] = [frame.y(below), frame.y(below + value)];
      const shape = { x: LEFT + minute * width + 0.5, y: high, width: Math.max(1, width - 1), height: low - high };
      frame.svg.append(draw("rect", { class: kinds[kind][0], ...shape }));
      below += value;
    });
  });
  const whole = sum(history.transfers.complete ?? []);
  const [transfers, clients, logins] = kinds.map(([, values]) => sum(values));
  const words = [
    plural(transfers, "transfer failed", "transfers failed"),
    plural(clients, "client was refused", "clients were refused"),
    plural(logins, "login was refused", "logins were refused"),
  ];
  const good = `${plural(whole, "transfer was", "transfers were")} complete.`;
  const trouble = transfers + clients + logins > 0 ? `${words.join(", ")}` : "Nothing went wrong";
  put(byId("trouble-summary"), end.length === 0 ? "The first ten seconds are not over yet." : `${trouble}; ${good}`);
  const names = ["From", "Complete", "Failed", "Clients refused", "Logins refused"];
  table("trouble-table", names, history, ({ of }) => [
    history.transfers.complete, failed, history.refused, history.failed_logins,
  ].map((values) => `${sum(of(values))}`));
}

// An empty plot with its lines and words, of the hour up to `now`.
function axes(id, name, now, top, label) {
  const box = byId(id);
  const width = Math.max(260, box.clientWidth);
  const svg = draw("svg", {
    role: "img",
    width,
    height: HEIGHT,
    "aria-labelledby": `${name}-title`,
    "aria-describedby": `${name}-summary`,
  });
  const latest = now ?? Date.now() / 1000;
  const x = (time) => width - RIGHT - ((latest - time) / HOUR) * (width - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
  for (const share of [0, 0.5, 1]) {
    const at = y(top * share);
    svg.append(draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    svg.append(draw("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, label(top * share)));
  }
  for (const minutes of width < 420 ? [60, 30, 0] : [60, 45, 30, 15, 0]) {
    const anchor = { 60: "start", 0: "end" }[minutes] ?? "middle";
    const words = minutes === 0 ? clock(latest * 1000, false) : `−${minutes} min`;
    const place = { x: x(latest - minutes * MINUTE), y: HEIGHT - 6, "text-anchor": anchor };
    svg.append(draw("text", place, words));
  }
  box.replaceChildren(svg);
  return { svg, width, x, y };
}

// Points without a hole between them: a node that was stopped for a while tells nothing of it.
function runs(points, step) {
  const all = [];
  for (const point of points) {
    const run = all.at(-1);
    if (run && point[2] - run.at(-1)[2] <= 2.5 * step) run.push(point);
    else all.push([point]);
  }
  return all;
}

// The hour in rows of five minutes, the newest first.
function table(id, names, history, cells) {
  const { end } = history;
  const groups = new Map();
  end.forEach((time, index) => {
    const start = Math.floor((time - 1) / (5 * MINUTE)) * 5 * MINUTE;
    groups.set(start, [...(groups.get(start) ?? []), index]);
  });
  const head = make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)));
  const rows = [...groups].reverse().map(([start, indices]) => {
    const values = cells({ of: (column) => indices.map((index) => column[index]) });
    const first = make("th", { scope: "row" }, clock(start * 1000, false));
    return make("tr", {}, first, ...values.map((value) => make("td", { class: "number" }, value)));
  });
  byId(id).replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

// The next round number of bytes, half of which is round, too.
function niceBytes(most) {
  let unit = 1024;
  while (most > unit * 1000) unit *= 1024;
  const round = [1, 2, 4, 10, 20, 40, 100, 200, 400, 1000].find((count) => most <= count * unit);
  return (round ?? 1000) * unit;
}

function niceCount(most) {
  let unit = 1;
  while (most > unit * 10) unit *= 10;
  return [2, 4, 10].map((count) => count * unit).find((count) => most <= count);
}
