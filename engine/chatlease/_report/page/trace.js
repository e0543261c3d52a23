// The document of this page, unpacked: rows become objects, numbers become the words that they stand for.

const given = JSON.parse(byId("trace").textContent);

const word = (value) => (typeof value === "number" ? given.words[value] : value);
const unpack = (kind, row) => Object.fromEntries(given.fields[kind].map((name, index) => [name, row[index]]));

function unpackedStep(row) {
  const step = unpack("step", row);
  return { ...step, trigger: word(step.trigger), source: word(step.source), dest: word(step.dest) };
}

function unpackedFailure(row) {
  const failure = unpack("failure", row);
  return { ...failure, trigger: word(failure.trigger) };
}

function unpackedPhase(row) {
  const phase = unpack("phase", row);
  return { ...phase, name: word(phase.name) };
}

// A session is unpacked as far as all of them are looked at; its steps, errors and phases when they are.
class Session {
  #row;

  constructor(row) {
    const fields = unpack("session", row);
    this.#row = fields;
    for (const [name, value] of Object.entries(fields)) {
      if (!["steps", "errors", "phases", "swept"].includes(name)) this[name] = value;
    }
    this.state = word(fields.state);
    this.in_flight = word(fields.in_flight);
    this.swept = fields.swept && unpack("sweep", fields.swept);
    this.seconds = Math.max(0, this.ended_at - this.opened_at);
    this.failures = fields.errors.length + fields.errors_left_out;
  }

  get steps() {
    return this.#once("steps", unpackedStep);
  }

  get errors() {
    return this.#once("errors", unpackedFailure);
  }

  get phases() {
    return this.#once("phases", unpackedPhase);
  }

  #once(name, unpacked) {
    const value = this.#row[name].map(unpacked);
    Object.defineProperty(this, name, { value });
    return value;
  }
}

const trace = {
  ...given,
  span: Math.max(0.001, given.last_at - given.first_at),
  phases: given.phases.map(word),
  engines: new Map(given.engines.map((row) => [row[0], unpack("engine", row)])),
  sessions: given.sessions.map((row) => new Session(row)),
  finds: given.finds.map((row) => unpack("find", row)),
  latency: given.latency.map((row) => unpack("latency", row)).map((row) => ({ ...row, name: word(row.name) })),
  errors: given.errors.map((row) => unpack("error", row)).map((row) => ({ ...row, trigger: word(row.trigger) })),
};
const sessionsById = new Map(trace.sessions.map((session) => [session.id, session]));

const PHASE_NAMES = dictionary({
  turn: "waiting for the turn",
  "first-token": "until the first token",
  "giving-back": "giving back",
  left: "left behind",
});
const phaseName = (name) => PHASE_NAMES[name] ?? name;
const phaseClass = (name) => `p${trace.phases.indexOf(name)}`;

const shortId = (id) => (id.length > 12 ? `…${id.slice(-8)}` : id);

function engineName(id) {
  const engine = trace.engines.get(id);
  if (!engine || engine.pid === null) return id || "unknown";
  return `pid ${engine.pid}${engine.host ? ` on ${engine.host}` : ""}`;
}

// What became of a session: a mark that is no colour, and words.
function fateOf(session) {
  if (session.status === "swept") return { mark: "◒", kind: "swept", word: "swept" };
  if (session.status === "deleted") return { mark: "●", kind: "deleted", word: "deleted" };
  if (session.ending === "killed") return { mark: "✕", kind: "left", word: session.status === "left" ? "left" : "killed" };
  if (session.status === "left") return { mark: "✕", kind: "left", word: "left" };
  return { mark: "○", kind: "open", word: "open" };
}

// How often something is there, and how many seconds in all, by a key.
function summed(items, key, value) {
  const found = new Map();
  for (const item of items) {
    const sum = found.get(key(item)) ?? { times: 0, seconds: 0 };
    sum.times += 1;
    sum.seconds += value(item);
    found.set(key(item), sum);
  }
  return found;
}
