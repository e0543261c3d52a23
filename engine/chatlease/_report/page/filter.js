// What is typed into the filter: words, and `key:value` terms, all of which must hold; a minus before a term negates it.

const IS = dictionary({
  open: (session) => session.status === "open" && session.ending === "open",
  deleted: (session) => session.status === "deleted",
  left: (session) => session.status === "left",
  leaked: (session) => session.status === "left",
  swept: (session) => session.status === "swept",
  killed: (session) => session.ending === "killed",
  orphaned: (session) => session.ending === "orphaned",
  failed: (session) => session.failures > 0,
  retried: (session) => session.retries + session.requeues > 0,
  waited: (session) => session.gate_wait_s > 0,
});

const errorText = (session) => session.errors.map((each) => `${each.error} ${each.error_code}`).join("\n");

const KEYS = dictionary({
  state: (session) => session.state,
  account: (session) => session.account,
  service: (session) => session.service,
  error: errorText,
  id: (session) => session.id,
  chat: (session) => session.chat,
  model: (session) => session.model,
  engine: (session) => `${session.engine} ${session.swept?.engine ?? ""}`,
  pid: (session) => String(trace.engines.get(session.engine)?.pid ?? ""),
});
const EXACT = new Set(["state", "pid"]);
const ANYWHERE = ["id", "account", "service", "chat", "model", "state", "error"];

const textOf = (session) => ANYWHERE.map((key) => KEYS[key](session)).join("\n").toLowerCase();

function termOf(text) {
  const negative = text.startsWith("-") && text.length > 1;
  const bare = negative ? text.slice(1) : text;
  const colon = bare.indexOf(":");
  const key = colon > 0 ? bare.slice(0, colon).toLowerCase() : "";
  const value = bare.slice(colon > 0 ? colon + 1 : 0).replaceAll('"', "").toLowerCase();
  const test = testOf(key, value, bare.replaceAll('"', "").toLowerCase());
  return { text, unknown: test === null, test: negative && test ? (session) => !test(session) : test };
}

function testOf(key, value, whole) {
  if (key === "is") return IS[value] ?? null;
  if (key in KEYS && EXACT.has(key)) return (session) => KEYS[key](session).toLowerCase() === value;
  if (key in KEYS) return (session) => KEYS[key](session).toLowerCase().includes(value);
  return (session) => (session.text ??= textOf(session)).includes(whole);
}

function filterOf(typed) {
  const terms = (typed.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? []).map(termOf);
  const tests = terms.filter((term) => !term.unknown).map((term) => term.test);
  return {
    terms: terms.map((term) => term.text),
    unknown: terms.filter((term) => term.unknown).map((term) => term.text),
    test: (session) => tests.every((test) => test(session)),
  };
}

const quoted = (value) => (/\s/.test(value) ? `"${value}"` : value);

// What the filter box offers: some of what there is, so that a trace of many accounts makes no endless list.
function suggestions() {
  const some = (key, most = 30) => {
    const found = new Set();
    for (const session of trace.sessions) {
      const value = session[key];
      if (value) found.add(value);
      if (found.size >= most) break;
    }
    return [...found].sort().map((value) => `${key}:${quoted(value)}`);
  };
  const errors = new Set(trace.sessions.filter((each) => each.failures).slice(0, 2000)
    .flatMap((each) => each.errors.map((failure) => failure.error)).filter(Boolean));
  return [
    ...Object.keys(IS).map((name) => `is:${name}`),
    ...some("state"),
    ...some("service"),
    ...some("account"),
    ...[...errors].sort().slice(0, 30).map((name) => `error:${name}`),
  ];
}
