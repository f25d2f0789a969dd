// The lab: a reader's own problem, the shipped models, one dial. What it shows is worked out in lab-model.js.
(() => {
  const { load, bytes, completed } = window.lmrelLive;
  const { unpack, createTokenizer, createModel } = window.lmrelLab;
  const { createTree } = window.lmrelTree;
  const { curves, grid, percent, number, value } = window.lmrelDraw;
  const { make, button, labelled, short, told, createDial, createPanel, createDice, createLine, createFull, watch } = window.lmrelFigure;
  const [NODES, MOST_NODES] = [600, 1500]; // of a tree, at most, and if a reader chooses tokens that are unlikely
  const ENOUGH = 0.005; // mass not followed that may stay
  const SLICE = 12; // milliseconds at a time for following answers
  const GRID = Array.from({ length: 21 }, (_, i) => i / 10);
  const LINES = 4; // answers whose curves are drawn
  const PYTHON = { top_k: "topK", top_p: "topP", min_p: "minP", repetition_penalty: "repetitionPenalty" };
  const WORDS = { topK: "top-k", topP: "top-p", minP: "min-p", repetitionPenalty: "repetition penalty" };
  const OFF = { topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };

  const wait = () => new Promise((done) => setTimeout(done, 0));

  // A typed problem as {task, operands, line, answer}; what is wrong with it as {error}, a sentence.
  const APPLY = { "+": (m, n) => m + n, "-": (m, n) => m - n, "*": (m, n) => m * n };
  const ARITHMETIC = /^\(? *(\d+) *- *(\d+) *\)? *\* *(\d+) *\+ *(\d+)$/;
  const BINDING = /^a *= *(\d+)[,; ]+b *= *(\d+)[,; ]+c *= *a *([-+*]) *b[,; ]+d *= *c *([-+]) *(\d+)([,; ]+d *)?$/;
  const read = (typed, { items, ranges }) => {
    const text = typed.toLowerCase().replace(/[−–]/g, "-").replace(/[×·]/g, "*").replace(/\s+/g, " ").replace(/[= ?]+$/, "").trim();
    const shapes = "Two shapes work: (68 - 1) * 3 + 7, and a = 6, b = 7, c = a * b, d = c + 9.";
    if (!text) return { error: `Type a problem. ${shapes}` };
    if (/\d{4}/.test(text)) return { error: "That number is too long for models of a million weights. Three digits are the most here; they were trained on one and two." };
    if (/[/÷:%^]/.test(text)) return { error: `These models never saw a division or a power; they know +, − and ×. ${shapes}` };
    if (/[^-+*()=,;a-d0-9 ]/.test(text)) return { error: `These models read no words and no other letters than a, b, c and d. ${shapes}` };
    const [sum, bound] = [text.match(ARITHMETIC), text.match(BINDING)];
    if (!sum && !bound) return { error: `These models were trained on two shapes of problem, and this is neither. ${shapes}` };
    const task = sum ? "arithmetic" : "variable_binding";
    if (sum && !/^\(.*\) *\*/.test(text)) return { error: "Put the difference in brackets, as in (68 - 1) * 3 + 7." };
    const operands = sum
      ? Object.fromEntries(["x", "y", "z", "w"].map((name, i) => [name, Number(sum[i + 1])]))
      : { a: Number(bound[1]), b: Number(bound[2]), op1: bound[3], op2: bound[4], k: Number(bound[5]) };
    const line = items[task].replace(/\{(\w+)\}/g, (_, name) => operands[name]);
    const { x, y, z, w, a, b, k, op1, op2 } = operands;
    const answer = sum ? (x - y) * z + w : APPLY[op2](APPLY[op1](a, b), k);
    const outside = Object.entries(ranges).filter(([name, [low, high]]) => operands[name] < low || operands[name] > high);
    const note = outside.length
      ? `Outside what the models were trained on (${outside.map(([name, [low, high]]) => `${name} from ${low} to ${high}`).join(", ")}): expect little.`
      : "";
    return { task, line, answer, note, typed: line.replace(/, d$/, "") };
  };

  const lab = async (place) => {
    const suite = await load("lab");
    const names = Object.keys(suite.models);
    const own = Object.fromEntries(names.map((name) => [
      name,
      { chances: new Uint16Array(bytes(suite.curves[name]).buffer), step: suite.temperatures.length },
    ]));
    const presets = new Map(suite.presets);
    const state = { problem: suite.examples[0].problem, t: 1, models: [suite.examples[0].model], knobs: {}, added: "nothing", u: null, draws: [] };

    // Controls
    const input = make("input", { type: "text", class: "problem", spellcheck: "false", autocomplete: "off", autocapitalize: "off", maxlength: "200" });
    const answer = make("output", { class: "answer" });
    const said = make("p", { class: "said", role: "status" });
    const examples = make("select", { "aria-label": "examples" });
    const choices = make("fieldset", { class: "models" }, make("legend", {}, "Models"));
    const unseen = make("p", { role: "status", class: "unseen" });
    const say = (text) => (unseen.textContent = text);
    const panels = new Map();
    const all = () => [...panels.values()];
    const [shelf, lower] = [make("div", { class: "panels" }), make("div", { class: "panels" })];
    const overall = make("canvas", { role: "img", "aria-label": "Accuracy over temperature" });
    const cells = make("canvas", { role: "application", tabindex: "0" });
    const cellNote = make("p", { class: "more" });
    const gridModel = make("select");

    const settings = (t = state.t) => {
      const added = Object.entries(presets.get(state.added)).map(([knob, amount]) => [PYTHON[knob], amount]);
      return completed({ temperature: t, ...state.knobs }, Object.fromEntries(added));
    };
    const plain = () => Object.keys(state.knobs).length === 0 && state.added === "nothing";

    // One model's part of the figure: its tree, its icicle, the curves of its likeliest answers.
    const ready = new Map(); // by name: a promise of {run, encode}, loaded once
    const engine = (name) => {
      if (!ready.has(name)) {
        ready.set(name, (async () => {
          const { architecture, vocabulary } = suite.models[name];
          const run = createModel(architecture, await unpack(await load(`weights-${name}`)));
          return { run, encode: createTokenizer(vocabulary) };
        })());
      }
      return ready.get(name);
    };
    const addPanel = (name) => {
      const panel = createPanel(name, state, { height: tall, head: () => headOf(panel), go: goOn, say });
      Object.assign(panel, { over: [], knobs: null, work: 0 });
      panel.curve = make("canvas", { role: "img", "aria-label": `The likeliest answers of ${short(name)} over temperature, not yet worked out.` });
      panel.below = make("div", {}, make("p", { class: "title" }, `The likeliest answers of ${short(name)}, as the dial turns`), panel.curve);
      return panel;
    };

    // Asks for the tree of the typed problem, and follows its answers a slice at a time while the page stays quick.
    const study = async (panel) => {
      const stale = busy(panel);
      const problem = state.read;
      panel.head.textContent = "The model is loading.";
      const { run, encode } = await engine(panel.name);
      if (stale()) return;
      const { prompt: [before, after], vocabulary } = suite.models[panel.name];
      const prompt = encode(before + problem.line + after);
      Object.assign(panel, { tree: null, blocks: [], chosen: null }); // the model forgets it as it reads
      await run.prepare(prompt, () => wait().then(stale));
      if (stale()) return;
      panel.tree = createTree(run, vocabulary, prompt, problem.answer, suite.limit);
      Object.assign(panel, { root: panel.tree.nodes[0], chosen: null, over: [], knobs: null, most: NODES });
      await follow(panel, stale, true);
      if (!stale()) await prepare(panel, stale);
      if (!stale()) settled(panel);
    };
    // Work that is begun makes all work before it stale.
    const busy = (panel) => {
      const work = ++panel.work;
      panel.node.setAttribute("aria-busy", "true");
      return () => work !== panel.work;
    };
    const settled = (panel) => panel.node.setAttribute("aria-busy", "false");
    // Follows what the present settings make likely. At once: draws as it goes.
    const follow = async (panel, stale, first = false) => {
      const { tree } = panel;
      for (let begun = performance.now(); ;) {
        tree.weigh(settings());
        const { root } = panel;
        const rest = (root.sums.unknown + root.sums.lost) / root.mass;
        const done = rest <= ENOUGH || tree.nodes.length >= panel.most || !tree.grow(6, 0.0005, { top: root });
        if (done || performance.now() - begun > (first ? 40 : SLICE)) {
          draw(panel);
          if (done) break;
          await wait();
          if (stale()) return;
          begun = performance.now();
        }
      }
    };
    // Follows what other temperatures make likely, and works out the curves.
    const prepare = async (panel, stale) => {
      const { tree } = panel;
      for (const t of [0.5, 1, 1.5, 2]) {
        const most = Math.min(NODES, tree.nodes.length + 60);
        for (let more = true; more && tree.nodes.length < most;) {
          tree.weigh(settings(t));
          more = tree.grow(4, 0.002);
          tree.weigh(settings());
          await wait();
          if (stale()) return;
        }
      }
      const found = [];
      for (const t of GRID) {
        tree.weigh(settings(t));
        found.push(tree.answers());
        tree.weigh(settings());
        await wait();
        if (stale()) return;
      }
      const best = new Map();
      for (const answers of found) for (const [key, p] of answers) best.set(key, Math.max(best.get(key) ?? 0, p));
      const keys = [...best].sort((a, b) => b[1] - a[1]).map(([key]) => key).filter((key) => key !== tree.right).slice(0, LINES - 1);
      panel.over = [tree.right, ...keys].map((key) => ({ key, values: found.map((answers) => answers.get(key) ?? 0) }));
      panel.knobs = knobs();
      draw(panel);
    };
    // After a turn: follows what has become likely; the curves are worked out again if they are of other knobs.
    const again = async (panel) => {
      if (!panel.tree) return;
      const stale = busy(panel);
      await follow(panel, stale);
      if (!stale() && panel.knobs !== knobs()) await prepare(panel, stale);
      if (!stale()) settled(panel);
    };
    const knobs = () => JSON.stringify([state.knobs, state.added]);

    // Drawing
    const tall = () => {
      if (document.fullscreenElement) return Math.max(320, innerHeight * (panels.size > 1 ? 0.3 : 0.5));
      return shelf.clientWidth < 560 ? 340 : panels.size > 1 ? 320 : 430;
    };
    const headOf = ({ tree }) => {
      const { correct, unknown } = tree.nodes[0].sums;
      const [first] = [...tree.answers()].sort((a, b) => b[1] - a[1]);
      const most = unknown >= 0.0005 ? `, at most ${(correct + unknown).toFixed(3)}` : "";
      const right = first?.[0] === tree.right;
      const leader = first ? [` Likeliest answer: ${number(first[0])} (${percent(first[1])}), `, make("b", { class: right ? "right" : "wrong" }, right ? "right." : "wrong.")] : [];
      return ["P(correct) = ", make("strong", {}, correct.toFixed(3)), `${most}.`, make("span", {}, ...leader)];
    };
    const paintCurve = ({ tree, over, curve, name: model }) => {
      if (!over.length) return;
      const answers = tree.answers();
      const lines = over.map(({ key, values }) => ({
        name: number(key), values, bold: key === tree.right, colour: key === tree.right ? "right" : "wrong", dot: answers.get(key) ?? 0,
      }));
      curves(curve, { temperatures: GRID, lines, t: state.t, height: 190, right: 84 });
      curve.setAttribute("aria-label", `Probability of answers of ${short(model)} at T = ${state.t.toFixed(2)}: ${lines.map(({ name, dot, bold }) => `${name}${bold ? " (right)" : ""} ${percent(dot)}`).join(", ")}.`);
    };
    const paint = (panel) => {
      panel.paint();
      paintCurve(panel);
    };
    const draw = (panel) => {
      paint(panel);
      panel.tell();
      line.tell();
    };
    const drawAll = () => {
      for (const panel of all().filter(({ tree }) => tree)) {
        panel.tree.weigh(settings());
        if (panel.root.mass === 0) panel.root = panel.tree.nodes[0]; // what was chosen cannot happen any more
        paint(panel);
      }
      drawOverall();
      for (const panel of all()) panel.tell();
      line.tell();
    };
    const means = (name) => {
      const { chances, step } = own[name];
      return suite.temperatures.map((_, i) => {
        let sum = 0;
        for (let at = i; at < chances.length; at += step) sum += chances[at];
        return sum / (chances.length / step) / suite.whole;
      });
    };
    const mean = Object.fromEntries(names.map((name) => [name, means(name)]));
    let cellFocus = null;
    const chancesNow = (name) => {
      const { chances, step } = own[name];
      const at = state.t * 10;
      const low = Math.min(Math.floor(at + 1e-9), step - 2);
      const share = at - low;
      return Array.from({ length: chances.length / step }, (_, i) => ((1 - share) * chances[i * step + low] + share * chances[i * step + low + 1]) / suite.whole);
    };
    let cellPlaces = null;
    const drawOverall = () => {
      const main = gridModel.value;
      const lines = state.models.map((name) => ({ name: short(name), values: mean[name], colour: "ink", bold: name === main, dash: name.includes("sparse") ? [7, 4] : [], dot: value(suite.temperatures, mean[name], state.t) }));
      curves(overall, { temperatures: suite.temperatures, lines, t: state.t, height: 210, right: 116 });
      overall.setAttribute("aria-label", `Accuracy on the 240 problems at T = ${state.t.toFixed(2)}: ${lines.map(({ name, dot }) => `${name} ${percent(dot)}`).join(", ")}.`);
      const chances = chancesNow(main);
      const chosen = suite.problems.findIndex(([, , line]) => line === state.read?.line);
      cellPlaces = grid(cells, { chances, chosen, focus: document.activeElement === cells ? cellFocus : null });
      const average = value(suite.temperatures, mean[main], state.t);
      const sure = chances.filter((p) => p > 0.95).length;
      const lost = chances.filter((p) => p < 0.05).length;
      cells.setAttribute("aria-label", `240 problems of ${short(main)}: ${sure} nearly always right, ${lost} nearly never. Arrow keys move, Enter chooses.`);
      const focused = cellFocus === null ? "" : ` ${suite.problems[cellFocus][2]} =: ${percent(chances[cellFocus])}.`;
      cellNote.textContent = `At T = ${state.t.toFixed(2)}, ${short(main)} gets ${percent(average)} right: ${sure} problems nearly always (over 95 %), ${lost} nearly never (under 5 %).${focused}`;
    };
    // A reader goes on from a token, which may need more of the tree than the dial did.
    const goOn = (panel) => {
      panel.most = Math.max(panel.most, Math.min(panel.tree.nodes.length + 60, MOST_NODES));
      drawAll();
      again(panel).catch(fail);
    };

    // State in the address, behind its #, where a page from disk may write.
    const remember = () => {
      moved ||= begun;
      clearTimeout(noted);
      noted = setTimeout(note, 200); // browsers refuse an address that changes a hundred times in a row
    };
    let [noted, begun, moved] = [null, false, false]; // the address stays as it is until a reader moves something
    const note = () => {
      const words = new URLSearchParams({ p: state.read?.typed ?? state.problem, T: state.t.toFixed(2), m: state.models.map((name) => name.replace("tiny-", "")).join(".") });
      for (const [knob, amount] of Object.entries(state.knobs)) words.set(knob, amount);
      if (state.added !== "nothing") words.set("added", [...presets.keys()].indexOf(state.added));
      if (state.u !== null) words.set("u", state.u.toFixed(3));
      if (moved) history.replaceState(null, "", `#${words}`);
      frame.textContent = `<iframe src="${location.href.split("#")[0].split("?")[0]}?embed#${words}" title="All answers of a tiny language model" width="100%" height="900" style="border: 0"></iframe>`;
    };
    const recall = () => {
      const words = new URLSearchParams(location.hash.slice(1));
      state.knobs = {};
      const real = (name, low, high, otherwise) => {
        const found = parseFloat(words.get(name));
        return found >= low && found <= high ? found : otherwise;
      };
      state.problem = words.get("p") ?? state.problem;
      state.t = real("T", 0, 2, state.t);
      const asked = (words.get("m") ?? "").split(".").map((name) => `tiny-${name}`).filter((name) => names.includes(name));
      if (asked.length) state.models = names.filter((name) => asked.includes(name));
      for (const [knob, { min, max, off }] of Object.entries(KNOBS)) {
        const found = real(knob, min, max, off);
        if (found !== off) state.knobs[knob] = found;
      }
      state.added = [...presets.keys()][real("added", 0, presets.size - 1, 0)] ?? "nothing";
      state.u = real("u", 0, 0.999, null);
    };

    // What folds out: knobs, and what a checkpoint adds to what was asked.
    const KNOBS = { topK: { min: 0, max: 50, step: 1, off: 0 }, topP: { min: 0.05, max: 1, step: 0.05, off: 1 }, minP: { min: 0, max: 0.5, step: 0.01, off: 0 } };
    const table = make("tbody");
    const preset = make("select", {}, ...[...presets.keys()].map((name) => make("option", { value: name }, name)));
    const turners = Object.entries(KNOBS).map(([knob, { min, max, step, off }]) => {
      const control = make("input", { type: "range", min, max, step });
      const output = make("output");
      control.addEventListener("input", () => {
        if (control.valueAsNumber === off) delete state.knobs[knob];
        else state.knobs[knob] = control.valueAsNumber;
        knobsChanged();
      });
      const show = () => {
        control.value = state.knobs[knob] ?? off;
        output.textContent = control.valueAsNumber === off ? "off" : String(control.valueAsNumber);
        control.setAttribute("aria-valuetext", output.textContent);
      };
      return { show, node: labelled(WORDS[knob], control, output) };
    });
    preset.addEventListener("input", () => {
      state.added = preset.value;
      knobsChanged();
    });
    const pureNote = make("p", { class: "pure", role: "note" }, "A knob is on. The tree, its answers and their curves follow it; this accuracy and the grid of the 240 problems are those of temperature alone.");
    const showKnobs = () => {
      for (const { show } of turners) show();
      preset.value = state.added;
      const whole = settings();
      const row = (name, mine, added) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, mine), make("td", {}, added));
      table.replaceChildren(row("temperature", state.t.toFixed(2), "–"), ...Object.entries(WORDS).map(([knob, word]) =>
        row(word, knob in state.knobs ? String(state.knobs[knob]) : "–", !(knob in state.knobs) && whole[knob] !== OFF[knob] ? String(whole[knob]) : "–")));
      pureNote.hidden = plain();
    };
    const knobsChanged = () => {
      showKnobs();
      drawAll();
      for (const panel of panels.values()) again(panel).catch(fail);
      remember();
    };
    const inherited = Object.entries(suite.models[names[0]].inherited).map(([knob, amount]) => `${WORDS[PYTHON[knob]]} ${amount}`).join(", ");
    const head = make("tr", {}, ...["knob", "you asked", "was added"].map((text) => make("th", { scope: "col" }, text)));
    const more = make("details", { class: "fold" }, make("summary", {}, "More knobs, and what a checkpoint adds"),
      make("div", { class: "controls" }, ...turners.map(({ node }) => node), labelled("added", preset)),
      make("p", { class: "more" }, `The generation_config.json of these checkpoints sets no knob. Asked for a temperature alone, transformers then adds ${inherited} without a word. Other checkpoints ship more: choose what is added, and see what it does.`),
      make("table", { class: "knobs" }, make("thead", {}, head), table));
    const frame = make("textarea", { readonly: "", rows: "3" });
    const share = make("details", { class: "fold" }, make("summary", {}, "Share or embed this"),
      make("p", { class: "more" }, "The address of this page holds what you see. To put the figure into a page of your own:"), labelled("HTML", frame));

    // What happens when a control is turned
    const ask = () => {
      const found = read(input.value, suite);
      input.setAttribute("aria-invalid", String("error" in found));
      said.classList.toggle("error", "error" in found);
      if (found.error) {
        said.textContent = found.error;
        answer.textContent = "";
        return;
      }
      said.textContent = found.note;
      answer.textContent = `= ${number(String(found.answer))}`;
      if (found.line === state.read?.line) return;
      dice.clear();
      state.read = found;
      for (const panel of panels.values()) study(panel).catch(fail);
      drawOverall();
      remember();
    };
    const chooseModels = () => {
      for (const [name, panel] of panels) {
        if (state.models.includes(name)) continue;
        panel.work++; // what it was doing is no longer wanted
        panel.node.remove();
        panel.below.remove();
        panels.delete(name);
      }
      for (const name of state.models) {
        const fresh = !panels.has(name);
        if (fresh) panels.set(name, addPanel(name));
        shelf.append(panels.get(name).node);
        lower.append(panels.get(name).below);
        if (fresh && state.read) study(panels.get(name)).catch(fail);
      }
      for (const each of [shelf, lower]) each.classList.toggle("several", panels.size > 1);
      for (const box of choices.querySelectorAll("input")) box.checked = state.models.includes(box.value);
      if (!state.models.includes(gridModel.value)) gridModel.value = state.models[0];
      drawAll();
      remember();
    };
    const turn = () => {
      drawAll();
      clearTimeout(later);
      later = setTimeout(() => {
        for (const panel of all()) again(panel).catch(fail);
        showKnobs();
        remember();
        say(`T = ${state.t.toFixed(2)}. ${all().map(told).join(" ")}`);
      }, 150);
    };
    let later = null;
    const dial = createDial(state, turn);
    const dice = createDice(state, all, drawAll, say);
    const line = createLine(state, all, () => {
      drawAll();
      remember();
    });
    const fail = (error) => (said.textContent = `The lab could not go on: ${error.message}.`);

    for (const { problem, says } of suite.examples) examples.append(make("option", { value: problem }, says));
    const paper = make("optgroup", { label: "the book's 240 problems" }, ...suite.problems.map(([, , line]) => make("option", { value: line.replace(/, d$/, "") }, line)));
    examples.prepend(make("option", { value: "" }, "examples …"));
    examples.append(paper);
    examples.addEventListener("input", () => {
      const example = suite.examples.find(({ problem }) => problem === examples.value);
      if (!examples.value) return;
      input.value = examples.value;
      if (example) {
        state.models = [example.model];
        chooseModels();
      }
      ask();
      examples.value = "";
    });
    for (const name of names) {
      const box = make("input", { type: "checkbox", value: name });
      box.addEventListener("change", () => {
        const wanted = names.filter((each) => choices.querySelector(`input[value="${each}"]`).checked);
        if (!wanted.length) return (box.checked = true);
        state.models = wanted;
        chooseModels();
      });
      choices.append(make("label", {}, box, short(name)));
      gridModel.append(make("option", { value: name }, short(name)));
    }
    input.addEventListener("input", ask);
    gridModel.addEventListener("input", drawOverall);
    const take = (i) => {
      input.value = suite.problems[i][2].replace(/, d$/, "");
      ask();
      drawOverall();
    };
    cells.addEventListener("click", ({ offsetX, offsetY }) => {
      const i = cellPlaces?.at(offsetX, offsetY);
      if (i !== null && i !== undefined) take((cellFocus = i));
    });
    cells.addEventListener("pointermove", ({ offsetX, offsetY }) => {
      const i = cellPlaces?.at(offsetX, offsetY) ?? null;
      if (i !== cellFocus) {
        cellFocus = i;
        cells.style.cursor = i === null ? "default" : "pointer";
        drawOverall();
      }
    });
    cells.addEventListener("focus", () => {
      cellFocus ??= 0;
      drawOverall();
    });
    cells.addEventListener("keydown", (event) => {
      cellFocus ??= 0;
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -cellPlaces.columns, ArrowDown: cellPlaces.columns }[event.key];
      if (event.key === "Enter") take(cellFocus);
      else if (step && suite.problems[cellFocus + step]) cellFocus += step;
      else if (!step) return;
      event.preventDefault();
      drawOverall();
      say(cellNote.textContent);
    });
    place.append(
      make("div", { class: "ask" }, labelled("Problem", input, answer), examples),
      said,
      dial.node, choices, shelf,
      make("div", { class: "buttons" }, ...dice.buttons, createFull(place, fail)),
      line.node,
      lower, more,
      make("p", { class: "title" }, "All 240 problems of the book: accuracy, as the dial turns"), pureNote, overall,
      make("div", { class: "cells" }, labelled("The 240 of", gridModel), cellNote, cells),
      share, unseen,
    );
    recall();
    examples.value = "";
    gridModel.value = state.models[0];
    input.value = state.problem;
    if (state.u !== null) line.input.value = state.u;
    dial.show();
    showKnobs();
    const first = read(input.value, suite);
    if (!first.error) input.value = first.typed;
    chooseModels();
    ask();
    drawAll();
    watch(place, drawAll);
    begun = true;
    window.addEventListener("hashchange", () => {
      if (!new URLSearchParams(location.hash.slice(1)).has("p")) return; // a heading of the page
      recall();
      input.value = state.problem;
      dial.show();
      showKnobs();
      chooseModels();
      ask();
    });
  };

  if (new URLSearchParams(location.search).has("embed")) document.documentElement.classList.add("lab-embedded");
  for (const place of document.querySelectorAll(".lmrel-lab")) {
    lab(place).catch((error) => (place.textContent = `The lab could not be started: ${error.message}.`));
  }
})();
