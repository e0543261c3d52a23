// The whole trace by the clock: how many sessions were in which phase at once. Dragging over it chooses a time.

const BUCKETS = 240;
const HIGH = 64;

// Sessions at once in each bucket, by phase: seconds spent in it, divided by its length.
function crowd(sessions) {
  const length = trace.span / BUCKETS;
  const found = new Map(trace.phases.map((name) => [name, new Float64Array(BUCKETS)]));
  for (const session of sessions) {
    for (const phase of session.phases) {
      const into = found.get(phase.name);
      if (into) spread(into, session.opened_at - trace.first_at + phase.at, phase.seconds, length);
    }
  }
  return found;
}

function spread(into, since, seconds, length) {
  const first = Math.max(0, Math.floor(since / length));
  const last = Math.min(BUCKETS - 1, Math.floor((since + seconds) / length));
  for (let bucket = first; bucket <= last; bucket += 1) {
    const covered = Math.min(since + seconds, (bucket + 1) * length) - Math.max(since, bucket * length);
    if (covered > 0) into[bucket] += covered / length;
  }
}

function stacked(found) {
  const below = new Float64Array(BUCKETS);
  const layers = [];
  for (const [name, values] of found) {
    if (!values.some((value) => value > 0)) continue;
    const floor = below.slice();
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) below[bucket] += values[bucket];
    layers.push({ name, floor, roof: below.slice() });
  }
  return { layers, most: Math.max(1, ...below) };
}

function area({ floor, roof }, most) {
  const y = (value) => (HIGH * (1 - value / most)).toFixed(2);
  let path = `M0 ${y(floor[0])}`;
  for (let bucket = 0; bucket < BUCKETS; bucket += 1) path += `V${y(roof[bucket])}H${bucket + 1}`;
  for (let bucket = BUCKETS - 1; bucket >= 0; bucket -= 1) path += `V${y(floor[bucket])}H${bucket}`;
  return `${path}Z`;
}

function showOverview(view) {
  const { layers, most } = stacked(crowd(view.sessions));
  const picture = draw("svg", { viewBox: `0 0 ${BUCKETS} ${HIGH}`, preserveAspectRatio: "none" },
    ...layers.map((layer) => draw("path", { class: phaseClass(layer.name), d: area(layer, most) })));
  const label = make("span", { class: "most" }, `${plural(Math.round(most), "session")} at once`);
  byId("overview").replaceChildren(picture, label, make("i", { id: "window" }));
  showWindow(view);
}

function showWindow(view) {
  const frame = byId("window");
  const all = view.from <= 0 && view.until >= trace.span;
  frame.hidden = all || view.axis !== "clock";
  place(frame, Math.max(0, view.from / trace.span), Math.min(1, (view.until - view.from) / trace.span));
}

function wireOverview(choose) {
  const overview = byId("overview");
  let began = null;
  const at = (event) => {
    const box = overview.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * trace.span;
  };
  overview.addEventListener("pointerdown", (event) => {
    began = at(event);
    overview.setPointerCapture(event.pointerId);
  });
  overview.addEventListener("pointermove", (event) => {
    if (began !== null && Math.abs(at(event) - began) > trace.span / 400) choose(Math.min(began, at(event)), Math.max(began, at(event)));
  });
  overview.addEventListener("pointerup", (event) => {
    if (began !== null && Math.abs(at(event) - began) <= trace.span / 400) choose(0, trace.span);
    began = null;
  });
}
