// The page: what is shown now, and what keys and pointers do.

const view = { axis: "clock", order: "start", from: 0, until: trace.span, sessions: [], rows: [], index: -1, chosen: null };

// -- what is shown

function showHeader() {
  const files = trace.files.length > 3 ? `${trace.files.slice(0, 2).join(", ")} and ${trace.files.length - 2} more` : trace.files.join(", ");
  const parts = [files, `${dateTime(trace.first_at)} to ${dateTime(trace.last_at)} UTC`, duration(trace.span), plural(trace.engines.size, "engine")];
  byId("span").textContent = parts.filter(Boolean).join(" · ");
  const { sums } = trace;
  const notices = [
    sums.shown < sums.sessions && `${count(sums.sessions - sums.shown)} of ${plural(sums.sessions, "session")} are left out: of those that went well, the oldest.`,
    sums.broken && `${plural(sums.broken, "broken line")} passed over.`,
    sums.newer && `${plural(sums.newer, "line")} of a later version passed over.`,
    sums.lost && `${plural(sums.lost, "line")} missing: the file could not be written then.`,
    sums.let_go && `The end of ${plural(sums.let_go, "session")} was not awaited: too many were open at once.`,
  ].filter(Boolean);
  byId("notice").hidden = !notices.length;
  byId("notice").textContent = notices.join(" ");
}

function applyFilter() {
  const filter = filterOf(byId("filter").value);
  view.sessions = filter.terms.length ? trace.sessions.filter(filter.test) : trace.sessions;
  const all = !filter.terms.length && trace.sums.shown < trace.sums.sessions;
  for (const chip of document.querySelectorAll("#chips button")) {
    chip.setAttribute("aria-pressed", String(filter.terms.includes(chip.dataset.term)));
  }
  const unknown = filter.unknown.length ? ` Not understood: ${filter.unknown.join(" ")}` : "";
  byId("found").textContent = `${count(view.sessions.length)} of ${plural(trace.sessions.length, "session")}.${unknown}`;
  showSums(view.sessions);
  showShares(view.sessions);
  showLatency(view.sessions, { all });
  showErrors(view.sessions, { all, add: addTerm });
  showLeft(view.sessions, choose);
  showEngines(view.sessions, addTerm);
  showOverview(view);
  if (view.axis === "start") [view.from, view.until] = wholeTime(view);
  order();
}

function order() {
  view.rows = ordered(view.sessions, view.order);
  view.index = view.rows.findIndex((session) => session.id === view.chosen);
  byId("rows").scrollTop = 0;
  showRows(view);
}

function setTime(from, until) {
  const least = view.axis === "clock" ? trace.span / 1e5 : 1e-4;
  view.from = from;
  view.until = Math.max(until, from + least);
  showWindow(view);
  showRows(view);
}

function zoom(factor) {
  const middle = view.axis === "clock" ? (view.from + view.until) / 2 : view.from;
  const from = Math.max(0, middle - (middle - view.from) * factor);
  const until = middle + (view.until - middle) * factor;
  setTime(from, view.axis === "clock" ? Math.min(trace.span, until) : until);
}

function move(share) {
  const by = Math.max(-view.from, share * (view.until - view.from));
  const most = view.axis === "clock" ? Math.max(0, trace.span - view.until) : Infinity;
  setTime(view.from + Math.min(by, most), view.until + Math.min(by, most));
}

// -- choosing

function choose(session) {
  view.chosen = session.id;
  view.index = view.rows.indexOf(session);
  if (view.index >= 0) showIndex(view);
  showRows(view);
  showSession(session);
  remember(session.id);
}

// The address keeps the session, so that a reload or a link shows it again.
function remember(id) {
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
}

function chooseIndex(index) {
  const session = view.rows[Math.max(0, Math.min(view.rows.length - 1, index))];
  if (session) choose(session);
}

function remembered() {
  try {
    return sessionsById.get(decodeURIComponent(location.hash.slice(1)));
  } catch {
    return undefined;
  }
}

const firstWorthSeeing = () =>
  trace.sessions.find(IS.left) ?? trace.sessions.find(IS.swept) ?? trace.sessions.find(IS.failed) ?? trace.sessions[0];

// -- the filter

let waiting = 0;

function filterSoon() {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(applyFilter);
}

function setFilter(terms) {
  byId("filter").value = terms.join(" ");
  applyFilter();
}

const addTerm = (term) => setFilter([...new Set([...filterOf(byId("filter").value).terms, term])]);

function toggleTerm(term) {
  const { terms } = filterOf(byId("filter").value);
  setFilter(terms.includes(term) ? terms.filter((each) => each !== term) : [...terms, term]);
}

