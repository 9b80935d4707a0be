// The script of review.html; review.py puts both and a run's data into one file.
"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const COLOURS = { good: "#2a7f9e", bad: "#c8452f" };
const PAGE = 60;
const make = (tag, text, name) => {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (name) e.className = name;
  return e;
};
const short = v => v === null ? "–" : Math.abs(v) >= 1000 || (v !== 0 && Math.abs(v) < 0.001) ? v.toExponential(2) : String(+v.toPrecision(4));
const per = (part, whole) => whole ? (100 * part / whole).toFixed(1) + " %" : "–";
const state = { source: D.verdict.source, thresholds: { ...D.thresholds }, shown: PAGE };
// "either" judges by both thresholds and shows the score; the map's is moved where the map alone judges.
const axis = () => state.source === "either" ? "score" : state.source;
const value = image => image[axis()];
const threshold = () => state.thresholds[axis()];
const range = () => {
  const values = D.images.map(value).concat([D.thresholds[axis()]]);
  const low = Math.min(...values), high = Math.max(...values);
  const margin = (high - low || 1) * 0.01;
  return [low - margin, high + margin];
};

function canvas(id) {
  const c = $(id), scale = window.devicePixelRatio || 1, box = c.getBoundingClientRect();
  c.width = box.width * scale; c.height = box.height * scale;
  const g = c.getContext("2d");
  g.scale(scale, scale);
  g.font = "12px system-ui, sans-serif";
  return [g, box.width, box.height];
}

function histogram() {
  const [g, w, h] = canvas("histogram"), [low, high] = range(), bins = 60, base = h - 18;
  const counts = [new Array(bins).fill(0), new Array(bins).fill(0)];
  for (const image of D.images)
    counts[image.label][Math.min(bins - 1, Math.floor((value(image) - low) / (high - low) * bins))]++;
  const top = Math.max(1, ...counts[0], ...counts[1]);
  [COLOURS.good, COLOURS.bad].forEach((colour, label) => {
    g.fillStyle = colour; g.globalAlpha = 0.65;
    counts[label].forEach((n, i) => {
      const tall = n / top * (base - 14);
      g.fillRect(i * w / bins, base - tall, w / bins - 1, tall);
    });
  });
  g.globalAlpha = 1; g.fillStyle = "#667";
  g.fillText(short(low), 0, h - 4);
  g.fillText(`${top} images`, 0, 11);
  g.textAlign = "right"; g.fillText(short(high), w, h - 4);
  const x = (threshold() - low) / (high - low) * w;
  g.strokeStyle = "#1d2327"; g.setLineDash([4, 3]);
  g.beginPath(); g.moveTo(x, 0); g.lineTo(x, base); g.stroke();
}

const called = image => (state.source === "either" ? ["score", "map_max"] : [state.source])
  .some(source => !(image[source] < state.thresholds[source]));
const wrong = image => called(image) !== Boolean(image.label);

// Parts: of a defective one the defective photos count, as in metrics.json.
const parts = new Map();
D.images.forEach((image, i) => {
  const key = image.part ? `part ${image.part}` : i;
  if (!parts.has(key)) parts.set(key, []);
  image.siblings = parts.get(key);
  image.siblings.push(image);
});
const defectivePart = photos => photos.some(i => i.label);
const partCalled = photos => photos.some(i => (i.label || !defectivePart(photos)) && called(i));

const FILTERS = {
  all: () => true, wrong, missed: i => i.label && !called(i), alarm: i => !i.label && called(i),
  caught: i => i.label && called(i), passed: i => !i.label && !called(i),
  good: i => !i.label, defective: i => i.label,
  alarmParts: i => !defectivePart(i.siblings) && partCalled(i.siblings),
  missedParts: i => defectivePart(i.siblings) && !partCalled(i.siblings),
};
const COUNTS = { fp: ["alarm", "false alarms"], fn: ["missed", "missed defects"],
  tp: ["caught", "caught defects"], tn: ["passed", "good photos judged OK"] };

// A count that shows the photos behind it.
function counter(button, n, filter, what, kind = "") {
  button.textContent = n;
  button.disabled = !n;
  button.title = n ? `show the photos: ${what}` : "";
  button.setAttribute("aria-label", `${n} ${what}${n ? ", show the photos" : ""}`);
  button.onclick = () => find(filter, kind);
  return button;
}

function find(filter, kind) {
  $("filter").value = filter;
  $("kind").value = kind;
  state.shown = PAGE;
  gallery();
  $("images").scrollIntoView();
  $("found").focus({ preventScroll: true });
}

function judge() {
  const n = { tp: 0, fn: 0, fp: 0, tn: 0 };
  for (const image of D.images) n[image.label ? (called(image) ? "tp" : "fn") : (called(image) ? "fp" : "tn")]++;
  for (const key in n) counter($(key), n[key], ...COUNTS[key]);
  $("fpr").textContent = per(n.fp, n.fp + n.tn);
  $("fnr").textContent = per(n.fn, n.fn + n.tp);
}

