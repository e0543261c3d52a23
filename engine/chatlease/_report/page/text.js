// Elements and texts. Everything that is shown goes through `make` and `draw`, which set text and attributes only.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

function place(element, left, width) {
  element.style.left = `${(100 * left).toFixed(3)}%`;
  element.style.width = `${(100 * width).toFixed(3)}%`;
}

// A table whose keys are its own alone: what is looked up in it may be any text.
const dictionary = (entries) => Object.assign(Object.create(null), entries);

const count = (number) => number.toLocaleString("en");
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 0.0005) return seconds > 0 ? `${(seconds * 1e6).toFixed(0)} µs` : "0 ms";
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 0.9995) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, length]) => Math.round(seconds) >= length);
  const [[unit, length], [lesser, less]] = units.slice(Math.min(first, 2), Math.min(first, 2) + 2);
  const rest = Math.floor((Math.round(seconds) % length) / less);
  return `${Math.floor(Math.round(seconds) / length)} ${unit}${rest ? ` ${rest} ${lesser}` : ""}`;
}

const iso = (at) => new Date(at * 1000).toISOString();
const dateTime = (at) => iso(at).slice(0, 19).replace("T", " ");
const clock = (at) => iso(at).slice(11, 23);
const day = (at) => iso(at).slice(0, 10);

// Round steps of an axis: 1, 2, 5 times a power of ten, or what clocks count in.
function tickStep(span, most) {
  const steps = [1e-6, 2e-6, 5e-6];
  for (let power = 1e-5; power < 1; power *= 10) steps.push(power, 2 * power, 5 * power);
  steps.push(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200);
  for (let days = 86400; days < 1e10; days *= 10) steps.push(days, 2 * days, 5 * days);
  return steps.find((step) => span / step <= most) ?? span;
}
