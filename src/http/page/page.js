// Takes what the node sends and shows it. Nothing here can change anything there.

import { byId, bytes, clock, duration, keep, latency, make, mark, plural, put, rate, row } from "./parts.js";
import { drawPlots } from "./plots.js";

// A node says something every second: after so long it is not heard any more.
const SILENCE = 4000;
// The browser gives up by itself where the answer is no stream, as when too many look.
const ASK_AGAIN = 5000;
// Speeds are those of the last seconds.
const SPEED_OVER = 5000;
const STAGES = ["connect", "banner", "login", "list", "store", "arrive", "compare", "delete"];
const ROLE_TONES = { active: "good", standby: "plain", starting: "warn", draining: "warn" };
const STATE_TONES = { healthy: "good", unhealthy: "bad", initial: "plain", draining: "warn" };

let heard = performance.now();
let lost = false;
let before = null;
let history = null;
const speeds = new Map();

// === the connection ===

function listen() {
  const stream = new EventSource("events");
  stream.addEventListener("now", ({ data }) => {
    heard = performance.now();
    show(JSON.parse(data));
    found();
  });
  stream.addEventListener("history", ({ data }) => {
    history = JSON.parse(data);
    drawPlots(history);
  });
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) {
      lose("This node sends nothing: perhaps too many look at it already.");
      setTimeout(listen, ASK_AGAIN);
    }
  });
}

function lose(why) {
  if (lost) return;
  lost = true;
  put(byId("lost"), `${why} What is shown here is old; trying again.`);
  byId("lost").hidden = false;
  mark(byId("link"), "data-state", "lost");
  put(byId("link-text"), "connection lost");
}

function found() {
  mark(byId("link"), "data-state", "live");
  put(byId("link-text"), "live");
  if (!lost) return;
  lost = false;
  byId("lost").hidden = true;
  announce("The connection is back.");
}

function announce(text) {
  put(byId("announcer"), text);
}

// === all of it ===

function show(now) {
  const at = Date.parse(now.now);
  document.title = `${now.node}: ${now.role} – ftpgate`;
  put(byId("node"), now.node);
  put(byId("version"), now.version);
  put(byId("role"), now.role);
  mark(byId("role"), "class", `pill ${ROLE_TONES[now.role] ?? "plain"}`);
  put(byId("reason"), now.reason);
  put(byId("sessions-now"), now.sessions.toLocaleString("en"));
  put(byId("transfers-now"), now.transfers.toLocaleString("en"));
  put(byId("up-now"), rate(speed("up", at, now.moved.up)));
  put(byId("down-now"), rate(speed("down", at, now.moved.down)));
  showNode(now, at);
  showEndpoints(now.endpoints, at);
  showTransfers(now.rows.filter((session) => session.transfer), at);
  showSessions(now, at);
  showEvents(now.events);
  tellChanges(now);
  forgetSpeeds(at);
  before = now;
}

// What a person who does not see the page has to hear: everything else would drown it.
function tellChanges(now) {
  if (!before) return;
  const news = [];
  if (before.role !== now.role) news.push(`This node is ${now.role} now: ${now.reason}.`);
  for (const { address, state, reason } of now.endpoints) {
    const was = before.endpoints.find((endpoint) => endpoint.address === address)?.state;
    if (was && was !== state) news.push(`Endpoint ${address} is ${state} now${reason ? `: ${reason}` : ""}.`);
  }
  if (news.length > 0) announce(news.join(" "));
}

// === speeds ===

// Bytes per second of a count that grows.
function speed(name, at, count) {
  const seen = (speeds.get(name) ?? []).filter(([time]) => at - time <= SPEED_OVER);
  seen.push([at, count]);
  speeds.set(name, seen);
  const [[from, first], [to, last]] = [seen[0], seen.at(-1)];
  return to > from ? (Math.max(0, last - first) * 1000) / (to - from) : 0;
}

function forgetSpeeds(at) {
  for (const [name, seen] of speeds) {
    if (seen.at(-1)[0] !== at) speeds.delete(name);
  }
}

