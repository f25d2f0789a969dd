// The tree of all answers to a problem, under any decoder. It knows no page, and of a model that it gives logits.
window.lmrelTree = (() => {
  const { bytes, probabilities } = window.lmrelLive;
  const INTEGER = /[+-]?[0-9]+/;
  const SUMS = ["correct", "wrong", "unknown", "lost"];
  const FOLLOWED = SUMS.length; // the kind of a way that has a node, whose sums hold its share

  // What may follow a node: a token that leaves the answer open, or, at the place of the likeliest of them, all that end
  // it. Its probability stands in the node's row of numbers, which a turn of the dial fills.
  class Way {
    constructor(fields) {
      Object.assign(this, { from: null, nth: 0, child: null }, fields);
    }
    get p() {
      return this.from.chances[this.nth];
    }
    // Which of SUMS it counts for: `unknown` may still be right or wrong, `lost` is wrong whatever follows.
    get kind() {
      if (this.open) return this.possible ? "unknown" : "lost";
      return this.right ? "correct" : "wrong";
    }
  }

  // All answers to one problem as a tree of prefixes. The first integer of a text is its answer. A node is a prefix
  // whose answer is still open: none has begun, or it could go on. Its `ways` are likeliest first, which no temperature
  // changes.
  const createTree = (model, { pieces, ends }, prompt, right, limit) => {
    const ending = new Set(ends);
    const digits = pieces.map((piece) => /^[0-9]*$/.test(piece));
    const expected = String(Math.abs(right)).replace(/^0+/, "");
    const integer = (text) => text.match(INTEGER)?.[0] ?? null;
    // Whether an open text may still become right.
    const possible = (text) => {
      const found = integer(text);
      if (found === null) return true;
      const figures = found.replace(/^[+-]?0*/, "");
      return expected.startsWith(figures) && (expected === "" || (found[0] === "-") === right < 0);
    };
    // A text that is over; without a number its answer is null.
    const over = (text) => {
      const found = integer(text);
      const answer = found === null ? null : String(BigInt(found));
      return { open: false, answer, right: answer === String(right) };
    };
    const node = (parent, way, { context, logits }) => {
      const seen = parent ? parent.seen.slice() : new Uint8Array(pieces.length);
      for (const token of way ? [way.token] : prompt) seen[token] = 1; // what a repetition penalty goes by
      const depth = parent ? parent.depth + 1 : 0;
      const text = way ? way.text : "";
      const begun = integer(text) !== null;
      // Tokens in the order of their logits, how far each is below the first, and to which way it belongs.
      const order = Uint16Array.from([...logits.keys()].sort((a, b) => logits[b] - logits[a]));
      const gaps = Float64Array.from(order, (token) => logits[order[0]] - logits[token]);
      const owner = new Uint16Array(order.length);
      const ways = [];
      let end = -1;
      order.forEach((token, k) => {
        const longer = text + pieces[token];
        if (ending.has(token) || (begun && !digits[token])) {
          if (end < 0) end = ways.push(new Way(over(text))) - 1;
          owner[k] = end;
        } else {
          const last = depth + 1 === limit;
          const fields = last ? over(longer) : { open: true, token, piece: pieces[token], text: longer, possible: possible(longer) };
          owner[k] = ways.push(new Way(fields)) - 1;
        }
      });
      const made = {
        parent, way, text, depth, context, logits, seen, order, gaps, owner, ways, mass: 0,
        kinds: Uint8Array.from(ways, ({ kind }) => SUMS.indexOf(kind)),
        chances: new Float64Array(ways.length),
        totals: new Float64Array(FOLLOWED + 1),
        closed: ways.filter(({ open }) => !open),
        sums: Object.fromEntries(SUMS.map((name) => [name, 0])),
      };
      ways.forEach((each, nth) => Object.assign(each, { from: made, nth }));
      return made;
    };
    const nodes = [node(null, null, model.begin(prompt))];

    // Works out the probability of all that was followed under `settings`: `mass` of nodes, `p` of ways, and `sums` of
    // each node over the texts below it. A turn of the dial comes here for every node, hence loops over numbers.
    const weigh = (settings) => {
      const { temperature, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = settings;
      const plain = !topK && topP === 1 && !minP && repetitionPenalty === 1;
      for (const each of nodes) { // parents come first
        const { parent, way, logits, seen, order, gaps, owner, chances, kinds, totals } = each;
        each.mass = parent ? parent.chances[way.nth] : 1;
        chances.fill(0);
        totals.fill(0);
        if (each.mass === 0) continue;
        if (!plain) {
          const chance = probabilities(logits, seen, settings);
          for (let k = 0; k < order.length; k++) chances[owner[k]] += each.mass * chance[order[k]];
        } else if (temperature === 0) chances[owner[0]] = each.mass;
        else {
          let total = 0;
          for (let k = 0; k < gaps.length; k++) {
            const weight = Math.exp(-gaps[k] / temperature);
            total += weight;
            chances[owner[k]] += weight;
          }
          const scale = each.mass / total;
          for (let i = 0; i < chances.length; i++) chances[i] *= scale;
        }
        for (let i = 0; i < chances.length; i++) totals[kinds[i]] += chances[i];
      }
      for (let i = nodes.length - 1; i >= 0; i--) {
        const { parent, totals, sums } = nodes[i];
        for (let s = 0; s < FOLLOWED; s++) {
          sums[SUMS[s]] = totals[s];
          if (parent) parent.totals[s] += totals[s];
        }
      }
      return nodes[0].sums;
    };
    // The probability of each complete answer, as last weighed; null is a text without a number.
    const answers = () => {
      const found = new Map();
      for (const { mass, closed } of nodes) {
        if (mass > 0) for (const { answer, p } of closed) if (p > 0) found.set(answer, (found.get(answer) ?? 0) + p);
      }
      return found;
    };

    // The node of an open way; null where the model says no more, as a stored one may.
    const follow = (way) => {
      const { from, nth, token } = way;
      const read = way.child ? null : model.extend(from.context, token);
      if (read) {
        way.child = node(from, way, read);
        from.kinds[nth] = FOLLOWED;
        nodes.push(way.child);
      }
      return way.child;
    };
    // Follows the `count` likeliest open ways below `top`, as last weighed, of those with more than the share `least` of
    // its mass; false if there was none. `hopeful`: only those that may still become right.
    const grow = (count, least, { top = nodes[0], hopeful = false } = {}) => {
      const floor = least * top.mass;
      const waiting = [];
      for (const from of nodes) {
        if (from.mass <= floor || !within(from, top)) continue;
        for (const way of from.ways) {
          if (way.open && !way.child && way.p > floor && (way.possible || !hopeful)) waiting.push(way);
        }
      }
      waiting.sort((a, b) => b.p - a.p);
      for (const way of waiting.slice(0, count)) follow(way);
      return waiting.length > 0;
    };
    const within = (node, top) => {
      let at = node;
      while (at.depth > top.depth) at = at.parent;
      return at === top;
    };
    // The way in which the number `u` in [0, 1) lies, counted from the first way of `from` downwards.
    const pick = (u, from = nodes[0]) => {
      let left = u * from.mass;
      let at = from;
      for (;;) {
        const { chances, ways } = at;
        let nth = 0;
        for (let i = 0; i < chances.length; i++) {
          if (chances[i] > 0) nth = i; // rounding may leave a last bit
          if (left < chances[i]) break;
          left -= chances[i];
        }
        if (!ways[nth].child) return ways[nth];
        at = ways[nth].child;
      }
    };
    return { nodes, right: String(right), weigh, answers, grow, follow, pick };
  };

  // A tree that was stored, grown to its end: its logits as distances from the greatest of each node, in whole steps.
  const openTree = ({ vocabulary, parent, token, step, logits, answer, limit }) => {
    const rows = new Uint16Array(bytes(logits).buffer);
    const size = vocabulary.pieces.length;
    const row = (number) => ({ context: number, logits: Float64Array.from(rows.subarray(number * size, (number + 1) * size), (apart) => -apart / step) });
    const place = new Map(token.map((each, number) => [`${parent[number]} ${each}`, number]));
    const reader = {
      begin: () => row(0),
      extend: (context, each) => (place.has(`${context} ${each}`) ? row(place.get(`${context} ${each}`)) : null),
    };
    const tree = createTree(reader, vocabulary, [], answer, limit);
    for (let number = 1; number < parent.length; number++) {
      tree.follow(tree.nodes[parent[number]].ways.find((way) => way.token === token[number]));
    }
    return tree;
  };

  return { createTree, openTree };
})();
