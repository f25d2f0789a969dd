// What a reader works on a tree of answers: the dial, the icicle, the line u, draws that rain. The lab and the stored
// trees put their figures together from these. `state` is {t, u, draws}: the dial, the line, and the numbers drawn.
window.lmrelFigure = (() => {
  const { icicle, shown, percent, number } = window.lmrelDraw;
  const NEAR = 0.04; // of the height: the rain stops when no part of the pile is further off
  const MOST = 2000; // draws
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  const make = window.lmrelMake;
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
  const told = (panel) => `${short(panel.name)}: ${panel.head.textContent}`;

  // `act` at most once a frame, however often it is asked for.
  const framed = (act) => {
    let asked = null;
    return () => {
      asked ??= requestAnimationFrame(() => {
        asked = null;
        act();
      });
    };
  };

  const createDial = (state, turned) => {
    const input = make("input", { type: "range", min: 0, max: 2, step: 0.01, class: "dial" });
    const output = make("output", { class: "turned", "aria-live": "off" }); // the dial itself says its value
    const marks = ["0 greedy", "0.5", "1", "1.5", "2"].map((text) => make("span", {}, make("span", {}, text)));
    const show = () => {
      input.value = state.t;
      output.textContent = state.t === 0 ? "0" : state.t.toFixed(2);
      input.setAttribute("aria-valuetext", state.t === 0 ? "0, greedy" : output.textContent);
    };
    const soon = framed(() => {
      turned();
      show(); // a word: after the pictures
    });
    input.addEventListener("input", () => {
      state.t = input.valueAsNumber;
      soon();
    });
    const node = make("div", { class: "big" }, labelled("Temperature", input, output), make("div", { class: "ticks", "aria-hidden": "true" }, ...marks));
    return { node, input, show };
  };

  // The figure of one tree. `head` returns what stands above it; `go` goes on from a node that a reader chose.
  const createPanel = (name, state, { height, head, go, say }) => {
    const panel = { name, tree: null, root: null, blocks: [], chosen: null, drops: [], picked: [] };
    const canvas = make("canvas", { class: "icicle", role: "application", tabindex: "0", "aria-label": `All answers of ${short(name)}. Arrow keys move over the tokens, Enter chooses one, Escape goes back.` });
    const path = make("span");
    const back = button("Back to all answers", () => panel.tree && choose(panel.tree.nodes[0]));
    panel.head = make("p", { class: "head" });
    panel.rain = make("p", { class: "more rained" });
    panel.node = make("section", { "aria-label": short(name) }, make("p", { class: "name" }, short(name)), panel.head, canvas,
      make("p", { class: "path" }, path, " ", back), panel.rain);

    // Pictures and words apart: to measure a canvas after words have changed lays the page out once more.
    panel.paint = () => {
      const { tree, root, drops, chosen } = panel;
      if (!tree || !(root.mass > 0)) return;
      panel.picked = state.draws.map((u) => tree.pick(u, root));
      panel.blocks = icicle(canvas, { root, height: height(), u: state.u, picked: panel.picked, drops, chosen });
    };
    panel.tell = () => {
      if (!panel.tree) return;
      panel.head.replaceChildren(...head(panel));
      tellPath();
      tellRain();
    };
    const draw = () => {
      panel.paint();
      panel.tell();
    };
    const tellPath = () => {
      const { tree, root, chosen } = panel;
      const whole = root === tree.nodes[0];
      const parts = whole ? [] : [`You chose “${shown(root.text)}”. The model itself begins so in ${percent(root.mass)} of draws.`];
      if (chosen) {
        const { open, text, answer, right, p } = chosen;
        parts.push(open ? `“${shown(text)}” begins ${percent(p)} of draws.` : `The whole answer ${number(answer)}, ${right ? "right" : "wrong"}: ${percent(p)} of draws.`);
      } else if (whole) parts.push("Token by token; height is probability; green is right so far. Click a token to choose it.");
      path.textContent = parts.join(" ");
      back.hidden = whole;
    };
    const tellRain = () => {
      const { root, picked } = panel;
      if (!picked.length || !(root.mass > 0)) return panel.rain.replaceChildren();
      const right = picked.filter((way) => way.right).length;
      panel.rain.textContent = `${right} of ${picked.length} draws right: ${percent(right / picked.length)}. The heights say ${percent(root.sums.correct / root.mass)}.`;
    };
    const choose = (node) => {
      Object.assign(panel, { root: node, chosen: null });
      go(panel);
    };
    const enter = (way) => {
      if (way.open && panel.tree.follow(way)) choose(way.child);
    };
    const under = ({ offsetX: x, offsetY: y }) => panel.blocks.find((b) => x >= b.x && x < b.x + b.w && y >= b.y && y < b.y + b.h)?.way ?? null;
    canvas.addEventListener("pointermove", (event) => {
      const way = under(event);
      if (way === panel.chosen) return;
      panel.chosen = way;
      canvas.style.cursor = way?.open ? "pointer" : "default";
      draw();
    });
    canvas.addEventListener("pointerleave", () => {
      panel.chosen = null;
      draw();
    });
    canvas.addEventListener("click", (event) => {
      const way = under(event);
      if (way) enter(way);
    });
    canvas.addEventListener("keydown", (event) => {
      const at = panel.blocks.find(({ way }) => way === panel.chosen)?.way;
      const siblings = at ? panel.blocks.filter(({ way }) => way.from === at.from).map(({ way }) => way) : [];
      const nth = siblings.indexOf(at);
      const first = panel.blocks[0]?.way;
      const to = !at
        ? { ArrowRight: first, ArrowDown: first }[event.key]
        : {
            ArrowDown: siblings[nth + 1], ArrowUp: siblings[nth - 1],
            ArrowRight: panel.blocks.find(({ way }) => way.from === at.child)?.way,
            ArrowLeft: panel.blocks.find(({ way }) => way.child === at.from)?.way,
          }[event.key];
      if (event.key === "Enter" && at) enter(at);
      else if (event.key === "Escape" && panel.tree && (panel.root !== panel.tree.nodes[0] || at)) choose(panel.root.parent ?? panel.root);
      else if (!event.key.startsWith("Arrow")) return;
      event.preventDefault();
      if (to) {
        panel.chosen = to;
        draw();
        say(path.textContent);
      }
    });
    return panel;
  };

  // Draws: numbers u, the same for all panels. They fall, and lie in the pile when they have landed.
  const createDice = (state, panels, drawAll, say) => {
    let raining = null;
    let round = 0; // what fell before the last clearing does not land
    // How far the pile is from the heights where it is furthest, of the whole height.
    const distance = (us) => Math.max(...us.map((u, i) => Math.max((i + 1) / us.length - u, u - i / us.length)));
    const land = (us) => {
      state.draws = [...state.draws, ...us].slice(0, MOST).sort((a, b) => a - b);
      drawAll();
    };
    const fall = (us) => {
      if (still.matches) return land(us);
      const [begun, mine] = [performance.now(), round];
      const falling = us.map((u, i) => ({ u, from: Math.random(), delay: (i * 300) / us.length }));
      const move = (now) => {
        if (mine !== round) return;
        let left = 0;
        const drops = falling.map(({ u, from, delay }) => {
          const age = (now - begun - delay) / 600;
          if (age < 1) left++;
          const down = Math.min(1, Math.max(0, age) * 1.8);
          const across = Math.min(1, Math.max(0, age * 1.8 - 0.8));
          return age <= 0 || age >= 1 ? null : { x: from + (1 - from) * across, y: u * down * down, slide: across };
        });
        for (const panel of panels()) {
          panel.drops = drops.filter(Boolean);
          panel.paint();
        }
        if (left) requestAnimationFrame(move);
        else land(us);
      };
      requestAnimationFrame(move);
    };
    const stop = () => {
      clearTimeout(raining);
      raining = null;
      rain.textContent = "Let it rain";
    };
    const pour = () => {
      if (!raining) return;
      const all = panels().filter(({ tree }) => tree);
      if (!all.length) return (raining = setTimeout(pour, 150)); // the models are reading
      if (state.draws.length >= MOST || (state.draws.length && distance(state.draws) < NEAR)) {
        stop();
        say(all.map(({ rain: text, name }) => `${short(name)}: ${text.textContent}`).join(" "));
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
    const clear = () => {
      stop();
      round++;
      state.draws = [];
      for (const panel of panels()) panel.drops = [];
    };
    const empty = button("Clear", () => {
      clear();
      drawAll();
    });
    return { buttons: [one, rain, empty], clear };
  };

  // The line u, which picks a whole answer in each panel.
  const createLine = (state, panels, moved) => {
    const input = make("input", { type: "range", min: 0, max: 0.999, step: 0.001, value: 0 });
    const output = make("output", { class: "picked" });
    const tell = () => {
      if (state.u === null) return (output.textContent = "Move it: a number u between 0 and 1 picks a whole answer.");
      const all = panels().filter(({ tree, root }) => tree && root.mass > 0);
      if (!all.length) return (output.textContent = "");
      const found = all.map(({ tree, root, name }) => {
        const way = tree.pick(state.u, root);
        const what = way.open ? "an answer not followed" : `${number(way.answer)} ${way.right ? "✓" : "✗"}`;
        return all.length > 1 ? `${short(name)} ${what}` : what;
      });
      output.textContent = `u = ${state.u.toFixed(3)} picks ${found.join(", ")}.`;
      input.setAttribute("aria-valuetext", output.textContent);
    };
    const soon = framed(moved);
    input.addEventListener("input", () => {
      state.u = input.valueAsNumber;
      soon();
    });
    return { node: labelled("u", input, output), input, tell };
  };

  // A button that shows a place on the whole screen; hidden where a browser cannot.
  const createFull = (place, failed) => {
    const full = button("Full screen", () => (document.fullscreenElement ? document.exitFullscreen() : place.requestFullscreen()).catch(failed));
    full.hidden = !document.fullscreenEnabled;
    document.addEventListener("fullscreenchange", () => (full.textContent = document.fullscreenElement === place ? "Leave full screen" : "Full screen"));
    return full;
  };

  // `act` whenever what is drawn would look different: the width of a place, the colours of the page.
  const watch = (place, act) => {
    new ResizeObserver(act).observe(place);
    window.addEventListener("beforeprint", act); // what was folded is open on paper, and was not drawn yet
    new MutationObserver(act).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", act);
  };

  return { make, button, labelled, short, told, framed, still, createDial, createPanel, createDice, createLine, createFull, watch };
})();
