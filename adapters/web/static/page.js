// The page: shows the state that the server streams, patches what changed, and sends what a person decides.
// Every text of the state becomes a text node; the page never reads markup in it.
"use strict";

const find = (id) => document.getElementById(id);
const GROUPS = { look: find("look-title"), open: find("open-title"), over: find("over-title") };
const TONES = {
  running: "run", waiting: "wait", queued: "calm", succeeded: "good", paused: "calm", cancelled: "calm", repeated: "calm", left: "wait",
}; // every other state is bad
const SHOWN_AS = { left: "interrupted", unreadable: "damaged", rejected: "not started", repeated: "started again" }; // states that need another word
const SEEN = {
  running: "since", waiting: "since", queued: "since", paused: "since", left: "last seen", unreadable: "last seen", quarantined: "since",
}; // what the time of a call's latest event is; of every other state, its end
const SELF_EVIDENT = new Set(["running", "succeeded", "cancelled", "repeated"]); // states that say themselves what comes next
const PERSON = "your decision"; // what a call waits for that only a person can help
const LABELS = {
  retry: "Retry now", pause: "Pause", unpause: "Continue", cancel: "Cancel", "give up": "Give up", again: "Start again, unchanged",
};
const AT_NEXT_START = { retry: "Retry at the next start", pause: "Pause at the next start" }; // of calls without a program
const HINTS = {
  retry: "Try it at once, without the rest of its wait", pause: "Do not try it until you continue it",
  unpause: "Let it wait for the rest of its time", cancel: "End it: nothing is reported as failed",
  "give up": "End it as failed, with its latest error", again: "Start it again with the arguments that it had: for a change, run your program or plan again",
};
const OF_INCIDENTS = { probe: "Try now", "give up": "Give up its calls" };
const ASKED_TWICE = { cancel: "Really cancel?", "give up": "Really give up?" };
const SURE_FOR = 8000; // milliseconds in which the second click counts
const FIRST_DELAY = 1; // seconds until the first reconnect; doubled each time
const MOST_DELAY = 30;
const DRAWN_AT_ONCE = 50; // rows of a new page that are drawn before the first frame
const LATE_AT_ONCE = 150; // rows far from the screen that are drawn each second
const TOAST_FOR = 8000;
const SPOKEN_EVERY = 10_000; // milliseconds between two top lines that are read aloud

let state = null; // the latest PageState
let ahead = 0; // by how many seconds the server's clock is ahead of this one

const now = () => Date.now() / 1000 + ahead;

// ---------------------------------------------------------------- Words

const two = (number) => String(number).padStart(2, "0");

function clock(at) {
  const when = new Date(at * 1000);
  const time = `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}`;
  const today = new Date(now() * 1000);
  const isToday = Math.abs(when - today) < 86_400_000 && when.getDate() === today.getDate();
  return isToday ? time : `${when.toLocaleDateString()} ${time}`;
}

