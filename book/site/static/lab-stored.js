// A stored tree as a figure to work: the lab's dial, icicle, line u and rain for one problem, without its weights.
(() => {
  const { load } = window.lmrelLive;
  const { openTree } = window.lmrelTree;
  const { curves, number } = window.lmrelDraw;
  const { make, button, short, still, createDial, createPanel, createDice, createLine, createFull, watch } = window.lmrelFigure;
  const GRID = Array.from({ length: 21 }, (_, i) => i / 10);
  const LINES = 4; // answers whose curves are drawn
  const JOURNEY = [[0, 0], [2, 0], [12, 2], [13.5, 2]]; // seconds, and where the dial then is; it ends where it rests

  const outOf = (p) => {
    if (p > 0.995) return p === 1 ? "every draw" : "over 99 of 100 draws";
    return p < 0.005 ? "fewer than 1 of 100 draws" : `${Math.round(100 * p)} of 100 draws`;
  };
  // What is seen, in words: the likeliest answer, and beside it the likeliest that is right if it is wrong, or wrong.
  const words = (tree, t) => {
    const all = [...tree.answers()].sort((a, b) => b[1] - a[1]);
    const [[first, p]] = all;
    const right = first === tree.right;
    const other = all.find(([answer]) => (answer === tree.right) !== right);
    const mark = make("b", { class: right ? "right" : "wrong" }, right ? "right" : "wrong");
    const [which, what] = right ? ["likeliest wrong answer", other && number(other[0])] : ["right answer", number(tree.right)];
    const then = p === 1 ? "" : ` The ${which}, ${what}, comes in ${outOf(other?.[1] ?? 0)}.`;
    return [`At T = ${t === 0 ? "0" : t.toFixed(2)} this model answers ${number(first)} in ${outOf(p)}; ${number(first)} is `, mark, `.${then}`];
  };
  // The answers that are likeliest at some temperature, and their curves.
  const over = (tree) => {
    const found = GRID.map((temperature) => {
      tree.weigh({ temperature });
      return tree.answers();
    });
    const best = new Map();
    for (const answers of found) for (const [key, p] of answers) best.set(key, Math.max(best.get(key) ?? 0, p));
    const keys = [...best].sort((a, b) => b[1] - a[1]).map(([key]) => key).filter((key) => key !== tree.right);
    return [tree.right, ...keys.slice(0, LINES - 1)].map((key) => ({ key, values: found.map((answers) => answers.get(key) ?? 0) }));
  };

  const figure = async (place) => {
    const stored = await load(place.dataset.figure);
    const has = (word) => place.classList.contains(word);
    const landing = place.dataset.figure === "landing";
    const rest = "t" in place.dataset ? Number(place.dataset.t) : stored.t;
    const runs = landing && !still.matches;
    const state = { t: runs ? 0 : rest, u: null, draws: [] };
    const tree = openTree(stored);
    const lines = has("lines") ? over(tree) : [];
    const unseen = make("p", { role: "status", class: "unseen" });
    const say = (text) => (unseen.textContent = text);
    const fail = (error) => say(`That did not work: ${error.message}.`);
    const picture = make("canvas", { role: "img" });

    const large = () => has("big") && innerWidth >= 900; // as in the style sheet
    const height = () => {
      if (document.fullscreenElement || large()) return Math.max(260, innerHeight * 0.5);
      return landing ? Math.max(250, Math.min(330, innerHeight * 0.32)) : place.clientWidth < 560 ? 300 : 340;
    };
    const panel = createPanel(stored.model, state, { height, head: () => words(tree, state.t), go: () => draw(), say });
    Object.assign(panel, { tree, root: tree.nodes[0] });
    const link = make("a", { class: "try" }, "Try your own problem");
    const draw = () => {
      link.href = `${place.dataset.lab}#${new URLSearchParams({ p: stored.typed, T: state.t.toFixed(2), m: stored.model.replace("tiny-", "") })}`;
      tree.weigh({ temperature: state.t });
      if (panel.root.mass === 0) panel.root = tree.nodes[0]; // what was chosen cannot happen any more
      panel.paint();
      if (lines.length) drawLines();
      panel.tell();
      line.tell();
    };
    const drawLines = () => {
      const now = tree.answers();
      const drawn = lines.map(({ key, values }) => ({
        name: number(key), values, bold: key === tree.right, colour: key === tree.right ? "right" : "wrong", dot: now.get(key) ?? 0,
      }));
      curves(picture, { temperatures: GRID, lines: drawn, t: state.t, height: large() ? 260 : 190, right: 84 });
      picture.setAttribute("aria-label", `Probability of answers of ${short(stored.model)} at T = ${state.t.toFixed(2)}: ${drawn.map(({ name, dot, bold }) => `${name}${bold ? " (right)" : ""} ${(100 * dot).toFixed(0)} %`).join(", ")}.`);
    };
    let later = null;
    const dial = createDial(state, () => {
      draw();
      clearTimeout(later);
      later = setTimeout(() => say(panel.head.textContent), 400);
    });
    const line = createLine(state, () => [panel], draw);
    const dice = createDice(state, () => [panel], draw, say);

    // Once, slowly, and only until a reader does anything, the dial turns by itself.
    let running = null; // {begun: when, in milliseconds of the page's clock}
    const end = [...JOURNEY, [17, rest]];
    const step = (now) => {
      if (!running) return;
      running.begun ??= now;
      const age = (now - running.begun) / 1000;
      const after = end.findIndex(([seconds]) => seconds > age);
      if (after < 0) {
        state.t = rest;
        halt();
      } else {
        const [[from, low], [to, high]] = [end[after - 1], end[after]];
        state.t = Math.round(100 * (low + ((high - low) * (age - from)) / (to - from))) / 100;
        requestAnimationFrame(step);
      }
      dial.show();
      draw();
    };
    let touched = false;
    const halt = () => {
      running = null;
      play.textContent = "Turn by itself";
    };
    const go = () => {
      running = { begun: null };
      play.textContent = "Pause";
      requestAnimationFrame(step);
    };
    const play = button("Turn by itself", () => (running ? halt() : go()));
    for (const kind of ["pointerdown", "keydown", "input"]) {
      place.addEventListener(kind, ({ target }) => {
        touched = true;
        if (target !== play) halt();
      });
    }

    place.replaceChildren(
      make("p", { class: "asked" }, "Asked: ", make("b", {}, `${stored.problem} = ?`), " Right answer: ", make("b", { class: "right" }, number(String(stored.answer)))),
      dial.node, panel.node,
      make("div", { class: "buttons" }, ...dice.buttons, ...(landing ? [play] : []), createFull(place, fail), link),
      ...(landing ? [] : [line.node]),
      ...(lines.length ? [make("div", {}, make("p", { class: "title" }, "The likeliest answers, as the dial turns"), picture)] : []),
      unseen,
    );
    dial.show();
    draw();
    watch(place, draw);
    if (!runs) return;
    new IntersectionObserver(([{ isIntersecting }], observer) => {
      if (!isIntersecting) return;
      observer.disconnect();
      if (!touched) go();
    }, { threshold: 0.6 }).observe(place);
  };

  for (const place of document.querySelectorAll(".lmrel-tree")) {
    figure(place).catch((error) => (place.textContent = `The figure could not be drawn: ${error.message}.`));
  }
})();
