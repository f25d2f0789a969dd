// How the lab draws: the icicle of all answers with its pile of draws, curves over temperature, the grid of problems.
// All of it on canvases, since the whole figure is redrawn at each turn of the dial. It keeps nothing of what it drew.
window.lmrelDraw = (() => {
  const FONT = "system-ui, sans-serif";
  const GAP = 2;
  const SYMBOLS = { " ": "␣", "\n": "⏎" };
  const shown = (text) => text.replace(/[ \n]/g, (character) => SYMBOLS[character]);
  const percent = (p) => (p > 0.995 && p < 1 ? "over 99 %" : `${(100 * p).toFixed(p > 0 && p < 0.1 ? 1 : 0)} %`);
  const number = (answer) => (answer === null ? "no number" : answer.replace("-", "−"));

  // A canvas as sharp as the screen; what is drawn is measured in CSS pixels.
  const start = (canvas, height) => {
    const width = canvas.clientWidth;
    const scale = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.textBaseline = "middle";
    return { pen, width, height };
  };
  const colours = (element) => {
    const style = getComputedStyle(element);
    const of = (name) => style.getPropertyValue(`--lab-${name}`).trim();
    const unit = parseFloat(style.fontSize) / 16; // for a projector, letters are as large as the figure's
    return { unit, right: of("right"), wrong: of("wrong"), rest: of("rest"), open: of("open"), on: of("on"), ink: style.color, page: of("page"), still: of("still") };
  };
  // Stripes: what was not followed. A pattern is made once for its colours, not at every turn.
  const patterns = new Map();
  const striped = (pen, colour, page) => {
    const key = `${colour} ${page}`;
    if (!patterns.has(key)) patterns.set(key, stripes(pen, colour, page));
    return patterns.get(key);
  };
  const stripes = (pen, colour, page) => {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const brush = tile.getContext("2d");
    brush.fillStyle = page;
    brush.fillRect(0, 0, 8, 8);
    brush.strokeStyle = colour;
    brush.lineWidth = 2.5;
    for (const from of [-8, 0, 8]) {
      brush.moveTo(from, 8);
      brush.lineTo(from + 8, 0);
    }
    brush.stroke();
    return pen.createPattern(tile, "repeat");
  };

  // How many columns of tokens are worth drawing below `root`: those in which some block is 8 pixels high.
  const depthOf = (root, height) => {
    const least = (8 * root.mass) / height;
    const deepest = (node) => {
      let most = 0;
      for (const { child } of node.ways) if (child && child.mass >= least) most = Math.max(most, deepest(child));
      return 1 + most;
    };
    return deepest(root);
  };

  // Draws the tree below `root`, and the ways that draws picked; returns blocks, for pointers and keys: {x, y, w, h, way}.
  const icicle = (canvas, { root, height, u, picked, drops, chosen }) => {
    const { pen, width } = start(canvas, height);
    const paint = colours(canvas);
    const fill = { correct: paint.right, wrong: paint.wrong, lost: striped(pen, paint.wrong, paint.page), unknown: striped(pen, paint.rest, paint.page) };
    const { unit } = paint;
    const pile = Math.min(96 * unit, Math.max(44, width * 0.13));
    const ends = Math.min(190 * unit, Math.max(96, width * 0.24));
    const room = width - pile - ends;
    const columns = Math.max(1, Math.min(depthOf(root, height), Math.floor(room / (30 * unit))));
    const lead = root.ways[0].open && !root.ways[0].piece.trim() ? 26 * unit : 0; // a space says little: a narrow column
    const wide = Math.min(150 * unit, lead && columns > 1 ? (room - lead) / (columns - 1) : room / columns);
    const right = width - pile - GAP;
    const scale = height / root.mass;
    const blocks = [];
    const box = (x, y, w, h, style, edge) => {
      pen.fillStyle = style;
      pen.fillRect(x, y, w - GAP, h > 4 ? h - 1 : h);
      if (edge && h > 4) {
        pen.strokeStyle = edge;
        pen.strokeRect(x + 0.5, y + 0.5, w - GAP - 1, h - 2);
      }
    };
    const label = (text, x, y, w, h, colour, weight = "") => {
      if (h < 12 * unit) return;
      pen.font = `${weight} ${13 * unit}px ${FONT}`;
      if (pen.measureText(text).width > w - 8) return;
      pen.fillStyle = colour;
      pen.fillText(text, x + 6, y + Math.min(h / 2, height - y - 8 * unit));
    };
    // What is too small or too deep to be told apart is drawn by its sums.
    const heap = (sums, x, y) => {
      let at = y;
      for (const name of ["correct", "wrong", "lost", "unknown"]) {
        const h = sums[name] * scale;
        if (h > 0) box(x, at, right - x, h, fill[name]);
        if (name === "unknown") label("not followed", x, at, right - x, h, paint.ink);
        at += h;
      }
    };
    const column = (node, x, y, level) => {
      let at = y;
      const own = level === 0 && lead ? lead : wide;
      const small = { correct: 0, wrong: 0, lost: 0, unknown: 0 };
      let smallFrom = null;
      for (const way of node.ways) {
        const h = way.p * scale;
        if (h <= 0) continue;
        const sums = way.child?.sums ?? { correct: 0, wrong: 0, lost: 0, unknown: 0, [way.kind]: way.p };
        if (h < 1) { // the ways below are smaller still, but for an end of the number
          smallFrom ??= at;
          for (const name of Object.keys(small)) small[name] += sums[name];
          continue;
        }
        if (!way.open) {
          box(x, at, right - x, h, way.right ? paint.right : paint.wrong);
          const answer = `${way.right ? "✓" : "✗"} ${number(way.answer)}`;
          label(`${answer}  ${percent(way.p / root.mass)}`, x, at, right - x, h, paint.on, "600");
          blocks.push({ x, y: at, w: right - x, h, way });
        } else {
          const begun = /[0-9]/.test(way.text);
          const [style, edge] = !begun ? [paint.open, paint.rest] : way.possible ? [paint.right, null] : [paint.wrong, null];
          box(x, at, own, h, style, edge);
          label(shown(way.piece), x, at, own, h, begun ? paint.on : paint.ink);
          blocks.push({ x, y: at, w: own, h, way });
          if (way.child && level + 1 < columns) column(way.child, x + own, at, level + 1);
          else heap(sums, x + own, at);
        }
        at += h;
      }
      if (smallFrom !== null) heap(small, x, at);
    };
    column(root, 0, 0, 0);
    const ringed = blocks.find(({ way }) => way === chosen);
    if (ringed) {
      pen.lineWidth = 3;
      pen.strokeStyle = paint.ink;
      pen.strokeRect(ringed.x + 1.5, ringed.y + 1.5, Math.max(4, ringed.w - GAP - 3), Math.max(4, ringed.h - 4));
      pen.lineWidth = 1;
    }
    // The pile: a stripe a draw, in the order of their numbers u, which is that of the tree.
    const x = width - pile + 8;
    pen.strokeStyle = paint.rest;
    pen.strokeRect(x - 0.5, 0.5, pile - 8, height - 1);
    if (!picked.length) {
      pen.font = `${unit * (pile < 60 ? 11 : 12)}px ${FONT}`;
      pen.fillStyle = paint.ink;
      pen.textAlign = "center";
      ["draws", "land", "here"].forEach((word, i) => pen.fillText(word, x + pile / 2 - 4, height / 2 + 16 * unit * (i - 1)));
      pen.textAlign = "left";
    } else {
      const thick = height / picked.length;
      for (let from = 0, to = 0; from < picked.length; from = to) {
        while (to < picked.length && picked[to] === picked[from]) to++;
        const way = picked[from];
        const h = (to - from) * thick;
        pen.fillStyle = fill[way.kind];
        pen.fillRect(x, from * thick, pile - 9, h > 3 ? h - 1 : h);
        if (!way.open) label(number(way.answer), x - 2, from * thick, pile, h, paint.on);
      }
    }
    pen.fillStyle = paint.ink;
    for (const drop of drops) {
      pen.beginPath();
      pen.arc(drop.x * (x - 4) + drop.slide * (pile / 2), drop.y * height, 4, 0, 7);
      pen.fill();
    }
    if (u !== null) {
      const y = Math.min(height - 1.5, u * height);
      pen.strokeStyle = paint.page;
      pen.lineWidth = 5;
      pen.beginPath();
      pen.moveTo(0, y);
      pen.lineTo(width, y);
      pen.stroke();
      pen.strokeStyle = paint.ink;
      pen.lineWidth = 2;
      pen.stroke();
      pen.lineWidth = 1;
    }
    return blocks;
  };

  const frame = (canvas, height, right) => {
    const { pen, width } = start(canvas, height);
    const paint = colours(canvas);
    const { unit } = paint;
    const [bottom, left] = [22 * unit, 48 * unit];
    const x = (t) => left + (t / 2) * (width - left - right * unit);
    const y = (p) => 8 + (1 - p) * (height - 8 - bottom);
    pen.font = `${12 * unit}px ${FONT}`;
    pen.strokeStyle = paint.still;
    pen.fillStyle = paint.ink;
    for (const p of [0, 0.5, 1]) {
      pen.beginPath();
      pen.moveTo(x(0), Math.round(y(p)) + 0.5);
      pen.lineTo(x(2), Math.round(y(p)) + 0.5);
      pen.stroke();
      pen.textAlign = "right";
      pen.fillText(`${100 * p} %`, left - 6, y(p));
    }
    pen.textAlign = "center";
    for (const t of [0, 0.5, 1, 1.5, 2]) pen.fillText(t === 0 ? "T = 0" : `${t}`, x(t), height - 8 * unit);
    pen.textAlign = "left";
    return { pen, paint, x, y, width };
  };
  // Labels on one side, moved apart where they would stand on each other.
  const apart = (labels, least, most, line) => {
    labels.sort((a, b) => a.y - b.y);
    labels.forEach((each, i) => (each.at = Math.max(each.y, i ? labels[i - 1].at + line : least)));
    for (let i = labels.length - 1; i >= 0; i--) labels[i].at = Math.min(labels[i].at, i < labels.length - 1 ? labels[i + 1].at - line : most);
    return labels;
  };
  const value = (temperatures, values, t) => {
    const after = temperatures.findIndex((each) => each >= t - 1e-9);
    if (after <= 0 || temperatures[after] - t < 1e-9) return values[Math.max(0, after)];
    const share = (t - temperatures[after - 1]) / (temperatures[after] - temperatures[after - 1]);
    return (1 - share) * values[after - 1] + share * values[after];
  };
  // Lines of probabilities over temperature, named at their right ends, with a dot where the dial stands.
  // A line: {name, colour: right | wrong | rest | ink, values, dash, dot: its value now, bold}.
  const curves = (canvas, { temperatures, lines, t, height, right }) => {
    const { pen, paint, x, y } = frame(canvas, height, right);
    pen.strokeStyle = paint.ink;
    pen.setLineDash([3, 3]);
    pen.beginPath();
    pen.moveTo(x(t), y(1));
    pen.lineTo(x(t), y(0));
    pen.stroke();
    for (const line of lines) {
      pen.setLineDash(line.dash ?? []);
      pen.lineWidth = line.bold ? 3 : 2;
      pen.strokeStyle = paint[line.colour];
      pen.beginPath();
      temperatures.forEach((each, i) => pen.lineTo(x(each), y(line.values[i])));
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.lineWidth = 2;
    for (const line of lines) {
      if (line.dot === undefined) continue;
      pen.fillStyle = paint[line.colour];
      pen.strokeStyle = paint.page;
      pen.beginPath();
      pen.arc(x(t), y(line.dot), line.bold ? 7 : 5, 0, 7);
      pen.fill();
      pen.stroke();
    }
    pen.lineWidth = 1;
    const labels = lines.map(({ name, colour, values, bold }) => ({ name, colour, bold, y: y(values.at(-1)) }));
    for (const each of apart(labels, y(1), y(0), 14 * paint.unit)) {
      pen.font = `${each.bold ? "600 " : ""}${12 * paint.unit}px ${FONT}`;
      pen.fillStyle = paint.ink;
      pen.fillText(each.name, x(2) + 14, each.at);
      pen.fillStyle = paint[each.colour];
      pen.fillRect(x(2) + 4, each.at - 4, 7, 7);
    }
  };

  // A cell a problem, green as high as its P(correct). Returns where cells are: {columns, side, rows}.
  const grid = (canvas, { chances, chosen, focus }) => {
    const width = canvas.clientWidth;
    const columns = width < 560 ? 15 : width < 900 ? 20 : 30;
    const side = width / columns;
    const tall = Math.min(side, 30);
    const half = chances.length / 2;
    const rows = Math.ceil(half / columns);
    const top = (family) => family * (rows * tall + 28) + 22;
    const { pen } = start(canvas, top(1) + rows * tall + 2);
    const paint = colours(canvas);
    const place = (i) => {
      const [family, nth] = [Math.floor(i / half), i % half];
      return { x: (nth % columns) * side, y: top(family) + Math.floor(nth / columns) * tall };
    };
    pen.font = `13px ${FONT}`;
    pen.fillStyle = paint.ink;
    ["Variable binding", "Arithmetic"].forEach((name, family) => pen.fillText(name, 0, top(family) - 11));
    const inside = tall - 3;
    chances.forEach((p, i) => {
      const { x, y } = place(i);
      pen.fillStyle = paint.wrong;
      pen.fillRect(x, y, side - 3, inside * (1 - p));
      pen.fillStyle = paint.right;
      pen.fillRect(x, y + inside * (1 - p), side - 3, inside * p);
      if (i === chosen || i === focus) {
        pen.strokeStyle = paint.ink;
        pen.lineWidth = 3;
        pen.setLineDash(i === chosen ? [] : [4, 2]);
        pen.strokeRect(x - 1, y - 1, side - 1, inside + 2);
        pen.setLineDash([]);
        pen.lineWidth = 1;
      }
    });
    const at = (px, py) => {
      const i = chances.findIndex((_, nth) => {
        const { x, y } = place(nth);
        return px >= x && px < x + side && py >= y && py < y + tall;
      });
      return i < 0 ? null : i;
    };
    return { columns, at };
  };

  return { icicle, curves, grid, shown, percent, number, value };
})();
