// Tables: how long it took, errors, what was left, what was found, engines. Long ones grow by a page at a time.

function showTable(id, columns, rows, { rowClass = () => "", rowData = () => ({}), page = 50, none = "None." } = {}) {
  const table = byId(id);
  const body = make("tbody");
  const foot = make("tfoot");
  const head = make("thead", {}, make("tr", {}, ...columns.map((each) => make("th", { scope: "col", class: each.class }, each.name))));
  const grow = () => {
    const shown = body.childElementCount;
    body.append(...rows.slice(shown, shown + page).map((row) => fill(make("tr", { class: rowClass(row) },
      ...columns.map((each) => make(each.head ? "th" : "td", { class: each.class, scope: each.head ? "row" : null, "data-column": each.name }, each.of(row)))), rowData(row), [])));
    const left = rows.length - body.childElementCount;
    foot.replaceChildren(...(left > 0 ? [moreRow(left, Math.min(left, page), columns.length, grow)] : []));
  };
  if (rows.length) grow();
  else body.append(make("tr", {}, make("td", { class: "quiet", colspan: columns.length }, none)));
  table.replaceChildren(head, body, foot);
}

function moreRow(left, next, columns, grow) {
  const button = make("button", { type: "button" }, `Show ${count(next)} more of ${count(left)}`);
  button.addEventListener("click", grow);
  return make("tr", {}, make("td", { colspan: columns }, button));
}

function link(text, label, act) {
  const button = make("button", { type: "button", class: "link", "aria-label": label }, text);
  button.addEventListener("click", act);
  return button;
}

// -- how long it took

const RANK = ["ready_cookies", "create_chat", "send_prompt", "turn", "queue_assistant", "open_stream", "first-token", "stop_run", "delete_chat", "abandon", "hand_over", "session"];
const LATENCY_NAMES = dictionary({ turn: "the account's turn", "first-token": "first token", session: "whole session" });
const rankOf = (name) => (RANK.indexOf(name) < 0 ? RANK.length : RANK.indexOf(name));

const atRank = (sorted, share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];

function latencies(sessions) {
  const found = new Map();
  const add = (name, seconds) => (found.get(name) ?? found.set(name, []).get(name)).push(seconds);
  for (const session of sessions) {
    for (const step of session.steps) if (step.dest !== null) add(step.trigger, step.elapsed_s);
    if (session.gate_wait_s) add("turn", session.gate_wait_s);
    if (session.first_token_s !== null) add("first-token", session.first_token_s);
    if (session.begun && (session.ending === "deleted" || session.ending === "orphaned")) add("session", session.seconds);
  }
  return [...found].map(([name, values]) => {
    const sorted = Float64Array.from(values).sort();
    return { name, count: sorted.length, p50: atRank(sorted, 0.5), p90: atRank(sorted, 0.9), p99: atRank(sorted, 0.99), longest: sorted.at(-1) };
  });
}

