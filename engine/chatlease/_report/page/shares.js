// The sums at the top, and where the time went: the time in each phase, over the sessions that are shown.

function showSums(sessions) {
  const number = (test) => sessions.filter(test).length;
  const sums = [
    ["sessions", count(sessions.length), ""],
    ["deleted", count(number(IS.deleted)), ""],
    ["left", count(number(IS.left)), "is:left"],
    ["swept", count(number(IS.swept)), "is:swept"],
    ["killed", count(number(IS.killed)), "is:killed"],
    ["open", count(number(IS.open)), "is:open"],
    ["with errors", count(number(IS.failed)), "is:failed"],
    ["tokens", count(sessions.reduce((sum, session) => sum + session.token_count, 0)), ""],
  ];
  byId("sums").replaceChildren(...sums.map(([name, value, term]) =>
    make("div", { class: term === "is:left" && value !== "0" ? "alarm" : "" }, make("dt", {}, name), make("dd", {}, value))));
}

function phaseTotals(sessions) {
  const totals = new Map(trace.phases.map((name) => [name, 0]));
  for (const session of sessions) {
    for (const phase of session.phases) totals.set(phase.name, (totals.get(phase.name) ?? 0) + phase.seconds);
  }
  return totals;
}

// A chat that is left behind costs nobody's time: it stands in the legend, but not in the bar.
function showShares(sessions) {
  const totals = [...phaseTotals(sessions)];
  const sum = totals.reduce((all, [name, seconds]) => all + (name === "left" ? 0 : seconds), 0);
  let at = 0;
  const parts = totals.filter(([name, seconds]) => name !== "left" && seconds > 0).map(([name, seconds]) => {
    const part = make("i", { class: phaseClass(name), title: `${phaseName(name)}: ${duration(seconds)}` });
    place(part, at / sum, seconds / sum);
    at += seconds;
    return part;
  });
  byId("share").replaceChildren(...parts);
  byId("legend").replaceChildren(...totals.map(([name, seconds]) => make("li", { class: seconds > 0 ? "" : "none" },
    make("i", { class: `swatch ${phaseClass(name)}` }),
    make("span", {}, phaseName(name)),
    make("b", {}, seconds > 0 ? duration(seconds) : "–"),
    make("span", { class: "quiet" }, name !== "left" && sum > 0 && seconds > 0 ? percent(seconds / sum) : ""))));
}

const percent = (share) => (share < 0.001 ? "<0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`);