function makeChips() {
  const chips = [["is:left", "Left"], ["is:swept", "Swept"], ["is:killed", "Killed"], ["is:orphaned", "Handed over"], ["is:failed", "With errors"], ["is:waited", "Waited for the turn"], ["is:open", "Open"]];
  byId("chips").replaceChildren(...chips.map(([term, name]) => {
    const chip = make("button", { type: "button", "data-term": term, "aria-pressed": "false" }, name);
    chip.addEventListener("click", () => toggleTerm(term));
    return chip;
  }));
  byId("terms").replaceChildren(...suggestions().map((value) => make("option", { value })));
}

// -- keys and pointers

const ROW_KEYS = dictionary({
  ArrowDown: () => chooseIndex(view.index + 1),
  ArrowUp: () => chooseIndex(view.index < 0 ? 0 : view.index - 1),
  Home: () => chooseIndex(0),
  End: () => chooseIndex(view.rows.length - 1),
  PageDown: () => chooseIndex(view.index + pageOfRows()),
  PageUp: () => chooseIndex(view.index - pageOfRows()),
  Enter: () => byId("session-title").focus(),
  "+": () => zoom(0.5),
  "=": () => zoom(0.5),
  "-": () => zoom(2),
  0: () => setTime(...wholeTime(view)),
});
const pageOfRows = () => Math.max(1, Math.floor(byId("rows").clientHeight / ROW) - 1);

function onRowKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const sideways = { ArrowLeft: -0.2, ArrowRight: 0.2 }[event.key];
  const act = sideways && event.shiftKey ? () => move(sideways) : ROW_KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function onAnyKey(event) {
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    byId("filter").select();
    byId("filter").focus();
  } else if (event.key === "Escape" && document.activeElement !== byId("rows")) {
    byId("rows").focus();
  }
}

function onPick(event) {
  const row = event.target.closest("[data-session]");
  if (row) choose(sessionsById.get(row.dataset.session));
}

function onWheel(event) {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(event.deltaY > 0 ? 1.25 : 0.8);
}

function wire() {
  byId("filter").addEventListener("input", filterSoon);
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    applyFilter();
    byId("rows").focus();
  });
  byId("rows").addEventListener("keydown", onRowKey);
  byId("rows").addEventListener("click", onPick);
  byId("rows").addEventListener("wheel", onWheel, { passive: false });
  byId("rows").addEventListener("scroll", () => requestAnimationFrame(() => showRows(view)), { passive: true });
  document.addEventListener("keydown", onAnyKey);
  new ResizeObserver(() => showRows(view)).observe(byId("rows"));
  byId("order").addEventListener("change", (event) => {
    view.order = event.target.value;
    order();
  });
  byId("zoom-in").addEventListener("click", () => zoom(0.5));
  byId("zoom-out").addEventListener("click", () => zoom(2));
  byId("zoom-all").addEventListener("click", () => setTime(...wholeTime(view)));
  byId("axis").addEventListener("change", (event) => setAxis(event.target.value));
  byId("theme").addEventListener("change", (event) => setTheme(event.target.value));
  wireOverview((from, until) => {
    setAxis("clock");
    setTime(from, until);
  });
  addEventListener("hashchange", () => remembered() && choose(remembered()));
}

function setAxis(axis) {
  if (axis === view.axis) return;
  view.axis = axis;
  document.querySelector(`#axis input[value=${axis}]`).checked = true;
  setTime(...wholeTime(view));
}

// Where a file may keep nothing (some browsers give pages from disk no storage), the choice holds until it is closed.
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.querySelector(`#theme input[value="${theme}"]`).checked = true;
  try {
    localStorage.setItem("chatlease-theme", theme);
  } catch {
    return;
  }
}

function storedTheme() {
  try {
    return localStorage.getItem("chatlease-theme") ?? "";
  } catch {
    return "";
  }
}

// Sessions that are short beside the whole trace are but dots by the clock.
function bestAxis() {
  const seconds = trace.sessions.map((session) => session.seconds).sort((one, other) => one - other);
  return trace.span > 40 * (seconds[Math.floor(seconds.length / 2)] ?? 1) ? "start" : "clock";
}

showHeader();
makeChips();
wire();
setTheme(["light", "dark"].includes(storedTheme()) ? storedTheme() : "");
document.querySelector("#axis input[value=clock]").checked = true;
showFinds();
applyFilter();
setAxis(bestAxis());
const first = remembered() ?? firstWorthSeeing();
if (first) choose(first);
document.documentElement.dataset.ready = "yes";