function span(seconds) {
  const whole = Math.max(Math.ceil(seconds), 0);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours} h ${two(minutes)} min` : `${minutes}:${two(whole % 60)}`;
}

const countdown = (due) => (due > now() ? `in ${span(due - now())}` : "now");
const grouped = new Intl.NumberFormat();
const figure = (number) => (number < 1000 ? `${number}` : grouped.format(number));
const counted = (number, noun) => `${figure(number)} ${noun}${number === 1 ? "" : "s"}`;
const labelOf = (action, is) => (is === "left" && AT_NEXT_START[action]) || LABELS[action] || capital(action);
const capital = (text) => text.replace(/^[a-z]+(?=[\s,:;-]|$)/, (word) => word.charAt(0).toUpperCase() + word.slice(1));

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (bytes >= 1000 && step < units.length - 1) [bytes, step] = [bytes / 1000, step + 1];
  return `${step && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[step]}`;
}

function bytesInWords(bytes) {
  if (bytes.words) return bytes.words;
  const rate = bytes.rate ? `, ${size(bytes.rate)}/s` : "";
  return (bytes.size ? `${size(bytes.done)} of ${size(bytes.size)}` : size(bytes.done)) + rate;
}

// ---------------------------------------------------------------- Elements

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Moves a node and leaves the focus where it is.
function place(node, parent, before) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(node, before);
  if (focused) focused.focus({ preventScroll: true });
}

function safeLink(link) {
  if (!/^https?:\/\//i.test(link)) return null;
  const anchor = make("a", "", link);
  anchor.href = link;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer";
  return anchor;
}

// Copies a chart, element by element: only shapes, texts and the attributes of these.
const SHAPES = new Set(["svg", "g", "title", "desc", "rect", "line", "path", "polyline", "circle", "text"]);
const ATTRIBUTES = new Set(
  "viewBox role aria-labelledby aria-label id class x y x1 y1 x2 y2 cx cy r rx width height d points".split(" "),
);
function drawn(markup) {
  const copy = (from) => {
    const to = document.createElementNS("http://www.w3.org/2000/svg", from.localName);
    for (const { name, value } of from.attributes) if (ATTRIBUTES.has(name)) to.setAttribute(name, value);
    for (const child of from.childNodes) {
      if (child.nodeType === Node.TEXT_NODE) to.append(child.data);
      else if (SHAPES.has(child.localName)) to.append(copy(child));
    }
    return to;
  };
  const root = new DOMParser().parseFromString(markup, "image/svg+xml").documentElement;
  return root.localName === "svg" ? copy(root) : make("span");
}

// ---------------------------------------------------------------- What a person decides

let toastTimer = 0;
function say(text) {
  find("toast").textContent = capital(text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { find("toast").textContent = ""; }, TOAST_FOR);
}

async function send(path, body) {
  try {
    const response = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const answer = await response.json().catch(() => ({}));
    const said = typeof answer.said === "string" ? answer.said : typeof answer.error === "string" ? answer.error : "";
    say(said || (response.ok ? "Done" : `The server refused it (HTTP ${response.status})`));
    return response.ok && answer.is_done !== false;
  } catch {
    say("The server does not answer, so nothing was changed. Try again once the page is connected.");
    return false;
  }
}

async function act(button, path, body, row) {
  if (button.getAttribute("aria-disabled") === "true") return;
  const sure = ASKED_TWICE[body.action], label = button.textContent;
  if (sure && !button.classList.contains("sure")) {
    button.classList.add("sure");
    button.textContent = sure;
    // the focus stays: a new label is not read
    say(`${sure} Press the button once more to ${row ? `end ${row.line.name}` : "end them"}.`);
    setTimeout(() => {
      button.classList.remove("sure");
      button.textContent = row ? labelOf(body.action, row.line.state) : label;
    }, SURE_FOR);
    return;
  }
  button.setAttribute("aria-disabled", "true");
  await send(path, body);
  button.removeAttribute("aria-disabled");
}

// ---------------------------------------------------------------- Calls

const late = new Set(); // rows that are not drawn as they are now
const isSame = (one, other) => one === other || (one && other && one.join() === other.join());

const nearness = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.row.isNear = isIntersecting;
    if (!isIntersecting) continue;
    if (late.has(target.row)) target.row.draw();
    else target.row.tick();
  }
}, { rootMargin: "400px" });

// Draws some rows that are far from the screen, so that a search of the browser finds what is so.
function drawLate() {
  let left = LATE_AT_ONCE;
  for (const row of late) {
    if (!left--) break;
    row.draw();
  }
}

class Row {
  constructor(id, isNear) {
    this.id = id;
    this.line = {}; // what is so
    this.drawn = {}; // what is shown: a row far from the screen is drawn later
    this.isNear = isNear;
    this.node = find("call").content.firstElementChild.cloneNode(true);
    this.node.id = `call-${id}`;
    this.node.querySelector(".name").id = `name-${id}`;
    this.parts = {};
    for (const name of ["state", "name", "when", "about", "progress", "bytes", "sentence", "said", "next", "remedy", "actions"]) {
      this.parts[name] = this.node.querySelector(`.${name}`);
    }
    this.meter = this.parts.progress.querySelector("progress");
    this.buttons = new Map();
    this.node.row = this;
    nearness.observe(this.node);
  }

  show(line) {
    this.line = line;
    if (this.isNear) this.draw();
    else late.add(this);
  }

  draw() {
    const before = this.drawn, line = this.line, parts = this.parts;
    this.drawn = line;
    late.delete(this);
    if (line.state !== before.state) {
      parts.state.textContent = capital(SHOWN_AS[line.state] || line.state);
      this.node.dataset.tone = TONES[line.state] || "bad";
      setText(parts.sentence.firstElementChild, line.state === "running" ? "Earlier" : "Why");
    }
    if (line.name !== before.name) {
      parts.name.textContent = line.name;
      this.meter.setAttribute("aria-label", line.name);
    }
    const about = aboutCall(line);
    if (about !== this.about) parts.about.textContent = this.about = about;
    for (const name of ["sentence", "said", "remedy"]) {
      if (line[name] !== before[name]) this.detail(name, name === "said" ? line.said : capital(line[name] || ""));
    }
    if (line.bytes || before.bytes) this.progress(line.bytes);
    this.tick();
    const plain = !(line.sentence || line.said || this.words || line.remedy);
    if (plain !== this.plain) this.node.classList.toggle("plain", this.plain = plain);
    const isLeft = line.state === "left", wasLeft = before.state === "left";
    if (!isSame(line.actions, before.actions) || isLeft !== wasLeft || state.may_change !== this.mayChange) {
      this.offer(line.actions);
    }
  }

  detail(name, text) {
    this.parts[name].hidden = !text;
    this.parts[name].lastElementChild.textContent = text || "";
  }

  progress(bytes) {
    this.parts.progress.hidden = !bytes;
    if (!bytes) return;
    if (bytes.size) this.meter.value = Math.min(bytes.done / bytes.size, 1);
    else this.meter.removeAttribute("value");
    setText(this.parts.bytes, bytesInWords(bytes));
  }

  // What depends on the time: the countdown, and when it ends.
  tick() {
    const { due, next, deadline, waits_for, state: is } = this.line;
    const when = due ? countdown(due) : "";
    if (when !== this.when) {
      this.parts.when.textContent = this.when = when;
      this.parts.when.title = when && `${this.line.attempt > 1 ? "next try" : "starts"} ${when}`;
    }
    const start = due ? (waits_for ? `, next try at ${clock(due)}` : ` at ${clock(due)}`) : "";
    const end = deadline ? `; gives up at ${clock(deadline)}` : "";
    const asked = state.questions.length > 1 && questionOf(this.line);
    const what = asked ? next.replace("the question above", () => `\u201c${asked.text || asked.name}\u201d`) : next;
    const words = next && !SELF_EVIDENT.has(is) ? capital(what) + start + end : "";
    if (words !== this.words) this.detail("next", this.words = words);
  }

  offer(actions) {
    this.mayChange = state.may_change;
    const wanted = state.may_change ? actions || [] : [];
    for (const [action, button] of this.buttons) {
      if (wanted.includes(action)) continue;
      if (button === document.activeElement) this.node.focus({ preventScroll: true });
      button.remove();
      this.buttons.delete(action);
    }
    let at = this.parts.actions.firstChild;
    for (const action of wanted) {
      const button = this.buttons.get(action) || this.button(action);
      if (!button.classList.contains("sure")) setText(button, labelOf(action, this.line.state));
      if (button === at) at = at.nextSibling;
      else place(button, this.parts.actions, at);
    }
  }

  button(action) {
    const button = make("button", ASKED_TWICE[action] ? "mild" : "", labelOf(action, this.line.state));
    button.type = "button";
    button.dataset.action = action;
    button.title = HINTS[action] || "";
    button.setAttribute("aria-describedby", `name-${this.id}`);
    button.addEventListener("click", () => act(button, "actions", { action, call: this.id }, this));
    this.buttons.set(action, button);
    return button;
  }
}

function aboutCall(line) {
  const kind = line.operation.endsWith(` ${line.name}`) ? line.operation.slice(0, -line.name.length - 1) : line.operation;
  const isNamedSo = line.name === kind || [" ", "["].some((end) => line.name.startsWith(kind + end));
  const words = isNamedSo ? [] : [kind];
  if (line.attempt > 1 && ["waiting", "paused"].includes(line.state)) {
    const times = ["", "once, ", "twice, "][line.failures] ?? `${figure(line.failures)} times, `;
    words.push(`${line.failures >= line.attempt - 1 ? `failed ${times}` : ""}attempt ${line.attempt} comes next`);
  } else if (line.attempt > 1) words.push(`attempt ${line.attempt}`);
  if (line.failures > 1 && !["waiting", "paused"].includes(line.state) && line.failures >= line.attempt - 1) words.push(counted(line.failures, "failure"));
  if (line.waits_for && line.state === "paused" && !asks(line)) words.push(`waits for ${line.waits_for}`);
  if (line.note) words.push(line.note);
  if (line.seen) words.push(`${line.state === "running" && line.bytes ? "latest progress" : SEEN[line.state] || "ended"} ${clock(line.seen)}`);
  return words.join(" \u00b7 ");
}

function groupOf(line) {
  if (["running", "paused", "queued"].includes(line.state)) return "open";
  if (line.state === "waiting") return asks(line) ? "look" : "open";
  return ["succeeded", "cancelled", "repeated"].includes(line.state) ? "over" : "look";
}

const questionOf = (line) => state.questions.find((one) => one.name === line.waits_for);
const asks = (line) => line.waits_for === PERSON || questionOf(line);

class Calls {
  constructor() {
    this.rows = new Map();
    this.group = "all";
    this.words = [];
    this.lists = {};
    this.counts = {};
    this.shown = {};
    for (const group of Object.keys(GROUPS)) {
      this.lists[group] = document.querySelector(`section.group[data-group="${group}"] ul`);
      this.counts[group] = this.shown[group] = 0;
    }
  }

  // Everything anew: rows that exist are kept, and put in the order of the server.
  reset(lines) {
    for (const id of [...this.rows.keys()]) if (!(id in lines)) this.remove(id);
    const last = {};
    for (const [id, line] of Object.entries(lines)) {
      const row = this.put(id, line);
      const after = last[row.group] ? last[row.group].nextSibling : this.lists[row.group].firstChild;
      if (after !== row.node) place(row.node, this.lists[row.group], after);
      last[row.group] = row.node;
    }
    this.count();
  }

  change(lines, gone) {
    for (const id of gone) this.remove(id);
    for (const [id, line] of Object.entries(lines)) this.put(id, line);
    this.count();
  }

  // Another question, or the right to steer, changes rows whose lines are the same.
  again() {
    for (const row of this.rows.values()) this.put(row.id, row.line);
    this.count();
  }

  put(id, line) {
    let row = this.rows.get(id);
    if (!row) this.rows.set(id, row = new Row(id, this.rows.size < DRAWN_AT_ONCE));
    row.show(line);
    const group = groupOf(line);
    if (group !== row.group) {
      if (row.group) this.counts[row.group] -= 1;
      this.counts[row.group = group] += 1;
      // What is under way keeps its place; what needs a look or is over comes first.
      place(row.node, this.lists[group], group === "open" ? null : this.lists[group].firstChild);
    }
    this.filter(row);
    return row;
  }

  remove(id) {
    const row = this.rows.get(id);
    if (!row) return;
    const neighbour = row.node.nextElementSibling || row.node.previousElementSibling || find("calls");
    if (row.node.contains(document.activeElement)) neighbour.focus({ preventScroll: true });
    row.node.remove();
    nearness.unobserve(row.node);
    late.delete(row);
    this.rows.delete(id);
    this.counts[row.group] -= 1;
  }

  filter(row) {
    let fits = this.group === "all" || row.group === this.group;
    if (fits && this.words.length) {
      const { name, operation, state: is, sentence, said, waits_for: cause } = row.line;
      const text = [row.id, name, operation, is, SHOWN_AS[is], sentence, said, cause].join(" ").toLowerCase();
      fits = this.words.every((word) => text.includes(word));
    }
    if (row.fits !== fits) row.node.hidden = !(row.fits = fits);
  }

  search(text) {
    this.words = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of this.rows.values()) this.filter(row);
    this.count();
  }

  select(group) {
    this.group = group;
    for (const chip of document.querySelectorAll(".chips button")) {
      chip.setAttribute("aria-pressed", String(chip.dataset.group === group));
    }
    for (const row of this.rows.values()) this.filter(row);
    this.count();
  }

  count() {
    const shown = { look: 0, open: 0, over: 0 };
    for (const row of this.rows.values()) if (row.fits) shown[row.group] += 1;
    for (const chip of document.querySelectorAll(".chips button")) {
      const number = chip.dataset.group === "all" ? this.rows.size : this.counts[chip.dataset.group];
      setText(chip.lastElementChild, figure(number));
    }
    for (const [group, title] of Object.entries(GROUPS)) {
      const section = title.parentElement;
      if (section.hidden !== !shown[group]) section.hidden = !shown[group];
    }
    const none = !this.rows.size ? "No calls yet." : shown.look + shown.open + shown.over ? "" : "No call fits.";
    find("none").hidden = !none;
    setText(find("none"), none);
  }

  tick() {
    for (const row of this.rows.values()) if (row.isNear && row.line.due) row.tick();
  }
}

// ---------------------------------------------------------------- Questions, incidents, alerts, circuits, charts

// Keeps one node for each item that did not change, so that a half-typed answer and the focus stay.
class Cards {
  constructor(id, build) {
    this.section = find(id);
    this.list = this.section.querySelector(".cards, .plain");
    this.build = build;
    this.nodes = new Map();
  }

  show(items) {
    const old = this.nodes, focused = document.activeElement;
    this.nodes = new Map();
    this.section.hidden = !items.length;
    let at = this.list.firstChild;
    for (const item of items) {
      const key = JSON.stringify([item, state.may_change]);
      const node = old.get(key) || this.build(item);
      old.delete(key);
      this.nodes.set(key, node);
      if (node === at) at = at.nextSibling;
      else place(node, this.list, at);
    }
    for (const node of old.values()) {
      const field = node.contains(document.activeElement) && document.activeElement;
      if (field) find("calls").focus({ preventScroll: true });
      if (field && field.matches("input") && !field.closest("[aria-busy=true], [data-answered]")) say("This question is answered already");
      node.remove();
    }
    if (focused !== document.activeElement) {
      (this.list.contains(focused) ? focused : find("calls")).focus({ preventScroll: true });
    }
  }
}

function card(tag, tone, title, ...rest) {
  const node = make(tag, `card ${tone}`);
  node.append(make("p", "title", title), ...rest.filter(Boolean));
  return node;
}

// The buttons of an incident, which stay the same while its card changes.
const incidentButtons = new Map();
function incidentActions(one) {
  if (!incidentButtons.has(one.name)) incidentButtons.set(one.name, {});
  const buttons = incidentButtons.get(one.name), node = make("div", "actions");
  for (const [action, label] of Object.entries(OF_INCIDENTS)) {
    if (!(action === "probe" ? one.next_probe : one.waiting)) continue;
    if (!buttons[action]) {
      const button = buttons[action] = make("button", ASKED_TWICE[action] ? "mild" : "", label);
      button.type = "button";
      button.title = one.name;
      button.addEventListener("click", () => act(button, "incidents", { action, incident: one.name }));
    }
    node.append(buttons[action]);
  }
  return node;
}

// The host of a circuit, or what else is its key, before its operation.
const placeOf = (name) => name.replace(/^([^[]+)\[(.+)\]$/s, "$2 ($1)");

function incidentCard(one) {
  const gone = one.gave_up ? `, ${counted(one.gave_up, "call")} gave up` : "";
  const small = make("p", "small", `since ${clock(one.since)} · ${counted(one.waiting, "call")} waiting${gone}`);
  if (one.is_probed) small.append(" · it is being tried now");
  else if (one.next_probe) {
    const time = make("span");
    time.dataset.due = one.next_probe;
    time.textContent = countdown(one.next_probe);
    small.append(" · next try ", time, ` at ${clock(one.next_probe)}`);
  }
  const said = one.said && make("p", "said", one.said), buttons = state.may_change && incidentActions(one);
  return card("li", "bad", placeOf(one.name), make("p", "", capital(one.sentence)), said, small, buttons);
}

function alertCard(one) {
  return card("li", "wait", capital(one.sentence), make("p", "small", one.name + (one.since ? ` · since ${clock(one.since)}` : "")));
}

function circuitLine([name, is]) {
  const item = make("li");
  item.dataset.tone = is === "open" ? "bad" : "wait";
  const top = make("span", "top");
  top.append(make("span", "state", capital(is)));
  item.append(make("span", "", placeOf(name)), top);
  return item;
}

function nodeLine([name, is]) {
  const item = make("li");
  item.append(make("strong", "", name), make("span", "quiet", is));
  return item;
}

function chartCard(one) {
  const node = card("figure", "chart", one.title, make("p", "small", one.summary), drawn(one.svg));
  return node;
}

let questions = 0;
function questionCard(one) {
  const id = `question-${++questions}`;
  const parts = [];
  const some = one.waiting || [], others = one.calls - some.length;
  const whose = some.length ? some.join(", ") + (others > 0 ? ` and ${figure(others)} more` : "") : counted(one.calls, "call");
  const waits = one.calls ? `${whose} ${one.calls === 1 ? "waits" : "wait"} for the answer` : "";
  const about = one.name.slice(one.name.indexOf(":") + 1);
  const small = [one.text && !one.text.includes(about) ? one.name : "", waits].filter(Boolean).join(" · ");
  if (small) parts.push(make("p", "small", small));
  if (one.reason) parts.push(make("p", "", `The latest answer did not work: ${one.reason}`));
  const link = safeLink(one.link);
  if (link) parts.push(link);
  const node = card("article", "ask", one.text || one.name, ...parts);
  node.firstElementChild.id = id;
  node.setAttribute("aria-labelledby", id);
  if (state.may_change && one.closed) node.append(make("p", "", one.closed));
  else if (state.may_change) node.append(answerForm(one, id));
  return node;
}

function answerForm(one, id) {
  const form = make("form");
  const [fields, read] = answerFields(one, id);
  form.append(...fields);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.getAttribute("aria-busy") === "true") return;
    form.setAttribute("aria-busy", "true");
    const is_done = await send("answers", { question: one.name, value: read(event.submitter) });
    form.removeAttribute("aria-busy");
    if (!is_done) return;
    form.dataset.answered = "";
    form.reset();
  });
  return form;
}

function submit(text, value, className = "main") {
  const button = make("button", className, text);
  button.type = "submit";
  button.value = value;
  return button;
}

// The fields that take the answer, and how to read them.
function answerFields(one, id) {
  if (one.kind === "confirm") {
    return [[submit("Yes", "yes"), submit("No", "no", "")], (pressed) => !pressed || pressed.value === "yes"];
  }
  if (one.kind === "choice" && one.choices.length <= 5) {
    const set = make("fieldset");
    set.setAttribute("aria-labelledby", id);
    one.choices.forEach((choice) => {
      const label = make("label"), radio = make("input");
      Object.assign(radio, { type: "radio", name: id, value: choice, required: true });
      label.append(radio, ` ${choice}`);
      set.append(label);
    });
    return [[set, submit("Answer", "")], () => set.querySelector(":checked").value];
  }
  const field = make(one.kind === "choice" ? "select" : "input");
  field.setAttribute("aria-labelledby", id);
  field.required = true;
  if (one.kind === "choice") {
    field.append(new Option("Choose one", "")); // which does not answer: the field is required
    for (const choice of one.choices) field.append(new Option(choice, choice));
  } else {
    field.type = one.kind === "secret" ? "password" : "text";
    Object.assign(field, { autocomplete: one.kind === "secret" ? "new-password" : "off", spellcheck: false });
  }
  return [[field, submit("Answer", "")], () => field.value];
}

// ---------------------------------------------------------------- The state

const calls = new Calls();
const cards = {
  questions: new Cards("questions", questionCard),
  incidents: new Cards("incidents", incidentCard),
  alerts: new Cards("alerts", alertCard),
  nodes: new Cards("nodes", nodeLine),
  circuits: new Cards("circuits", circuitLine),
  charts: new Cards("charts", chartCard),
  notes: new Cards("notes", (note) => make("li", "", note)),
};

let spoken = "", spokenAt = -SPOKEN_EVERY, spokenTimer = 0;
function speak() {
  if (spokenTimer || spoken === find("headline").textContent) return;
  spokenTimer = setTimeout(() => {
    [spoken, spokenAt, spokenTimer] = [find("headline").textContent, performance.now(), 0];
    setText(find("spoken"), spoken);
    setTimeout(() => setText(find("spoken"), ""), SPOKEN_EVERY / 10); // so that it is not read a second time in its place
  }, Math.max(spokenAt + SPOKEN_EVERY - performance.now(), 0));
}

function showSections(changed) {
  if (changed.headline !== undefined) {
    setText(find("headline"), capital(changed.headline));
    document.title = capital(changed.headline) || "Recovery";
    speak();
  }
  setText(find("source"), state.source);
  const live = find("live");
  live.hidden = false;
  live.dataset.tone = state.is_live ? "good" : "calm";
  setText(live, state.is_live ? "running" : "not running");
  for (const [name, section] of Object.entries(cards)) {
    if (changed[name] === undefined && changed.may_change === undefined) continue;
    section.show(["nodes", "circuits"].includes(name) ? Object.entries(state[name]) : state[name]);
  }
  if (changed.more !== undefined) {
    const more = Object.entries(changed.more).filter(([, number]) => number);
    find("more").hidden = !more.length;
    setText(find("more"), `Not listed: ${more.map(([is, number]) => `${figure(number)} ${is}`).join(", ")}.`);
  }
}

const DEFAULTS = { notes: [], calls: {}, more: {}, incidents: [], nodes: {}, circuits: {}, questions: [], alerts: [], charts: [] };

function onState(event) {
  state = { ...DEFAULTS, ...JSON.parse(event.data) };
  ahead = state.at - Date.now() / 1000;
  showSections(state);
  calls.reset(state.calls);
}

function onChange(event) {
  const changed = JSON.parse(event.data);
  if (!state) return;
  const { calls: lines, gone, ...others } = changed;
  Object.assign(state, others);
  ahead = state.at - Date.now() / 1000;
  showSections(others);
  calls.change(lines || {}, gone || []);
  if (others.questions || "may_change" in others) calls.again();
}

// ---------------------------------------------------------------- The stream

let stream = null, delay = FIRST_DELAY, retryAt = 0, trouble = "";

function connect() {
  clearStream();
  stream = new EventSource("events");
  stream.addEventListener("state", (event) => {
    [delay, retryAt, trouble] = [FIRST_DELAY, 0, ""];
    showConnection();
    onState(event);
  });
  stream.addEventListener("change", onChange);
  stream.addEventListener("error", () => {
    clearStream();
    retryAt = Date.now() / 1000 + delay * (0.75 + Math.random() / 2);
    delay = Math.min(delay * 2, MOST_DELAY);
    showConnection();
    explain();
  });
}

function clearStream() {
  if (stream) stream.close();
  stream = null;
}

// A stream does not tell why it failed; a request does.
async function explain() {
  try {
    const { status } = await fetch("events", { method: "HEAD" });
    if (status === 401 || status === 403) trouble = "This link is no longer valid: open the latest link that the program printed";
    else if (status === 503) trouble = "Too many pages are open: close some";
    else trouble = "";
  } catch {
    trouble = "";
  }
  showConnection();
}

function showConnection() {
  const [what, when] = find("connection").children;
  const left = Math.max(Math.ceil(retryAt - Date.now() / 1000), 0);
  setText(what, retryAt ? trouble || "Connection lost: what you see may be old. Reconnecting" : "");
  setText(when, retryAt ? (left ? `(next try in ${left} s)` : "now") : "");
}

function tick() {
  if (document.hidden) return;
  calls.tick();
  drawLate();
  for (const node of document.querySelectorAll("[data-due]")) setText(node, countdown(Number(node.dataset.due)));
  if (retryAt && !stream) {
    if (Date.now() / 1000 >= retryAt) connect();
    showConnection();
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearStream();
  else if (!stream) connect();
});
document.querySelector(".chips").addEventListener("click", (event) => {
  const chip = event.target.closest("button");
  if (chip) calls.select(chip.dataset.group);
});
let searchTimer = 0;
find("search").addEventListener("input", (event) => {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(() => calls.search(event.target.value), 100);
});
setInterval(tick, 1000);
if (!document.hidden) connect();