// === the node ===

function showNode(now, at) {
  const wrong = now.checks.filter((check) => !check.ok).map((check) => `${check.name}: ${check.detail}`);
  const facts = [
    ["Ready", wrong.length === 0 ? "yes" : `no – ${wrong.join("; ")}`],
    ["Peer", peer(now.peer)],
    ["Clients are sent to", target(now)],
  ];
  if (now.name) facts.push(["Name", name(now.name)]);
  if (now.lease) facts.push(["Lease", lease(now)]);
  facts.push(["Zone", now.zone ?? "not known"]);
  facts.push(["Up for", duration((at - Date.parse(now.since)) / 1000)]);
  const create = ([label]) => make("div", {}, make("dt", {}, label), make("dd"));
  keep(byId("facts"), facts, ([label]) => label, create, (element, [, text]) => put(element.lastChild, text));
}

function peer(peer) {
  if (!peer) return "none: this node is alone";
  const who = peer.node ? `${peer.node} (${peer.address})` : peer.address;
  if (peer.trouble) return `${who} does not answer: ${peer.trouble}`;
  return `${who}, ${peer.role ?? "role unknown"}, ${peer.ready ? "ready" : "not ready"}`;
}

function target(now) {
  if (now.steering) {
    const where = now.steering.target ?? "not known to this node";
    const trouble = now.steering.trouble ? ` – ${now.steering.trouble}` : "";
    return `${where}${now.steered ? " (this node)" : ""}${trouble}`;
  }
  if (now.name) return now.name.here ? "this node" : "another node";
  return "whatever they connect to: nothing steers them";
}

function name({ name, addresses, trouble }) {
  const where = addresses.length > 0 ? addresses.join(", ") : "no address yet";
  return `${name} → ${where}${trouble ? ` – ${trouble}` : ""}`;
}

function lease(now) {
  const who = now.lease.held ? "held here" : now.lease.holder ? `${now.lease.state} by ${now.lease.holder}` : "nobody's";
  return `${who}, generation ${now.generation}${now.lease.trouble ? ` – ${now.lease.trouble}` : ""}`;
}

// === endpoints ===

function showEndpoints(endpoints, at) {
  byId("no-endpoints").hidden = endpoints.length > 0;
  keep(byId("endpoints"), endpoints, ({ address }) => address, createEndpoint, (element, endpoint) => {
    const part = (name) => element.querySelector(`.${name}`);
    const { address, name, zone, state, reason, sessions, stages, probed } = endpoint;
    mark(element, "data-state", state);
    put(part("address"), address);
    put(part("where"), [zone && `zone ${zone}`, name].filter(Boolean).join(" · "));
    put(part("pill"), state);
    mark(part("pill"), "class", `pill ${STATE_TONES[state] ?? "plain"}`);
    put(part("load"), plural(sessions, "session"));
    put(part("why"), reason ?? "");
    part("why").hidden = !reason;
    put(part("probed"), probed ? `probed ${duration((at - Date.parse(probed)) / 1000)} ago` : "not probed");
    const known = STAGES.filter((stage) => stage in stages).map((stage) => [stage, latency(stages[stage])]);
    const failed = reason && STAGES.find((stage) => reason.startsWith(`${stage}: `));
    if (failed && !(failed in stages)) known.push([failed, "failed"]);
    const create = () => make("li", {}, make("span", { class: "stage" }), " ", make("span", { class: "took" }));
    keep(part("stages"), known, ([stage]) => stage, create, (item, [stage, took]) => {
      put(item.firstChild, stage);
      put(item.lastChild, took);
      mark(item, "class", took === "failed" ? "failed" : "passed");
    });
  });
}

function createEndpoint({ address }) {
  return make(
    "li", {},
    make("h3", {}, make("span", { class: "address" }), " ", make("span", { class: "pill" })),
    make("p", { class: "where" }),
    make("p", { class: "load" }),
    make("p", { class: "why" }),
    make("ol", { class: "stages", "aria-label": `Stages of the latest probe of ${address}` }),
    make("p", { class: "probed" }),
  );
}

