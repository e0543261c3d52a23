// The way of a session through the lifecycle: its states and transitions lit, with their times.

const edges = new Map([...document.querySelectorAll("[data-edge]")].map((each) => [each.dataset.edge, each]));
const states = new Map([...document.querySelectorAll("[data-state]")].map((each) => [each.dataset.state, each]));
const edgesFrom = (trigger, source) =>
  [...edges].filter(([name]) => name.startsWith(`${trigger} ${source} `)).map(([, edge]) => edge);

function clearPath() {
  for (const each of [...edges.values(), ...states.values()]) {
    each.classList.remove("lit", "failed", "flight", "last");
    each.querySelector(".time").textContent = "";
  }
}

const timesAndSeconds = ({ times, seconds }) => `${times > 1 ? `${times}× ` : ""}${duration(seconds)}`;

// Seconds in each state: of what was seen, from reaching it until leaving it.
function statesOf(session) {
  const stays = [];
  let since = 0;
  let state = session.begun ? "new" : null;
  for (const step of session.steps.filter((each) => each.dest !== null)) {
    const left = step.at + step.elapsed_s;
    if (state === step.source) stays.push({ state, seconds: Math.max(0, left - since) });
    else stays.push({ state: step.source, seconds: step.elapsed_s });
    [state, since] = [step.dest, left];
  }
  stays.push({ state: state ?? session.state, seconds: Math.max(0, session.seconds - since) });
  return summed(stays, (stay) => stay.state, (stay) => stay.seconds);
}

// Light a transition, above those that are not lit.
function light(edge, how, text) {
  edge.classList.add(how);
  edge.querySelector(".time").textContent = text;
  edge.parentNode.insertBefore(edge, states.get("new"));
}

function lightEdges(session) {
  const done = session.steps.filter((step) => step.dest !== null);
  for (const [name, sum] of summed(done, (step) => `${step.trigger} ${step.source} ${step.dest}`, (step) => step.elapsed_s)) {
    const edge = edges.get(name);
    if (!edge) continue;
    light(edge, "lit", timesAndSeconds(sum));
  }
}

function markFailures(session) {
  const failed = summed(session.steps.filter((step) => step.dest === null), (step) => `${step.trigger} ${step.source}`, () => 0);
  for (const [name, { times }] of failed) {
    for (const edge of edgesFrom(...name.split(" "))) {
      if (edge.classList.contains("lit")) edge.querySelector(".time").textContent += `, ${times}× failed`;
      else light(edge, "failed", `${times}× failed`);
    }
  }
}

function markFlight(session) {
  if (session.in_flight === null) return;
  for (const edge of edgesFrom(session.in_flight, session.state)) {
    if (!edge.classList.contains("lit")) light(edge, "flight", "in flight");
  }
}

function lightPath(session) {
  clearPath();
  for (const [name, sum] of statesOf(session)) {
    const state = states.get(name);
    if (!state) continue;
    state.classList.add("lit");
    state.querySelector(".time").textContent = state.classList.contains("final") ? "" : timesAndSeconds(sum);
  }
  states.get(session.state)?.classList.add("last");
  lightEdges(session);
  markFailures(session);
  markFlight(session);
  const path = [session.begun ? "new" : null, ...session.steps.map((step) => step.dest)].filter(Boolean);
  document.querySelector(".lifecycle").setAttribute("aria-label", `The way of this session: ${path.join(", ") || session.state}`);
}
