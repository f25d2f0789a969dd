// The lab: a reader's own problem, the shipped models, one dial. What it shows is worked out in lab-model.js.
(() => {
  const { load, bytes, completed } = window.lmrelLive;
  const { unpack, createTokenizer, createModel, createTree } = window.lmrelLab;
  const { icicle, curves, grid, shown, percent, number, value } = window.lmrelDraw;
  const [NODES, MOST_NODES] = [600, 1500]; // of a tree, at most, and if a reader chooses tokens that are unlikely
  const ENOUGH = 0.005; // mass not followed that may stay
  const SLICE = 12; // milliseconds at a time for following answers
  const GRID = Array.from({ length: 21 }, (_, i) => i / 10);
  const LINES = 4; // answers whose curves are drawn
  const NEAR = 0.04; // of the height: the rain stops when no part of the pile is further off
  const MOST = 2000; // draws
  const PYTHON = { top_k: "topK", top_p: "topP", min_p: "minP", repetition_penalty: "repetitionPenalty" };
  const WORDS = { topK: "top-k", topP: "top-p", minP: "min-p", repetitionPenalty: "repetition penalty" };
  const OFF = { topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  // Strings become text nodes: what a reader types and what a model writes is never read as HTML.
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, text] of Object.entries(attributes)) node.setAttribute(name, text);
    node.append(...children);
    return node;
  };
  const button = (text, act) => {
    const node = make("button", { type: "button" }, text);
    node.addEventListener("click", act);
    return node;
  };
  let named = 0;
  const labelled = (text, control, ...more) => {
    control.id = `lab-${named++}`;
    return make("div", { class: "control" }, make("label", { for: control.id }, text), control, ...more);
  };
  const short = (name) => name.replace("tiny-", "").replace("-", " ");
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
    const dial = make("input", { type: "range", min: 0, max: 2, step: 0.01, class: "dial" });
    const turned = make("output", { class: "turned" });
    const number_u = make("input", { type: "range", min: 0, max: 0.999, step: 0.001, value: 0 });
    const picked = make("output", { class: "picked" });
    const told = make("p", { role: "status", class: "unseen" });
    const panels = new Map();
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
    const createPanel = (name) => {
      const panel = { name, tree: null, root: null, blocks: [], chosen: null, drops: [], over: [], knobs: null, work: 0 };
      panel.head = make("p", { class: "head" });
      panel.canvas = make("canvas", { class: "icicle", role: "application", tabindex: "0", "aria-label": `All answers of ${short(name)}. Arrow keys move over the tokens, Enter chooses one, Escape goes back.` });
      panel.path = make("span");
      panel.back = button("Back to all answers", () => choose(panel, panel.tree.nodes[0]));
      panel.rain = make("p", { class: "more rained" });
      panel.curve = make("canvas", { role: "img", "aria-label": `The likeliest answers of ${short(name)} over temperature, not yet worked out.` });
      panel.node = make("section", { "aria-label": short(name) }, make("p", { class: "name" }, short(name)), panel.head, panel.canvas,
        make("p", { class: "path" }, panel.path, " ", panel.back), panel.rain);
      panel.below = make("div", {}, make("p", { class: "title" }, `The likeliest answers of ${short(name)}, as the dial turns`), panel.curve);
      listen(panel);
      return panel;
    };

    // Asks for the tree of the typed problem, and follows its answers a slice at a time while the page stays quick.
    const study = async (panel) => {
      const work = ++panel.work;
      const stale = () => work !== panel.work;
      const problem = state.read;
      panel.head.textContent = "The model is loading.";
      const { run, encode } = await engine(panel.name);
      if (stale()) return;
      const { prompt: [before, after], vocabulary } = suite.models[panel.name];
      panel.tree = createTree(run, vocabulary, encode(before + problem.line + after), problem.answer, suite.limit);
      Object.assign(panel, { root: panel.tree.nodes[0], chosen: null, over: [], knobs: null, most: NODES });
      await follow(panel, stale, true);
      if (!stale()) await prepare(panel, stale);
    };
    // Follows what the present settings make likely. At once: draws as it goes.
    const follow = async (panel, stale, first = false) => {
      const { tree } = panel;
      for (let begun = performance.now(); ;) {
        tree.weigh(settings());
        tree.sum();
        const { root } = panel;
        const rest = root.sums ? (root.sums.unknown + root.sums.lost) / root.mass : 1;
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
          tree.sum();
          await wait();
          if (stale()) return;
        }
      }
      const found = [];
      for (const t of GRID) {
        tree.weigh(settings(t));
        found.push(tree.answers());
        tree.weigh(settings());
        tree.sum();
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
      const work = ++panel.work;
      const stale = () => work !== panel.work;
      await follow(panel, stale);
      if (!stale() && panel.knobs !== knobs()) await prepare(panel, stale);
    };
    const knobs = () => JSON.stringify([state.knobs, state.added]);

    // Drawing
    const tall = () => {
      if (document.fullscreenElement) return Math.max(320, innerHeight * (panels.size > 1 ? 0.3 : 0.5));
      return shelf.clientWidth < 560 ? 340 : panels.size > 1 ? 320 : 430;
    };
    const draw = (panel) => {
      const { tree, root } = panel;
      if (!tree) return;
      const height = tall();
      if (root.mass > 0) {
        const chosen = panel.chosen && panel.blocks.find(same(panel.chosen));
        panel.blocks = icicle(panel.canvas, { tree, root, height, u: state.u, draws: state.draws, drops: panel.drops, chosen });
      }
      const { correct, unknown } = tree.nodes[0].sums;
      const answers = [...tree.answers()].sort((a, b) => b[1] - a[1]);
      const [first] = answers;
      const most = unknown >= 0.0005 ? `, at most ${(correct + unknown).toFixed(3)}` : "";
      const leader = first ? make("span", {}, ` Likeliest answer: ${number(first[0])} (${percent(first[1])}), `, make("b", { class: first[0] === tree.right ? "right" : "wrong" }, first[0] === tree.right ? "right." : "wrong.")) : "";
      panel.head.replaceChildren("P(correct) = ", make("strong", {}, correct.toFixed(3)), `${most}.`, leader);
      tellPath(panel);
      tellRain(panel);
      const lines = panel.over.map(({ key, values }) => ({
        name: number(key), values, bold: key === tree.right, colour: key === tree.right ? "right" : "wrong",
        dot: answers.find(([each]) => each === key)?.[1] ?? 0,
      }));
      if (lines.length) {
        curves(panel.curve, { temperatures: GRID, lines, t: state.t, height: 190, right: 84 });
        panel.curve.setAttribute("aria-label", `Probability of answers of ${short(panel.name)} at T = ${state.t.toFixed(2)}: ${lines.map(({ name, dot, bold }) => `${name}${bold ? " (right)" : ""} ${percent(dot)}`).join(", ")}.`);
      }
    };
    const same = (one) => (other) => one.from === other.from && one.way === other.way;
    const tellPath = ({ tree, root, chosen, path, back }) => {
      const whole = root === tree.nodes[0];
      const parts = whole ? [] : [`You chose “${shown(root.text)}”. The model itself begins so in ${percent(root.mass)} of draws.`];
      if (chosen) {
        const { open, text, answer, right, p } = chosen.way;
        parts.push(open ? `“${shown(text)}” begins ${percent(p)} of draws.` : `The whole answer ${number(answer)}, ${right ? "right" : "wrong"}: ${percent(p)} of draws.`);
      } else if (whole) parts.push("Left to right a token at a time; height is probability. Click a token to choose it yourself.");
      path.textContent = parts.join(" ");
      back.hidden = whole;
    };
    const tellRain = (panel) => {
      const { tree, root } = panel;
      if (!state.draws.length || !(root.mass > 0)) return panel.rain.replaceChildren();
      const right = state.draws.filter((u) => tree.pick(u, root).right).length;
      const share = root.sums.correct / root.mass;
      panel.rain.textContent = `${right} of ${state.draws.length} draws right: ${percent(right / state.draws.length)}. The heights say ${percent(share)}.`;
    };
    const drawAll = () => {
      for (const panel of panels.values()) {
        if (panel.tree) {
          panel.tree.weigh(settings());
          panel.tree.sum();
          if (panel.root.mass === 0) panel.root = panel.tree.nodes[0]; // what was chosen cannot happen any more
        }
        draw(panel);
      }
      drawOverall();
      tellU();
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
    const tellU = () => {
      if (state.u === null) return (picked.textContent = "Move it: a number u between 0 and 1 picks a whole answer.");
      const found = [...panels.values()].filter(({ tree, root }) => tree && root.mass > 0).map(({ tree, root, name }) => {
        const way = tree.pick(state.u, root);
        const what = way.open ? "an answer not followed" : `${number(way.answer)} ${way.right ? "✓" : "✗"}`;
        return panels.size > 1 ? `${short(name)} ${what}` : what;
      });
      picked.textContent = `u = ${state.u.toFixed(3)} picks ${found.join(", ")}.`;
      number_u.setAttribute("aria-valuetext", picked.textContent);
    };

    // Choosing tokens, by pointer and by key
    const choose = (panel, node) => {
      Object.assign(panel, { root: node, chosen: null, most: Math.max(panel.most, Math.min(panel.tree.nodes.length + 60, MOST_NODES)) });
      panel.tree.weigh(settings());
      panel.tree.sum();
      drawAll();
      again(panel).catch(fail);
    };
    const enter = (panel, { from, way }) => {
      if (way.open) choose(panel, panel.tree.follow(from, way));
    };
    const listen = (panel) => {
      const { canvas } = panel;
      const under = ({ offsetX: x, offsetY: y }) => panel.blocks.find((b) => x >= b.x && x < b.x + b.w && y >= b.y && y < b.y + b.h);
      canvas.addEventListener("pointermove", (event) => {
        const block = under(event);
        if (block?.way === panel.chosen?.way) return;
        panel.chosen = block ?? null;
        canvas.style.cursor = block?.way.open ? "pointer" : "default";
        draw(panel);
      });
      canvas.addEventListener("pointerleave", () => {
        panel.chosen = null;
        draw(panel);
      });
      canvas.addEventListener("click", (event) => {
        const block = under(event);
        if (block) enter(panel, block);
      });
      canvas.addEventListener("keydown", (event) => {
        const at = panel.blocks.find(same(panel.chosen ?? {})) ?? null;
        const siblings = at ? panel.blocks.filter(({ from }) => from === at.from) : [];
        const nth = siblings.indexOf(at);
        const to = !at
          ? { ArrowRight: panel.blocks[0], ArrowDown: panel.blocks[0] }[event.key]
          : {
              ArrowDown: siblings[nth + 1], ArrowUp: siblings[nth - 1],
              ArrowRight: panel.blocks.find(({ from }) => from === at.way.child),
              ArrowLeft: panel.blocks.find(({ way }) => way.child === at.from),
            }[event.key];
        if (event.key === "Enter" && at) enter(panel, at);
        else if (event.key === "Escape" && (panel.root !== panel.tree?.nodes[0] || at)) choose(panel, panel.root.parent ?? panel.root);
        else if (!event.key.startsWith("Arrow")) return;
        event.preventDefault();
        if (to) {
          panel.chosen = to;
          draw(panel);
          told.textContent = panel.path.textContent;
        }
      });
    };

    // Draws: numbers u, the same for all models. They fall, and lie in the pile when they have landed.
    let raining = null;
    // How far the pile is from the heights where it is furthest, of the whole height.
    const distance = (us) => Math.max(...us.map((u, i) => Math.max((i + 1) / us.length - u, u - i / us.length)));
    const land = (us) => {
      state.draws = [...state.draws, ...us].slice(0, MOST).sort((a, b) => a - b);
    };
    const fall = (us) => {
      if (still.matches) {
        land(us);
        return drawAll();
      }
      const begun = performance.now();
      const falling = us.map((u, i) => ({ u, from: Math.random(), delay: (i * 300) / us.length }));
      const move = (now) => {
        let left = 0;
        const drops = falling.map(({ u, from, delay }) => {
          const age = (now - begun - delay) / 600;
          if (age < 1) left++;
          const down = Math.min(1, Math.max(0, age) * 1.8);
          const across = Math.min(1, Math.max(0, age * 1.8 - 0.8));
          return age <= 0 || age >= 1 ? null : { x: from + (1 - from) * across, y: u * down * down, slide: across };
        });
        for (const panel of panels.values()) {
          panel.drops = drops.filter(Boolean);
          draw(panel);
        }
        if (left) requestAnimationFrame(move);
        else {
          land(us);
          drawAll();
        }
      };
      requestAnimationFrame(move);
    };
    const stop = () => {
      clearTimeout(raining);
      raining = null;
      rain.textContent = "Let it rain";
    };
    const pour = () => {
      const all = [...panels.values()].filter(({ tree }) => tree);
      if (!raining || !all.length) return;
      if (state.draws.length >= MOST || (state.draws.length && distance(state.draws) < NEAR)) {
        stop();
        told.textContent = all.map(({ rain: text, name }) => `${short(name)}: ${text.textContent}`).join(" ");
        return;
      }
      fall(Array.from({ length: Math.max(8, Math.ceil(state.draws.length / 2)) }, Math.random));
      raining = setTimeout(pour, still.matches ? 150 : 950);
    };
    const one = button("Draw", () => fall([Math.random()]));
    const rain = button("Let it rain", () => {
      if (raining) return stop();
      raining = true;
      rain.textContent = "Stop the rain";
      pour();
    });
    const clear = button("Clear", () => {
      stop();
      state.draws = [];
      drawAll();
    });

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
    const pureNote = make("p", { class: "more" }, "The tree and its answers are those under these knobs. The accuracy and the grid of the 240 problems below stay those of temperature alone.");
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
      make("table", { class: "knobs" }, make("thead", {}, head), table), pureNote);
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
      stop();
      state.read = found;
      state.draws = [];
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
        if (fresh) panels.set(name, createPanel(name));
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
      state.t = dial.valueAsNumber;
      showDial();
      drawAll();
      clearTimeout(later);
      later = setTimeout(() => {
        for (const panel of panels.values()) again(panel).catch(fail);
        showKnobs();
        remember();
        told.textContent = `T = ${turned.textContent}. ${[...panels.values()].map(({ name, head: text }) => `${short(name)}: ${text.textContent}`).join(" ")}`;
      }, 150);
    };
    let later = null;
    const showDial = () => {
      dial.value = state.t;
      turned.textContent = state.t === 0 ? "0 (greedy)" : state.t.toFixed(2);
      dial.setAttribute("aria-valuetext", turned.textContent);
    };
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
    dial.addEventListener("input", turn);
    number_u.addEventListener("input", () => {
      state.u = number_u.valueAsNumber;
      drawAll();
      remember();
    });
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
      told.textContent = cellNote.textContent;
    });
    const full = button("Full screen", () => (document.fullscreenElement ? document.exitFullscreen() : place.requestFullscreen()).catch(fail));
    full.hidden = !document.fullscreenEnabled;

    place.append(
      make("div", { class: "ask" }, labelled("Problem", input, answer), examples),
      said,
      make("div", { class: "big" }, labelled("Temperature", dial, turned),
        make("div", { class: "ticks", "aria-hidden": "true" }, ...["0 greedy", "0.5", "1", "1.5", "2"].map((text) => make("span", {}, text)))),
      choices, shelf,
      make("div", { class: "buttons" }, one, rain, clear, full),
      labelled("u", number_u, picked),
      lower, more,
      make("p", { class: "title" }, "All 240 problems of the book: accuracy, as the dial turns"), overall,
      make("div", { class: "cells" }, labelled("The 240 of", gridModel), cellNote, cells),
      share, told,
    );
    recall();
    examples.value = "";
    gridModel.value = state.models[0];
    input.value = state.problem;
    if (state.u !== null) number_u.value = state.u;
    showDial();
    showKnobs();
    const first = read(input.value, suite);
    if (!first.error) input.value = first.typed;
    chooseModels();
    ask();
    drawAll();
    new ResizeObserver(drawAll).observe(place);
    new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    begun = true;
    window.addEventListener("hashchange", () => {
      if (!new URLSearchParams(location.hash.slice(1)).has("p")) return; // a heading of the page
      recall();
      input.value = state.problem;
      showDial();
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
