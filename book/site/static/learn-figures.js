// The lessons' figures: each is drawn into its place from the rows of the chart that the notebook stored there. Plain
// elements and small SVGs, since a slider must answer at once on any phone. The arithmetic of decoding is live.js's.
(() => {
  const { probabilities } = window.lmrelLive;
  const make = window.lmrelMake;
  const draw = (tag, attributes = {}, ...children) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const percent = (p) => (p > 0 && p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);
  const signed = (text) => String(text).replace("-", "−");
  let named = 0;
  // A slider as wide as the figure, with its value above it.
  const slider = (text, attributes, shown) => {
    const control = make("input", { type: "range", id: `learn-${named++}`, ...attributes });
    const output = make("output", { for: control.id });
    const show = () => {
      output.textContent = shown(control.valueAsNumber);
      control.setAttribute("aria-valuetext", output.textContent);
    };
    control.addEventListener("input", show);
    show();
    const node = make("div", { class: "slider" }, make("label", { for: control.id }, text, output), control);
    return { control, node, show, get value() { return control.valueAsNumber; } };
  };
  const tempered = (t) => (t === 0 ? "0 (greedy)" : String(t));
  const temperature = (value = 1, max = 5, step = 0.05) =>
    slider("temperature T", { min: 0, max, step, value }, tempered);
  const button = (text, act) => {
    const node = make("button", { type: "button" }, text);
    node.addEventListener("click", act);
    return node;
  };
  // Told to screen readers once the hand has come to rest.
  const announcer = () => {
    const node = make("p", { role: "status", class: "unseen" });
    let timer = null;
    node.say = (text) => {
      clearTimeout(timer);
      timer = setTimeout(() => (node.textContent = text), 400);
    };
    return node;
  };
  const seeded = (state) => () => { // mulberry32: the same draws at each visit
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  // An SVG as wide as its place, drawn anew when that changes, so that its text keeps its size.
  const canvas = (height, paint) => {
    const node = draw("svg", { height, role: "img", "aria-hidden": "true" });
    const again = () => {
      const width = node.getBoundingClientRect().width;
      if (!width) return;
      node.setAttribute("viewBox", `0 0 ${width} ${height}`); // narrower paper shows all of it, smaller
      paint(node, width);
    };
    new ResizeObserver(again).observe(node);
    window.addEventListener("beforeprint", again); // gates are open on paper, and what is behind was not drawn yet
    return { node, again };
  };
  const rowsOf = (names) => {
    const rows = names.map((name) => {
      const [bar, value] = [make("i"), make("span", { class: "value" })];
      const node = make("li", {}, make("code", {}, signed(name)), make("span", { class: "track", "aria-hidden": "true" }, bar), value);
      return { node, bar, value };
    });
    return { rows, list: make("ol", { role: "list", class: "bars" }, ...rows.map(({ node }) => node)) };
  };

  const bars = (place, { rows, count, cuts }) => {
    const logits = rows.map(({ logit }) => logit);
    const seen = new Uint8Array(logits.length);
    const T = temperature();
    const k = slider("top-k", { min: 0, max: 12, step: 1, value: 0 }, (x) => (x ? String(x) : "off"));
    const p = slider("top-p", { min: 0.05, max: 1, step: 0.01, value: 1 }, (x) => (x < 1 ? x.toFixed(2) : "off"));
    const m = slider("min-p", { min: 0, max: 0.5, step: 0.01, value: 0 }, (x) => (x ? x.toFixed(2) : "off"));
    const controls = cuts ? [T, k, p, m] : [T];
    const { rows: lines, list } = rowsOf([...rows.slice(0, count).map(({ token }) => token), "others"]);
    const pale = cuts ? lines.map(({ bar }) => bar.before(make("b")) ?? bar.previousSibling) : [];
    const status = announcer();
    const update = () => {
      const alone = [...probabilities(logits, seen, { temperature: T.value })];
      const left = cuts ? [...probabilities(logits, seen, { temperature: T.value, topK: k.value, topP: p.value, minP: m.value })] : alone;
      const sums = [alone, left].map((all) => [...all.slice(0, count), all.slice(count).reduce((a, b) => a + b, 0)]);
      lines.forEach(({ node, bar, value }, i) => {
        const [before, now] = sums.map((all) => all[i]);
        bar.style.width = `${100 * now}%`;
        if (cuts) pale[i].style.width = `${100 * before}%`;
        const cut = cuts && now === 0 && T.value > 0;
        value.textContent = cut ? "cut" : percent(now);
        node.classList.toggle("cut", cut);
      });
      const kept = left.filter((x) => x > 0).length;
      tally.textContent = cuts ? `Tokens that are left: ${kept} of ${logits.length}` : "";
      status.say(`${tally.textContent} ${lines.slice(0, 3).map(({ value }, i) => `${rows[i].token} ${value.textContent}`).join(", ")}`);
    };
    const tally = make("p", { class: "tally" });
    for (const { control } of controls) control.addEventListener("input", update);
    place.append(...controls.map(({ node }) => node), list, ...(cuts ? [tally] : []), status);
    update();
  };

  // Pieces of the line from 0 to 1, of tokens or of whole answers; u takes the piece on which it falls.
  const line = (place, { rows, count, answers, order, right }) => {
    const names = answers ? order : [...rows.slice(0, count).map(({ token }) => token), "others"];
    const stops = answers ? [...new Set(rows.map((row) => row.temperature))].sort((a, b) => a - b) : null;
    const T = answers ? temperature(1, stops.at(-1), stops[1] - stops[0]) : temperature();
    const u = slider("u", { min: 0, max: 0.999, step: 0.001, value: 0.5 }, (x) => x.toFixed(3));
    const shares = () => {
      if (answers) {
        const now = stops.reduce((best, stop) => (Math.abs(stop - T.value) < Math.abs(best - T.value) ? stop : best));
        const own = new Map(rows.filter((row) => row.temperature === now).map((row) => [row.answer, row.probability]));
        return names.map((name) => own.get(name) ?? 0);
      }
      const all = [...probabilities(rows.map(({ logit }) => logit), new Uint8Array(rows.length), { temperature: T.value })];
      return [...all.slice(0, count), all.slice(count).reduce((a, b) => a + b, 0)];
    };
    const hit = (all, x) => {
      let to = 0;
      const place = all.findIndex((p) => (to += p) > x);
      return place < 0 ? all.findLastIndex((p) => p > 0) : place; // sums of rounded numbers end a little below 1
    };
    const pieces = names.map((name) => make("span", {}, signed(name)));
    const mark = make("i");
    const strip = make("div", { class: "strip", "aria-hidden": "true" }, ...pieces, mark);
    const { rows: lines, list } = rowsOf(names);
    const dots = lines.map(({ bar }) => bar.before(make("b", { class: "drawn" })) ?? bar.previousSibling);
    const taken = make("p", { class: "taken", role: "status" });
    const counted = make("p", { class: "tally" });
    let counts = names.map(() => 0);
    const random = seeded(7);
    const class_ = (name) => (right === undefined || name === "others" ? "" : name === right ? "right" : "wrong");
    const update = () => {
      const all = shares();
      const here = hit(all, u.value);
      const [wide, size] = [strip.clientWidth || 340, parseFloat(getComputedStyle(place).fontSize)];
      const total = counts.reduce((a, b) => a + b, 0);
      mark.style.left = `${100 * u.value}%`;
      pieces.forEach((piece, i) => {
        piece.style.width = `${100 * all[i]}%`;
        piece.className = [class_(names[i]), i === here ? "lit" : "", all[i] * wide < 12 + 0.75 * size * names[i].length ? "thin" : ""].join(" ").trim();
      });
      lines.forEach(({ node, bar, value }, i) => {
        node.className = [class_(names[i]), i === here ? "lit" : ""].join(" ").trim();
        bar.style.width = `${100 * all[i]}%`;
        dots[i].style.width = total ? `${(100 * counts[i]) / total}%` : "0";
        value.textContent = total ? `${percent(all[i])} · ${counts[i]}` : percent(all[i]);
      });
      const verdict = class_(names[here]);
      taken.textContent = `u = ${u.value.toFixed(3)} takes ${signed(names[here])}${verdict ? ` (${verdict})` : ""}.`;
      counted.textContent = total ? `Drawn: ${total}. Thin bars are shares of the draws, beside their probabilities.` : "No draws yet.";
    };
    const count_ = (x) => {
      u.control.value = x;
      u.show();
      counts[hit(shares(), u.value)]++;
    };
    const many = (n) => button(`draw ${n}`, () => {
      for (let i = 0; i < n; i++) count_(random());
      update();
    });
    const call = make("input", { type: "text", inputmode: "decimal", size: "6", id: `learn-${named++}`, autocomplete: "off", placeholder: "0.73" });
    const form = make("form", { class: "call", novalidate: "" }, make("label", { for: call.id }, "your u"), call, make("button", { type: "submit" }, "take it"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const x = call.value.trim() ? Number(call.value.replace(",", ".")) : NaN;
      if (!(x >= 0 && x < 1)) {
        taken.textContent = "u is a number from 0 to below 1.";
        return;
      }
      count_(x);
      update();
      call.select();
    });
    const reset = button("start again", () => {
      counts = names.map(() => 0);
      update();
    });
    T.control.addEventListener("input", () => {
      counts = names.map(() => 0); // draws at another temperature are no longer comparable
      update();
    });
    u.control.addEventListener("input", update);
    new ResizeObserver(update).observe(strip); // which names have room
    place.append(T.node, u.node, strip, taken, make("div", { class: "buttons" }, form, many(1), many(100), reset), list, counted);
    update();
  };

  const COLOURS = ["#3b82c4", "#d9730d", "#2e9e6b", "#b455a0", "#8f8a1f"];
  const DASHES = ["", "7 4", "2 3", "9 3 2 3", "1 5"];
  const ticks = (low, high, log) => {
    if (log) return [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].filter((x) => x >= low && x <= high);
    const rough = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((x) => x * power).find((x) => x >= rough);
    const from = Math.ceil(low / step - 1e-9);
    return Array.from({ length: Math.floor(high / step + 1e-9) - from + 1 }, (_, i) => Number(((from + i) * step).toPrecision(6)));
  };

  // Lines with a cursor: a slider goes along x, and each line says its value there.
  const curves = (place, { rows, x, y, by, percent: isShare, log, colours }) => {
    const names = [...new Set(rows.map((row) => row[by]))];
    const stops = [...new Set(rows.map((row) => row[x]))].sort((a, b) => a - b);
    const paint = names.map((_, i) => colours[i % colours.length]);
    const own = names.map((name) => rows.filter((row) => row[by] === name).sort((a, b) => a[x] - b[x]));
    const start = stops.reduce((best, stop, i) => (Math.abs(stop - 1) < Math.abs(stops[best] - 1) ? i : best), 0);
    const at = slider(x, { min: 0, max: stops.length - 1, step: 1, value: start }, (i) => (x === "temperature" ? tempered(stops[i]) : String(stops[i])));
    const low = isShare ? 0 : Math.min(0, ...rows.map((row) => row[y]));
    const high = isShare ? 1 : Math.ceil(Math.max(...rows.map((row) => row[y])));
    const shown = (value) => (isShare ? percent(value) : value.toFixed(2));
    const { rows: lines, list } = rowsOf(names);
    lines.forEach(({ node, bar, value }, i) => {
      const key = draw("svg", { width: 28, height: 12, "aria-hidden": "true" }, draw("line", { x1: 0, x2: 28, y1: 6, y2: 6, stroke: paint[i], "stroke-width": 3, "stroke-dasharray": DASHES[i % 5] }));
      node.replaceChildren(key, make("span", { class: "name" }, signed(names[i])), value);
    });
    list.className = "values";
    const status = announcer();
    const picture = canvas(230, (svg, width) => {
      const [left, top, bottom] = [52, 10, 202];
      const scaleX = log ? Math.log : (v) => v;
      const [from, to] = [scaleX(stops[0]), scaleX(stops.at(-1))];
      const X = (v) => left + ((scaleX(v) - from) / (to - from)) * (width - left - 14);
      const Y = (v) => bottom - ((v - low) / (high - low)) * (bottom - top);
      const parts = [];
      for (const v of isShare ? [0, 0.25, 0.5, 0.75, 1] : ticks(low, high)) {
        parts.push(draw("line", { class: "rule", x1: left, x2: width - 14, y1: Y(v), y2: Y(v) }));
        parts.push(draw("text", { x: left - 6, y: Y(v) + 4, "text-anchor": "end" }, isShare ? `${100 * v} %` : String(v)));
      }
      for (const v of ticks(stops[0], stops.at(-1), log)) parts.push(draw("text", { x: X(v), y: bottom + 20, "text-anchor": "middle" }, String(v)));
      own.forEach((points, i) => {
        const d = points.map((row, j) => `${j ? "L" : "M"}${X(row[x]).toFixed(1)} ${Y(row[y]).toFixed(1)}`).join("");
        parts.push(draw("path", { d, fill: "none", stroke: paint[i], "stroke-width": 2.5, "stroke-dasharray": DASHES[i % 5] }));
      });
      const stop = stops[at.value];
      parts.push(draw("line", { class: "cursor", x1: X(stop), x2: X(stop), y1: top - 6, y2: bottom }));
      own.forEach((points, i) => {
        const row = points.find((one) => one[x] === stop);
        if (row) parts.push(draw("circle", { cx: X(stop), cy: Y(row[y]), r: 6, fill: paint[i] }));
      });
      svg.replaceChildren(...parts);
    });
    const update = () => {
      own.forEach((points, i) => {
        const row = points.find((one) => one[x] === stops[at.value]);
        lines[i].value.textContent = row ? shown(row[y]) : "–";
      });
      picture.again();
      status.say(names.map((name, i) => `${name}: ${lines[i].value.textContent}`).join(", "));
    };
    at.control.addEventListener("input", update);
    place.append(at.node, picture.node, list, status);
    update();
  };

  // Squares of draws, a row a problem; the vote of the first k stands at the end of the row.
  const runs = (place, { rows }) => {
    const problems = [...new Set(rows.map((row) => row.problem))];
    const size = Math.max(...rows.map((row) => row.run));
    const k = slider("draws that vote", { min: 1, max: size, step: 1, value: 1 }, String);
    const table = make("table", {}, make("caption", { class: "unseen" }, "draws by problem, and their vote"));
    const heads = ["problem", ...Array.from({ length: size }, (_, i) => String(i + 1)), "vote"].map((text) => make("th", { scope: "col" }, text));
    table.append(make("thead", {}, make("tr", {}, ...heads)));
    const body = make("tbody");
    const lines = problems.map((problem) => {
      const own = rows.filter((row) => row.problem === problem).sort((a, b) => a.run - b.run);
      const cells = own.map(({ outcome, answer }) => make("td", { class: outcome, title: `${answer} (${outcome})` }, outcome === "right" ? "✓" : "✗"));
      const vote = make("td");
      body.append(make("tr", {}, make("th", { scope: "row" }, problem), ...cells, vote));
      return { own, cells, vote };
    });
    table.append(body);
    const said = make("p", { class: "taken", role: "status" });
    const update = () => {
      let [won, drawn, all] = [0, 0, 0];
      for (const { own, cells, vote } of lines) {
        const first = own.slice(0, k.value);
        const counts = new Map();
        for (const { answer } of first) counts.set(answer, (counts.get(answer) ?? 0) + 1);
        const most = Math.max(...counts.values());
        const winner = first.find(({ answer }) => counts.get(answer) === most);
        cells.forEach((cell, i) => cell.classList.toggle("later", i >= k.value));
        vote.className = `vote ${winner.outcome}`;
        vote.textContent = `${winner.outcome === "right" ? "✓" : "✗"} ${signed(winner.answer)}`;
        won += winner.outcome === "right";
        drawn += first.filter(({ outcome }) => outcome === "right").length;
        all += first.length;
      }
      said.textContent = `Right: ${drawn} of ${all} draws (${percent(drawn / all)}), and ${won} of ${problems.length} votes (${percent(won / problems.length)}).`;
    };
    k.control.addEventListener("input", update);
    place.append(k.node, said, make("div", { class: "runs" }, table));
    update();
  };

  // Accuracy against reported confidence. Turning T moves the points sideways; no answer becomes right by it.
  const reliability = (place, { rows }) => {
    const stops = [...new Set(rows.map((row) => row.temperature))].sort((a, b) => a - b);
    const T = temperature(1, stops.at(-1), stops[1] - stops[0]);
    const said = make("p", { class: "taken", role: "status" });
    const own = () => {
      const stop = stops.reduce((best, one) => (Math.abs(one - T.value) < Math.abs(best - T.value) ? one : best));
      return rows.filter((row) => row.temperature === stop);
    };
    const picture = canvas(320, (svg, width) => {
      const size = Math.min(width - 76, 460);
      const [left, top, bottom] = [48, 12, 272];
      const X = (v) => left + v * size;
      const Y = (v) => bottom - v * (bottom - top);
      const parts = [draw("line", { class: "diagonal", x1: X(0), y1: Y(0), x2: X(1), y2: Y(1) })];
      for (const v of [0, 0.5, 1]) {
        parts.push(draw("line", { class: "rule", x1: X(0), x2: X(1), y1: Y(v), y2: Y(v) }));
        parts.push(draw("text", { x: left - 6, y: Y(v) + 4, "text-anchor": "end" }, `${100 * v} %`));
        parts.push(draw("text", { x: X(v), y: bottom + 18, "text-anchor": "middle" }, `${100 * v} %`));
      }
      parts.push(draw("text", { x: X(0.5), y: bottom + 38, "text-anchor": "middle" }, "reported confidence"));
      parts.push(draw("text", { x: X(0.02), y: Y(1) + 16 }, "share that is right"));
      for (const { confidence, accuracy, low, high } of own()) {
        parts.push(draw("line", { x1: X(confidence), x2: X(confidence), y1: Y(low), y2: Y(high), stroke: COLOURS[0], "stroke-width": 2 }));
        parts.push(draw("circle", { cx: X(confidence), cy: Y(accuracy), r: 6, fill: COLOURS[0] }));
      }
      svg.replaceChildren(...parts);
    });
    const update = () => {
      const now = own();
      const mean = (name) => now.reduce((sum, row) => sum + row[name], 0) / now.length;
      said.textContent = `Reported on average: ${percent(mean("confidence"))}. Right: ${percent(mean("accuracy"))}.`;
      picture.again();
    };
    T.control.addEventListener("input", update);
    place.append(T.node, said, picture.node);
    update();
  };

  // Two tests of a model that does not change: the difference of their counts, again and again.
  const luck = (place, { rows, gap }) => {
    const random = seeded(11);
    const most = Math.max(...rows.map(({ probability }) => probability));
    const reach = Math.max(...rows.filter(({ probability }) => probability > 1e-3).map(({ difference }) => difference));
    const counts = new Map();
    let [total, far, last] = [0, 0, null];
    const said = make("p", { class: "taken", role: "status" });
    const picture = canvas(230, (svg, width) => {
      const [left, top, bottom] = [8, 14, 190];
      const step = (width - 2 * left) / (2 * reach + 1);
      const high = Math.max(most * 1.25, ...[...counts.values()].map((n) => n / total).filter(() => total >= 30));
      const parts = [];
      for (let d = -reach; d <= reach; d++) {
        const share = (counts.get(d) ?? 0) / Math.max(total, 1);
        const h = Math.min(1, share / high) * (bottom - top);
        const x = left + (d + reach) * step;
        parts.push(draw("rect", { x: x + 1, y: bottom - h, width: Math.max(1, step - 2), height: h, fill: COLOURS[Math.abs(d) >= gap ? 1 : 0] }));
        if (d % 5 === 0) parts.push(draw("text", { x: x + step / 2, y: bottom + 18, "text-anchor": "middle" }, d > 0 ? `+${d}` : signed(d)));
      }
      parts.push(draw("line", { class: "axis", x1: left, x2: width - left, y1: bottom, y2: bottom }));
      parts.push(draw("text", { x: width / 2, y: bottom + 36, "text-anchor": "middle" }, "difference of the two counts"));
      if (last !== null) {
        const x = left + (Math.max(-reach, Math.min(reach, last)) + reach + 0.5) * step;
        parts.push(draw("path", { class: "last", d: `M${x} ${bottom + 2} l-5 8 h10 z` }));
      }
      svg.replaceChildren(...parts);
    });
    const test = () => {
      let x = random() * rows.reduce((sum, { probability }) => sum + probability, 0);
      last = rows.find(({ probability }) => (x -= probability) <= 0)?.difference ?? 0;
      counts.set(last, (counts.get(last) ?? 0) + 1);
      total++;
      far += Math.abs(last) >= gap;
    };
    const update = () => {
      const now = last === null ? "" : `The last two counts differ by ${Math.abs(last)}. `;
      said.textContent = total
        ? `${now}By ${gap} or more: ${far} of ${total} pairs of tests (${percent(far / total)}).`
        : "Press a button: the same model is tested twice, and the two counts are compared.";
      picture.again();
    };
    const many = (text, n) => button(text, () => {
      for (let i = 0; i < n; i++) test();
      update();
    });
    place.append(make("div", { class: "buttons" }, many("test it twice", 1), many("100 times", 100)), said, picture.node);
    update();
  };

  const KINDS = { bars, line, curves, runs, reliability, luck };
  for (const place of document.querySelectorAll(".lmrel-learn")) {
    const figure = JSON.parse(place.querySelector("script").textContent);
    KINDS[figure.kind](place, figure);
  }
})();