function spreadOf(row, shortest, longest) {
  const low = Math.log(shortest);
  const width = Math.log(longest) - low || 1;
  const at = (seconds) => (100 * (Math.log(Math.max(seconds, shortest)) - low)) / width;
  return draw("svg", { class: "spread", viewBox: "-3 0 106 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("path", { class: "whisker", d: `M${at(row.p50)} 5H${at(row.longest)}` }),
    draw("path", { class: "body", d: `M${at(row.p50)} 5H${at(row.p90)}` }),
    draw("path", { class: "median", d: `M${at(row.p50)} 1V9` }));
}

function showLatency(sessions, { all }) {
  const rows = (all ? trace.latency : latencies(sessions)).sort((one, other) => rankOf(one.name) - rankOf(other.name));
  const shortest = Math.max(1e-5, Math.min(...rows.map((row) => row.p50)));
  const longest = Math.max(shortest * 10, ...rows.map((row) => row.longest));
  const figure = (name, of) => ({ name, class: "number", of: (row) => duration(of(row)) });
  showTable("latency", [
    { name: "step", head: true, of: (row) => LATENCY_NAMES[row.name] ?? row.name },
    { name: "count", class: "number", of: (row) => count(row.count) },
    figure("p50", (row) => row.p50),
    figure("p90", (row) => row.p90),
    figure("p99", (row) => row.p99),
    figure("max", (row) => row.longest),
    { name: "p50 – p90 – max", of: (row) => spreadOf(row, shortest, longest) },
  ], rows, { none: "No step was seen." });
  byId("latency-of").textContent = ofWhat(sessions, all);
}

const ofWhat = (sessions, all) => (all
  ? `Of all ${plural(trace.sums.sessions, "session")} of the trace, percentiles within 1 %`
  : `Of the ${plural(sessions.length, "session")} shown`);

// -- errors

function errorKinds(sessions) {
  const found = new Map();
  for (const session of sessions) {
    for (const each of session.errors) {
      const key = `${each.error}\n${each.error_code}\n${each.trigger}`;
      const kind = found.get(key) ?? found.set(key, { ...each, count: 0, last_at: 0 }).get(key);
      kind.count += 1;
      kind.last_at = Math.max(kind.last_at, session.opened_at + each.at);
    }
  }
  return [...found.values()].sort((one, other) => other.count - one.count);
}

function showErrors(sessions, { all, add }) {
  const rows = all ? trace.errors : errorKinds(sessions);
  showTable("errors", [
    { name: "error", head: true, of: (row) => link(row.error || "–", `Show only sessions with ${row.error}`, () => add(`error:${quoted(row.error || row.error_code)}`)) },
    { name: "code", of: (row) => row.error_code },
    { name: "in", of: (row) => row.trigger },
    { name: "count", class: "number", of: (row) => count(row.count) },
    { name: "last (UTC)", class: "number", of: (row) => dateTime(row.last_at) },
  ], rows, { page: 12, none: "None." });
  byId("errors-of").textContent = ofWhat(sessions, all);
}

// -- what was left

const SWEPT_WORDS = dictionary({ deleted: "deleted", absent: "none left", failed: "failed, tried again", dead: "dead letter" });

function showLeft(sessions, choose) {
  const rows = sessions.filter((each) => each.ending === "killed" || each.ending === "orphaned");
  rows.sort((one, other) => (one.status === "left" ? 0 : 1) - (other.status === "left" ? 0 : 1) || one.ended_at - other.ended_at);
  showTable("left", [
    { name: "session", head: true, of: (row) => link(shortId(row.id), `Show session ${row.id}`, () => choose(row)) },
    { name: "account", of: (row) => row.account },
    { name: "ended", of: (row) => (row.ending === "killed" ? "killed" : "handed over") },
    { name: "last state", of: lastState },
    { name: "in flight", of: (row) => row.in_flight ?? "" },
    { name: "lost by", of: (row) => engineName(row.engine) },
    { name: "swept by", of: (row) => (row.swept ? engineName(row.swept.engine) : "nobody") },
    { name: "at (UTC)", class: "number", of: (row) => (row.swept ? clock(row.swept.at) : "") },
    { name: "after", class: "number", of: (row) => (row.swept ? duration(Math.max(0, row.swept.at - row.ended_at)) : "") },
    { name: "tries", class: "number", of: (row) => (row.swept ? count(row.swept.attempts) : "") },
    { name: "chat", of: (row) => (row.swept ? SWEPT_WORDS[row.swept.outcome] ?? row.swept.outcome : "") },
  ], rows, { rowClass: (row) => (row.status === "left" ? "failed" : ""), rowData: (row) => ({ "data-session": row.id }), page: 25, none: "Nothing was left." });
}

// The state that a session had before it was handed over: `orphaned` says nothing of where it stood.
function lastState(session) {
  const handed = session.steps.findLast((step) => step.dest === "orphaned");
  return handed ? handed.source : session.state;
}

function showFinds() {
  byId("finds-card").hidden = !trace.finds.length;
  showTable("finds", [
    { name: "chat", head: true, of: (row) => row.chat },
    { name: "account", of: (row) => row.account },
    { name: "service", of: (row) => row.service },
    { name: "what", of: (row) => (row.what === "deleted" ? "deleted" : "only reported") },
    { name: "by", of: (row) => engineName(row.engine) },
    { name: "at (UTC)", class: "number", of: (row) => dateTime(row.at) },
  ], trace.finds, { rowData: (row) => ({ "data-chat": row.chat }), page: 15 });
}

// -- engines

function showEngines(sessions, add) {
  const own = summed(sessions, (each) => each.engine, () => 0);
  const killed = summed(sessions.filter(IS.killed), (each) => each.engine, () => 0);
  const swept = summed(sessions.filter((each) => each.swept), (each) => each.swept.engine, () => 0);
  const of = (sums, id) => sums.get(id)?.times ?? 0;
  const rows = [...trace.engines.values()].filter((each) => of(own, each.id) || of(swept, each.id));
  rows.sort((one, other) => of(killed, other.id) - of(killed, one.id) || one.first_at - other.first_at);
  showTable("engines", [
    { name: "engine", head: true, of: (row) => link(row.id || "unknown", `Show only sessions of engine ${row.id}`, () => add(`engine:${row.id}`)) },
    { name: "process", of: (row) => engineName(row.id) },
    { name: "version", of: (row) => row.version },
    { name: "ledger", of: (row) => row.ledger },
    { name: "opened (UTC)", class: "number", of: (row) => (row.opened_at === null ? "before" : dateTime(row.opened_at)) },
    { name: "last heard of", class: "number", of: (row) => dateTime(row.last_at) },
    { name: "ended", of: (row) => (row.closed_at !== null ? "closed" : row.dead ? "killed" : "end not seen") },
    { name: "sessions", class: "number", of: (row) => count(of(own, row.id)) },
    { name: "killed", class: "number", of: (row) => count(of(killed, row.id)) },
    { name: "swept", class: "number", of: (row) => count(of(swept, row.id)) },
  ], rows, { rowData: (row) => ({ "data-engine": row.id }), page: 15 });
}