const atModels = () => state.source === D.verdict.source &&
  (state.source === "either" ? ["score", "map_max"] : [state.source])
    .every(source => state.thresholds[source] === D.thresholds[source]);

function ends(figure) {
  if (!figure) return "–";
  return `${(100 * figure.low).toFixed(1)} to ${(100 * figure.high).toFixed(1)} %` +
    (figure.open && figure.high < 1 ? " or more" : "") + (figure.interval === "bootstrap" ? "" : ` (${figure.interval})`);
}

function observedRow(name, share, counts, interval, threshold) {
  const row = make("tr"), cells = [make("td"), make("td")];
  cells[0].append(...counts);
  cells[1].append(threshold);
  row.append(make("td", name), cells[0], make("td", share), make("td", interval), cells[1]);
  return row;
}

// A threshold of the table: moves there.
function place(at) {
  if (D.verdict.source === "either") return make("span", "–");
  const button = make("button", short(at));
  button.type = "button";
  button.title = "move the threshold there";
  button.onclick = () => {
    state.source = $("source").value = D.verdict.source;
    state.thresholds[state.source] = at;
    redraw();
    $("slider").focus();
  };
  return button;
}

function line() {
  const models = atModels(), found = D.line.figures, all = [...parts.values()];
  const sound = all.filter(photos => !defectivePart(photos)), bad = all.filter(defectivePart);
  const alarms = sound.filter(partCalled).length, caught = bad.filter(partCalled).length;
  const several = D.line.parts.with_several_photos > 0, head = make("tr");
  for (const name of ["", "parts", "share", `${100 * D.line.confidence} % interval`, "threshold"]) head.append(make("th", name));
  const count = (n, filter, what) =>
    counter(make("button", undefined, "count wrong"), n, several ? `${filter}Parts` : filter, what);
  const alarm = count(alarms, "alarm", "sound parts that alarm"), missed = count(bad.length - caught, "missed", "missed parts");
  alarm.id = "alarmParts"; missed.id = "missedParts";
  const now = () => make("span", state.source === "either" ? "both" : short(threshold()));
  const rows = [
    observedRow("sound parts that alarm", per(alarms, sound.length), [alarm, ` of ${sound.length}`],
      models ? ends(found["FPR at the threshold"]) : "–", now()),
    observedRow("defective parts caught", per(caught, bad.length), [`${caught} of ${bad.length}, `, missed, " missed"],
      models ? ends(found["recall at the threshold"]) : "–", now()),
  ];
  for (const recall of ["100 %", "99 %"]) {
    const figure = found[`FPR at ${recall} recall`];
    if (figure) rows.push(observedRow(`sound parts that alarm at ${recall} recall`,
      per(figure.count, figure.of), [`${figure.count} of ${figure.of}`], ends(figure), place(figure.threshold)));
  }
  $("observed").replaceChildren(head, ...rows);
  document.body.classList.toggle("moved", !models);
  $("standing").textContent = models ? "This is the model's threshold." :
    "Moved: no promise holds here. A threshold chosen on these photos looks better on them than it is.";
}

const ORDERS = {
  near: (a, b) => Math.abs(value(a) - threshold()) - Math.abs(value(b) - threshold()),
  high: (a, b) => value(b) - value(a), low: (a, b) => value(a) - value(b),
  name: (a, b) => a.file < b.file ? -1 : 1,
};

function gallery() {
  const kind = $("kind").value;
  const chosen = D.images.filter(i => FILTERS[$("filter").value](i) && (!kind || i.defect === kind));
  chosen.sort(ORDERS[$("sort").value]);
  $("count").textContent = `${chosen.length} of ${D.images.length}`;
  $("more").hidden = chosen.length <= state.shown;
  $("gallery").replaceChildren(...chosen.slice(0, state.shown).map(card));
}

function card(image) {
  const figure = make("figure", undefined, image.label ? "defective" : "");
  figure.tabIndex = 0;
  figure.title = [image.file, ...(image.part ? [`part ${image.part}`] : []),
    `score ${short(image.score)}, map maximum ${short(image.map_max)}`, called(image) ? "judged NG" : "judged OK"].join("\n");
  const frame = make("div", undefined, "frame");
  if (image.photo) for (const [name, part] of [["photo", "under"], ["map", "over"]]) {
    const img = make("img", undefined, part);
    img.src = image[name];
    img.alt = part === "over" ? "anomaly map" : image.file;
    frame.append(img);
  } else frame.append(make("span", "no picture kept"));
  const caption = make("figcaption");
  caption.append(make("b", short(value(image))), make("span", image.defect, wrong(image) ? "wrong" : ""),
    make("span", wrong(image) ? (image.label ? ", missed" : ", false alarm") : ""),
    make("br"), make("span", image.file.split("/").pop(), "file"));
  if (image.part) caption.append(make("br"), make("span", `part ${image.part}`, "part"));
  figure.append(frame, caption);
  return figure;
}