// === transfers and sessions ===

const TRANSFER = [["File", "file"], ["Progress", "progress"], ["Speed", "number"], ["Running", "number"], ["User", ""], ["Client", ""]];
const SESSION = [["No.", "number"], ["User", ""], ["Client", ""], ["Endpoint", ""], ["State", ""],
  ["Age", "number"], ["Quiet", "number"], ["Files", "number"], ["Bytes", "number"]];

function showTransfers(sessions, at) {
  byId("no-transfers").hidden = sessions.length > 0;
  const key = ({ id, transfer }) => `${id} ${transfer.since}`;
  keep(byId("transfers"), sessions, key, createTransfer, (element, session) => {
    const [file, progress, pace, running, user, client] = element.children;
    const { verb, path, bytes: moved, size, since, direction, ascii, tls } = session.transfer;
    mark(file.firstChild, "class", `verb ${direction}`);
    put(file.firstChild, verb);
    put(file.lastChild, path || "(the directory)");
    put(user, session.user ?? "–");
    put(client, session.client + (tls ? " TLS" : "") + (ascii ? " ASCII" : ""));
    showProgress(progress, path, moved, size);
    put(pace, rate(speed(key(session), at, moved)));
    put(running, duration((at - Date.parse(since)) / 1000));
  });
}

function createTransfer() {
  const element = row(TRANSFER);
  element.firstChild.append(make("span", { class: "verb" }), " ", make("span", { class: "path" }));
  element.children[1].append(make("span", { class: "amount" }));
  return element;
}

// A bar only if the client has said how much there will be.
function showProgress(cell, path, moved, size) {
  const amount = cell.querySelector(".amount");
  if (!size) return put(amount, bytes(moved));
  const bar = cell.querySelector("progress") ?? cell.insertBefore(make("progress"), amount);
  mark(bar, "aria-label", `Progress of ${path}`);
  mark(bar, "max", `${size}`);
  mark(bar, "value", `${Math.min(moved, size)}`);
  put(amount, `${bytes(moved)} of ${bytes(size)}, ${Math.floor((Math.min(moved, size) / size) * 100)} %`);
}

function showSessions(now, at) {
  byId("no-sessions").hidden = now.rows.length > 0;
  keep(byId("sessions"), now.rows, ({ id }) => id, () => row(SESSION), (element, session) => {
    const ago = (time) => (time ? duration((at - Date.parse(time)) / 1000) : "–");
    const { id, user, client, endpoint, state, since, last_command, files, bytes: moved, tls } = session;
    const texts = [
      `${id}`, user ?? "–", tls ? `${client} TLS ${tls}` : client, endpoint, state, ago(since), ago(last_command),
      files.toLocaleString("en"), bytes(moved),
    ];
    texts.forEach((text, index) => put(element.children[index], text));
    mark(element, "data-state", state);
  });
  const more = now.sessions - now.rows.length;
  byId("more").hidden = more <= 0;
  put(byId("more"), more > 0 ? `${plural(more, "more session is", "more sessions are")} not shown; ftpgate sessions lists all.` : "");
}

// === events ===

function showEvents(events) {
  byId("no-events").hidden = events.length > 0;
  const create = () => make("li", {}, make("time"), make("span", { class: "about" }), make("span", { class: "text" }));
  keep(byId("events"), events, ({ number }) => number, create, (element, { time, about, tone, text, count }) => {
    const [when, what, words] = element.children;
    put(when, clock(time));
    mark(when, "datetime", time);
    mark(when, "title", time);
    put(what, about);
    put(words, count > 1 ? `${text} (${count.toLocaleString("en")} times)` : text);
    mark(element, "class", tone);
  });
}

// === the start ===

setInterval(() => {
  if (performance.now() - heard > SILENCE) lose(`The connection was lost at ${clock(Date.now())}.`);
}, 1000);
new ResizeObserver(() => drawPlots(history)).observe(byId("traffic-plot"));
listen();
