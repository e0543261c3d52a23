// A row for each session. Only the rows that can be seen are elements, however many sessions there are.

const ROW = 24;
const SPARE = 6;

const ORDERS = {
  start: null,
  long: (session) => session.seconds,
  turn: (session) => session.gate_wait_s,
  "first-token": (session) => session.first_token_s ?? -1,
  errors: (session) => session.failures + session.retries + session.requeues,
};

function ordered(sessions, order) {
  const worth = ORDERS[order];
  return worth ? [...sessions].sort((one, other) => worth(other) - worth(one)) : sessions;
}

// The time that the rows show when nothing was chosen: all of it, or, from their starts, what 95 of 100 take.
function wholeTime(view) {
  if (view.axis === "clock") return [0, trace.span];
  const seconds = view.sessions.map((session) => session.seconds).sort((one, other) => one - other);
  return [0, Math.max(0.001, 1.05 * (seconds[Math.floor(0.95 * (seconds.length - 1))] ?? 1))];
}

function segments(session, view) {
  const shift = view.axis === "clock" ? session.opened_at - trace.first_at : 0;
  const width = view.until - view.from;
  const found = [];
  for (const phase of session.phases) {
    const from = (shift + phase.at - view.from) / width;
    const until = from + phase.seconds / width;
    if (until <= 0 || from >= 1) continue;
    const part = make("i", { class: phaseClass(phase.name), title: `${phaseName(phase.name)} ${duration(phase.seconds)}` });
    place(part, Math.max(0, from), Math.min(1, until) - Math.max(0, from));
    found.push(part);
  }
  if (session.swept && view.axis === "clock") {
    const at = (session.swept.at - trace.first_at - view.from) / width;
    if (at > 0 && at < 1) {
      found.push(atShare(make("b", { class: "sweep", title: `swept by ${engineName(session.swept.engine)}` }), at));
    }
  }
  return found;
}

function spoken(session) {
  const parts = [`session ${session.id}`, session.account, `${fateOf(session).word}`, `last state ${session.state}`, duration(session.seconds)];
  if (session.gate_wait_s) parts.push(`waited ${duration(session.gate_wait_s)} for the turn`);
  if (session.failures) parts.push(plural(session.failures, "error"));
  return parts.filter(Boolean).join(", ");
}

function rowOf(session, index, view) {
  const fate = fateOf(session);
  const row = make("div", {
    class: `row ${fate.kind}`,
    id: `row-${index}`,
    role: "option",
    "aria-selected": session.id === view.chosen ? "true" : "false",
    "aria-posinset": index + 1,
    "aria-setsize": view.rows.length,
    "aria-label": spoken(session),
    "data-session": session.id,
  },
    make("span", { class: "mark" }, fate.mark),
    make("span", { class: "id" }, shortId(session.id)),
    make("span", { class: "account" }, session.account),
    make("span", { class: "state" }, session.state),
    make("span", { class: "track" }, ...segments(session, view)),
    make("span", { class: "took" }, duration(session.seconds)));
  row.style.top = `${index * ROW}px`;
  return row;
}

function showRows(view) {
  const box = byId("rows");
  const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE);
  const last = Math.min(view.rows.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + SPARE);
  const all = byId("all-rows");
  all.style.height = `${view.rows.length * ROW}px`;
  all.replaceChildren(gridOf(view), ...view.rows.slice(first, last).map((session, index) => rowOf(session, first + index, view)));
  const at = view.index;
  if (at >= first && at < last) box.setAttribute("aria-activedescendant", `row-${at}`);
  else box.removeAttribute("aria-activedescendant");
  showTicks(view);
}

// Where the axis is marked: shares of the width, and what stands there.
function marksOf(view) {
  const span = view.until - view.from;
  const step = tickStep(span, 5);
  const offset = view.axis === "clock" ? trace.first_at : 0;
  const marks = [];
  for (let at = Math.ceil((view.from + offset) / step) * step; at <= view.until + offset; at += step) {
    marks.push({ share: (at - offset - view.from) / span, text: view.axis === "clock" ? clockTick(at, step) : duration(at) });
  }
  return marks;
}

function atShare(element, share) {
  element.style.left = `${(100 * share).toFixed(3)}%`;
  return element;
}

function showTicks(view) {
  const ticks = marksOf(view).filter(({ share }) => share < 0.92);
  byId("ticks").replaceChildren(make("div", { class: "track" }, ...ticks.map(({ share, text }) => atShare(make("span", {}, text), share))));
}

function gridOf(view) {
  const lines = marksOf(view).map(({ share }) => atShare(make("i"), share));
  return make("div", { class: "grid", "aria-hidden": "true" }, make("div", { class: "track" }, ...lines));
}

function clockTick(at, step) {
  if (step >= 86400) return day(at);
  return step >= 60 ? clock(at).slice(0, 5) : step >= 1 ? clock(at).slice(0, 8) : clock(at).slice(3);
}

function showIndex(view) {
  const box = byId("rows");
  const top = view.index * ROW;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
}