function curves() {
  const [g, w, h] = canvas("curves"), colours = ["#2a7f9e", "#c8452f", "#7a5aa8", "#c9922b"];
  const total = D.history.map(row => row.loss.reduce((a, b) => a + b, 0));
  const top = Math.max(1e-9, ...total), last = D.history.length ? D.history[D.history.length - 1].step : 1;
  const line = (values, colour, width) => {
    g.strokeStyle = colour; g.lineWidth = width; g.beginPath();
    values.forEach((v, i) => g.lineTo(D.history[i].step / last * w, h - 18 - v / top * (h - 32)));
    g.stroke();
  };
  D.terms.forEach((_, k) => line(D.history.map(row => row.loss[k]), colours[k], 1.2));
  line(total, "#1d2327", 1.8);
  g.fillStyle = "#667"; g.fillText(short(top), 0, 11); g.textAlign = "right"; g.fillText(`step ${last}`, w, h - 4);
  $("legend").replaceChildren(...["total", ...D.terms].flatMap((name, k) => {
    const swatch = make("i");
    swatch.style.background = k ? colours[k - 1] : "#1d2327";
    return [swatch, document.createTextNode(name)];
  }));
}

function kinds() {
  const head = make("tr");
  for (const name of ["", "images", "missed", "I-AUROC", "I-AUROC (map maximum)"]) head.append(make("th", name));
  const rows = Object.entries(D.per_defect).map(([name, row]) => {
    const mine = D.images.filter(i => i.label && i.defect === name), line = make("tr");
    const missed = make("button", undefined, "count wrong");
    missed.type = "button";
    counter(missed, mine.filter(i => !called(i)).length, "missed", `missed ${name}`, name);
    for (const text of [name, row.n, missed, short(row["I-AUROC"]), short(row["I-AUROC (map maximum)"])]) {
      const cell = make("td");
      cell.append(text);
      line.append(cell);
    }
    return line;
  });
  $("kinds").replaceChildren(head, ...rows);
}

function redraw() {
  if (!D.images.length) return;
  const [low, high] = range();
  $("slider").value = Math.round((threshold() - low) / (high - low) * 1000);
  if (document.activeElement !== $("threshold")) $("threshold").value = +threshold().toPrecision(6);
  $("other").textContent = state.source !== "either" ? "" :
    `this is the score's; the map's maximum is NG from ${short(state.thresholds.map_max)} on`;
  histogram(); judge(); gallery(); kinds();
  if (D.line) line();
}

document.title = `Review: ${D.title}`;
$("title").textContent = D.title;
$("about").textContent = D.about;
$("promised").textContent = D.verdict.method;
$("rule").textContent = D.verdict.rule;
$("line").hidden = !D.line;
if (D.line) {
  $("parts").textContent = D.line.about;
  if (D.line.parts.with_several_photos) for (const [value, text] of
    [["alarmParts", "photos of sound parts that alarm"], ["missedParts", "photos of missed parts"]]) {
    const option = make("option", text);
    option.value = value;
    $("filter").append(option);
  }
}
for (const [name, found] of Object.entries(D.metrics)) {
  const box = make("div");
  box.append(make("b", found === null ? "–" : found.toFixed(3)), make("span", name));
  $("figures").append(box);
}
for (const [name, text] of [["score", "classification score"], ["map_max", "maximum of the map"],
  ["either", "either of the two"]]) {
  const option = make("option", text);
  option.value = name;
  $("source").append(option);
}
$("source").value = state.source;
$("kind").append(make("option", "all"));
$("kind").firstChild.value = "";
for (const name of [...new Set(D.images.map(i => i.defect))].sort()) $("kind").append(make("option", name));
for (const [name, text] of Object.entries(D.environment)) {
  const line = make("div");
  line.append(make("b", name + " "), document.createTextNode(text));
  $("environment").append(line);
}
$("slider").oninput = () => {
  const [low, high] = range();
  state.thresholds[axis()] = low + (high - low) * $("slider").value / 1000;
  redraw();
};
$("threshold").oninput = () => { const v = parseFloat($("threshold").value); if (isFinite(v)) { state.thresholds[axis()] = v; redraw(); } };
$("source").onchange = () => {
  state.source = $("source").value;
  redraw();
};
$("reset").onclick = () => {
  state.source = $("source").value = D.verdict.source;
  state.thresholds = { ...D.thresholds };
  redraw();
};
for (const id of ["filter", "kind", "sort"]) $(id).onchange = () => { state.shown = PAGE; gallery(); };
$("maps").onchange = () => $("gallery").classList.toggle("maps", $("maps").checked);
$("more").onclick = () => { state.shown += PAGE; gallery(); };
window.onresize = () => { redraw(); curves(); };
if (!D.images.length) {
  $("judging").replaceChildren(make("p", "No labelled test photos: nothing to judge."));
  $("gallery").append(make("p", "Give labelled test photos (test/good, test/DEFECT) to see them here."));
  $("more").hidden = true;
}
redraw();
curves();
