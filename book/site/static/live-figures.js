// The live figures: a dial, dice and a grid of problems, each drawn into its place on the page.
(() => {
  const { load, bytes, answers, completed, interval } = window.lmrelLive;
  const SHOWN = 6;
  const KNOBS = { topK: "top-k", topP: "top-p", repetitionPenalty: "repetition penalty" };
  const PYTHON = { top_k: "topK", top_p: "topP", repetition_penalty: "repetitionPenalty" };

  const make = window.lmrelMake;
  const percent = (x) => `${(100 * x).toFixed(1)} %`;
  let named = 0;
  const labelled = (text, control, ...more) => {
    control.id = `live-${named++}`;
    return make("div", { class: "control" }, make("label", { for: control.id }, text), control, ...more);
  };
  const select = (options) =>
    make("select", {}, ...options.map(([value, text]) => make("option", { value }, text)));
  const slider = (text, attributes, shown) => {
    const control = make("input", { type: "range", ...attributes });
    const output = make("output");
    const show = () => {
      output.textContent = shown(control.valueAsNumber);
      control.setAttribute("aria-valuetext", output.textContent);
    };
    control.addEventListener("input", show);
    show();
    return { control, label: labelled(text, control, output) };
  };
  // What screen readers are told, once the reader's hand has come to rest; nothing at first.
  const announcer = () => {
    const node = make("p", { role: "status", class: "unseen" });
    let timer = null;
    const say = (text) => {
      clearTimeout(timer);
      timer = timer === null ? 0 : setTimeout(() => (node.textContent = text), 400);
    };
    return { node, say };
  };
  const modelSelect = (suite) => select(suite.models.map((name) => [name, name]));

  const dial = async (place, suite) => {
    const problems = new Map(suite.problems.map(([id, line, answer]) => [id, { line, answer }]));
    const problem = select(suite.dial.map((id) => [id, problems.get(id).line]));
    const presets = new Map(suite.presets);
    const preset = select([...presets.keys()].map((name) => [name, name]));
    const temperature = slider("temperature", { min: 0, max: 2, step: 0.05, value: 0.7 },
      (t) => (t === 0 ? "0 (greedy)" : t.toFixed(2)));
    const topK = slider("top-k", { min: 0, max: 50, step: 1, value: 0 }, (k) => (k ? String(k) : "off"));
    const topP = slider("top-p", { min: 0.05, max: 1, step: 0.05, value: 1 }, (p) => (p < 1 ? p.toFixed(2) : "off"));
    const right = make("strong");
    const knobs = make("tbody");
    const { node: status, say } = announcer();
    const panels = suite.models.map((name) => {
      const [value, more] = [make("strong"), make("p", { class: "notes" })];
      const rows = Array.from({ length: SHOWN + 1 }, () => {
        const row = { answer: make("span"), bar: make("span", { class: "bar" }), chance: make("span") };
        row.item = make("li", {}, row.answer, row.chance, make("span", { class: "track", "aria-hidden": "true" }, row.bar));
        return row;
      });
      const list = make("ol", { role: "list", "aria-label": `likeliest answers of ${name}` }, ...rows.map((row) => row.item));
      const summary = make("p", {}, "P(correct) ", value);
      const node = make("section", { "aria-label": name }, make("h3", {}, name.replace("tiny-", "")), summary, more, list);
      return { name, value, more, rows, node };
    });

    const wanted = () => ({
      temperature: temperature.control.valueAsNumber,
      ...(topK.control.valueAsNumber ? { topK: topK.control.valueAsNumber } : {}),
      ...(topP.control.valueAsNumber < 1 ? { topP: topP.control.valueAsNumber } : {}),
    });
    const added = () =>
      Object.fromEntries(Object.entries(presets.get(preset.value)).map(([knob, value]) => [PYTHON[knob], value]));
    const showKnobs = (mine, whole) => {
      const row = (name, one, other) =>
        make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, one), make("td", {}, other));
      const off = { topK: 0, topP: 1, repetitionPenalty: 1 };
      const rows = Object.entries(KNOBS).map(([knob, name]) => row(
        name,
        knob in mine ? String(mine[knob]) : "–",
        !(knob in mine) && whole[knob] !== off[knob] ? String(whole[knob]) : "–",
      ));
      knobs.replaceChildren(row("temperature", String(mine.temperature), "–"), ...rows);
    };
    const showPanel = (panel, tree, mine, whole, answer) => {
      const found = answers(tree, whole);
      const lost = found.get("other") ?? 0;
      const sorted = [...found].filter(([key]) => key !== "other").sort((a, b) => b[1] - a[1]);
      const ranked = sorted.filter(([key], i) => i < SHOWN - 1 || key === answer).slice(0, SHOWN);
      if (ranked.length < SHOWN && sorted.length >= SHOWN) ranked.push(sorted[SHOWN - 1]); // the right one is among the first
      const rest = 1 - ranked.reduce((sum, [, p]) => sum + p, 0);
      const correct = found.get(answer) ?? 0;
      const alone = answers(tree, completed(mine, {})).get(answer) ?? 0;
      panel.value.textContent = correct.toFixed(3);
      const notes = Math.abs(alone - correct) >= 0.0005 ? [`as asked: ${alone.toFixed(3)}`] : [];
      if (lost >= 0.0005) notes.push(`not followed: ≤ ${lost.toFixed(3)}`);
      panel.more.textContent = notes.join("\n");
      panel.rows.forEach(({ item, answer: label, bar, chance }, i) => {
        const [key, p] = i === SHOWN ? ["others", Math.max(0, rest)] : ranked[i] ?? ["", 0];
        item.classList.toggle("right", key === answer);
        item.classList.toggle("empty", key === "");
        label.textContent = key === answer ? `✓ ${key}` : key === "none" ? "no number" : key;
        bar.style.width = percent(p).replace(" ", "");
        chance.textContent = p.toFixed(3);
      });
      return `${panel.name} ${panel.value.textContent}`;
    };
    let latest = 0;
    const update = async () => {
      const turn = ++latest;
      const trees = await load(problem.value);
      if (turn !== latest) return; // the reader has gone on
      const answer = String(problems.get(problem.value).answer);
      const [mine, whole] = [wanted(), completed(wanted(), added())];
      right.textContent = answer;
      showKnobs(mine, whole);
      const said = panels.map((panel) => showPanel(panel, trees[panel.name], mine, whole, answer));
      say(`P(correct) at temperature ${mine.temperature}: ${said.join(", ")}`);
    };
    const fail = (error) => (place.textContent = `This figure's data could not be loaded: ${error.message}.`);
    for (const control of [problem, preset, temperature.control, topK.control, topP.control]) {
      control.addEventListener("input", () => update().catch(fail));
    }
    const head = make("tr", {}, ...["knob", "you asked", "was added"].map((text) => make("th", { scope: "col" }, text)));
    place.append(
      make("div", { class: "controls" }, labelled("problem", problem), labelled("added", preset),
        temperature.label, topK.label, topP.label),
      make("table", { class: "knobs" }, make("thead", {}, head), knobs),
      make("p", {}, "Right answer: ✓ ", right),
      make("div", { class: "panels" }, ...panels.map((panel) => panel.node)),
      status,
    );
    await update();
  };

  const dice = async (place, suite) => {
    const model = modelSelect(suite);
    const [roll, ten, reset] = ["roll", "roll 10", "reset"].map((text) => make("button", { type: "button" }, text));
    const { node: status, say } = announcer();
    const [counted, found, width] = [make("p"), make("p"), make("p")];
    const parts = { dots: make("span"), floor: make("span", { class: "floor" }), now: make("span", { class: "now" }), mean: make("span", { class: "mean" }) };
    const scale = make("div", { class: "scale", "aria-hidden": "true" }, ...Object.values(parts));
    const ticks = make("div", { class: "ticks", "aria-hidden": "true" }, ...["0 %", "50 %", "100 %"].map((text) => make("span", {}, text)));
    const bars = make("div", { class: "widths", "aria-hidden": "true" });
    const size = suite.problems.length;
    let [runs, bits] = [0, null];
    const right = (run, problem) => (bits[(run * size + problem) >> 3] >> (7 - ((run * size + problem) & 7))) & 1;
    const span = (node, { low, high }) => {
      node.style.left = `${100 * low}%`;
      node.style.width = `${100 * (high - low)}%`;
    };
    const half = ({ low, high }) => (high - low) / 2;

    const show = () => {
      const floor = interval(suite.right[model.value]);
      const counts = new Array(size).fill(0);
      const history = [];
      const dots = [];
      for (let run = 0; run < runs; run++) {
        counts.forEach((_, problem) => (counts[problem] += right(run, problem)));
        history.push(interval(counts.map((count) => count / (run + 1))));
        const share = counts.reduce((sum, _, problem) => sum + right(run, problem), 0) / size;
        dots.push(make("i", { style: `left: ${100 * share}%` }));
      }
      const now = history.at(-1);
      span(parts.floor, floor);
      parts.dots.replaceChildren(...dots);
      parts.now.hidden = parts.mean.hidden = !now;
      counted.textContent = `Runs so far: ${runs} of ${suite.runs}`;
      found.textContent = "Accuracy so far: roll first";
      if (now) {
        span(parts.now, now);
        parts.mean.style.left = `${100 * now.mean}%`;
        found.textContent = `Accuracy so far: ${percent(now.mean)}, 95 % interval ${percent(now.low)} to ${percent(now.high)}`;
      }
      const points = (x) => (100 * half(x)).toFixed(1);
      width.textContent = `Half-width: ${now ? points(now) : "–"} points; floor ${points(floor)}`;
      const top = 0.08; // of the axis, in half-widths
      const columns = history.map((one) => make("i", { style: `height: ${(100 * half(one)) / top}%` }));
      bars.replaceChildren(...columns, make("b", { style: `bottom: ${(100 * half(floor)) / top}%` }));
      for (const button of [roll, ten]) button.setAttribute("aria-disabled", String(runs >= suite.runs)); // focus stays
      say(`${counted.textContent}. ${found.textContent}. ${width.textContent}.`);
    };
    const add = (more) => {
      runs = Math.min(suite.runs, runs + more);
      show();
    };
    const restart = () => {
      runs = 0;
      bits = bytes(suite.bits[model.value]);
      show();
    };
    roll.addEventListener("click", () => add(1));
    ten.addEventListener("click", () => add(10));
    reset.addEventListener("click", restart);
    model.addEventListener("input", restart);
    place.append(
      make("div", { class: "controls" }, labelled("model", model), make("div", { class: "buttons" }, roll, ten, reset)),
      counted, found, width,
      make("p", { class: "more" }, "Accuracy: a dot a run, thick bar the interval, dashed box the floor."),
      scale, ticks,
      make("p", { class: "more" }, "Half-width of the interval after each run, from 0 to 8 points; dashed line the floor."),
      bars, status,
    );
    restart();
  };

  const problems = async (place, suite) => {
    const model = modelSelect(suite);
    const chance = (number) => suite.right[model.value][number];
    const label = ([, line], number) => `${line} P(correct) ${chance(number).toFixed(2)}`;
    const cells = suite.problems.map((_, number) =>
      make("button", { type: "button", tabindex: number ? -1 : 0, "aria-pressed": "false", "data-number": number }));
    const grids = ["variable_binding", "arithmetic"].map((task) => {
      const mine = cells.filter((_, number) => suite.problems[number][3] === task);
      const title = task.replace("_", " ");
      return [make("h3", {}, title), make("div", { class: "grid", role: "group", "aria-label": title }, ...mine)];
    });
    const detail = make("div", { class: "detail", role: "status" }, make("p", {}, "Choose a problem."));
    let chosen = null;

    const paint = () => cells.forEach((cell, number) => {
      cell.style.setProperty("--p", chance(number));
      cell.setAttribute("aria-label", label(suite.problems[number], number));
      cell.title = label(suite.problems[number], number);
    });
    const draw = ([text, correct]) => make("li", {}, make("code", {}, text.replaceAll("\n", "⏎") || "(empty)"), correct ? " ✓ right" : " ✗ wrong");
    const tell = async () => {
      if (chosen === null) return;
      const [number, name] = [chosen, model.value];
      const { temperatures, texts } = await load(`draws-${name}`);
      if (number !== chosen || name !== model.value) return;
      const [id, line, answer] = suite.problems[number];
      const groups = temperatures.map((t, i) => {
        const drawn = texts[number][i].map(draw);
        return make("section", {}, make("h4", {}, t === 0 ? "T = 0 (greedy)" : `T = ${t}`),
          make("ul", { role: "list" }, ...(drawn.length ? drawn : [make("li", {}, "no draw recorded")])));
      });
      detail.replaceChildren(
        make("p", {}, make("code", {}, line), ` right answer ${answer}; P(correct) of ${name} at T = 1: ${chance(number).toFixed(3)} (${id})`),
        make("div", { class: "draws" }, ...groups),
      );
    };
    const fail = (error) => (detail.textContent = `The recorded draws could not be loaded: ${error.message}.`);
    const choose = (number) => {
      chosen = number;
      cells.forEach((cell, i) => cell.setAttribute("aria-pressed", String(i === number)));
      tell().catch(fail);
    };
    const focus = (number) => {
      cells.forEach((cell, i) => (cell.tabIndex = i === number ? 0 : -1));
      cells[number].focus();
    };
    const grown = make("div", { class: "grids" }, ...grids.flat());
    grown.addEventListener("click", ({ target }) => {
      if (!target.dataset.number) return;
      focus(Number(target.dataset.number));
      choose(Number(target.dataset.number));
    });
    grown.addEventListener("keydown", (event) => {
      const columns = getComputedStyle(cells[0].parentNode).gridTemplateColumns.split(" ").length;
      const here = cells.indexOf(event.target);
      const rows = { ArrowUp: here - columns, ArrowDown: here + columns };
      const there = { ArrowLeft: here - 1, ArrowRight: here + 1, ...rows, Home: 0, End: cells.length - 1 }[event.key];
      if (here < 0 || there === undefined) return;
      event.preventDefault();
      if (cells[there]) focus(there);
    });
    model.addEventListener("input", () => {
      paint();
      tell().catch(fail);
    });
    place.append(
      make("div", { class: "controls" }, labelled("model", model)),
      make("p", { class: "more" }, "A cell a problem, filled as high as its P(correct) at T = 1. Arrow keys move, Enter shows the draws."),
      grown, detail,
    );
    paint();
  };

  for (const place of document.querySelectorAll(".lmrel-live")) {
    load("suite")
      .then((suite) => ({ dial, dice, problems })[place.dataset.figure](place, suite))
      .catch((error) => (place.textContent = `This figure's data could not be loaded: ${error.message}.`));
  }
})();
