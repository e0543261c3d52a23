// One session: what became of it, its facts, its steps, its errors.

function fateText(session) {
  const parts = [];
  if (session.ending === "killed") {
    const engine = trace.engines.get(session.engine);
    const step = session.in_flight ? `, ${session.in_flight} in flight` : "";
    parts.push(`Its process (${engineName(session.engine)}) ended in ${session.state}${step}`);
    if (engine) parts.push(`last heard of at ${clock(engine.last_at)}`);
  } else if (session.ending === "orphaned") {
    parts.push(`Handed over to the ledger after ${duration(session.seconds)}`);
  } else if (session.ending === "deleted") {
    parts.push(`Given back after ${duration(session.seconds)}`);
  } else {
    parts.push(`Open in ${session.state} when the trace ends, after ${duration(session.seconds)}`, silence(session));
  }
  parts.push(sweepText(session));
  return `${parts.filter(Boolean).join("; ")}.`;
}

// A process that has ended is not told from one that has nothing to say, until another one sweeps after it.
function silence(session) {
  const engine = trace.engines.get(session.engine);
  const seconds = engine ? trace.last_at - engine.last_at : 0;
  return seconds > 5 ? `nothing was heard of its process for the last ${duration(seconds)}` : "";
}

const OUTCOMES = dictionary({
  deleted: "swept: its chat deleted",
  absent: "swept: no chat of it is left",
  failed: "a sweep failed, and will be tried again",
  dead: "given up as a dead letter",
});

function sweepText(session) {
  const swept = session.swept;
  if (!swept) return session.ending === "killed" || session.status === "left" ? "no sweep seen" : "";
  const code = swept.error_code ? ` (${swept.error_code})` : "";
  const after = duration(Math.max(0, swept.at - session.ended_at));
  return `${OUTCOMES[swept.outcome] ?? swept.outcome}${code} by ${engineName(swept.engine)} at ${clock(swept.at)}, `
    + `${after} later, ${plural(swept.attempts, "try").replace("trys", "tries")}`;
}

function facts(session) {
  const all = [
    ["account", session.account],
    ["service", session.service],
    ["model", session.model],
    ["chat", session.chat],
    ["engine", `${engineName(session.engine)}${session.engine ? `, ${session.engine}` : ""}`],
    ["opened", `${dateTime(session.opened_at)} UTC${session.begun ? "" : " or before"}`],
    ["the account's turn", session.gate_wait_s ? `waited ${duration(session.gate_wait_s)}` : ""],
    ["service's queue", session.queued_s === null ? "" : duration(session.queued_s)],
    ["first token", duration(session.first_token_s)],
    ["tokens", session.token_count ? count(session.token_count) : ""],
    ["retries", session.retries ? count(session.retries) : ""],
    ["queued again", session.requeues ? count(session.requeues) : ""],
    ["polled", session.polled ? "the answer was looked at, not streamed" : ""],
  ];
  return all.filter(([, value]) => value).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
}

const STEP_COLUMNS = [
  { name: "at", class: "number", of: (step) => `+${duration(step.at)}` },
  { name: "step", head: true, of: (step) => step.trigger },
  { name: "to", of: stepEnd },
  { name: "status", class: "number", of: (step) => step.http_status ?? "" },
  { name: "took", class: "number", of: (step) => duration(step.elapsed_s) },
];

// Where a step led, and below it what there is to say of it besides.
function stepEnd(step) {
  const notes = stepNotes(step);
  return make("span", {}, step.dest ?? "failed", notes && make("small", {}, notes));
}

function stepNotes(step) {
  const notes = [];
  if (step.waited_s) notes.push(`${duration(step.waited_s)} for the turn`);
  if (step.retries) notes.push(`repeated ${step.retries}×`);
  if (step.error) notes.push([step.error, step.error_code].filter(Boolean).join(" "));
  return notes.length ? notes.join(", ") : null;
}

function showSession(session) {
  byId("session-title").textContent = `Session ${session.id}`;
  byId("session").dataset.session = session.id;
  const fate = byId("fate");
  fate.className = `fate ${fateOf(session).kind}`;
  fate.replaceChildren(make("span", { class: "mark", "aria-hidden": "true" }, fateOf(session).mark), fateText(session));
  lightPath(session);
  byId("facts").replaceChildren(...facts(session));
  showTable("steps", STEP_COLUMNS, session.steps, { rowClass: (step) => (step.dest === null ? "failed" : ""), page: 40, none: "No step was seen." });
  showSessionErrors(session);
}

function showSessionErrors(session) {
  const left = session.errors_left_out ? [make("li", {}, `${plural(session.errors_left_out, "error")} left out`)] : [];
  byId("session-errors-title").hidden = !session.errors.length;
  byId("session-errors").replaceChildren(...session.errors.slice(0, 100).map((each) => make("li", {},
    make("span", { class: "number quiet" }, `+${duration(Math.max(0, each.at))}`), " ",
    make("b", {}, each.error || "error"), ` ${[each.error_code, each.trigger && `in ${each.trigger}`].filter(Boolean).join(" ")}`)), ...left);
}
