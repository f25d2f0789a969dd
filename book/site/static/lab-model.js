// The shipped models in plain JavaScript: tokenizer, forward pass, and the tree of all answers. It knows no page.
// Weights and sizes come from `book.figures.lab`; the arithmetic is that of transformers' Mistral and Mixtral.
window.lmrelLab = (() => {
  const { bytes, probabilities } = window.lmrelLive;

  // Weights are bfloat16, the upper half of a float32: all upper bytes first, then all lower ones, compressed.
  const unpack = async ({ shapes, data }) => {
    const packed = new Blob([bytes(data)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(packed).arrayBuffer());
    const size = planes.length / 2;
    const bits = new Uint32Array(size);
    for (let i = 0; i < size; i++) bits[i] = (planes[i] << 24) | (planes[size + i] << 16);
    const all = new Float32Array(bits.buffer);
    const weights = {};
    let start = 0;
    for (const [name, shape] of shapes) {
      const end = start + shape.reduce((a, b) => a * b);
      weights[name] = all.subarray(start, end);
      start = end;
    }
    return weights;
  };

  // Token ids of a text, special tokens among it: the fewest pieces, as the Unigram model of `tokenizers` finds them.
  const createTokenizer = ({ pieces, scores, special, unknown }) => {
    const ids = new Map(pieces.map((piece, id) => [piece, id]));
    const longest = Math.max(...pieces.map((piece) => piece.length));
    const nothing = scores.reduce((a, b) => Math.min(a, b)) - 10; // the score of a character that no piece holds
    const specials = new Map(special.map((id) => [pieces[id], id]));
    const border = new RegExp(`(${[...specials.keys()].map((text) => text.replace(/[[\]/<>]/g, "\\$&")).join("|")})`);
    const unigram = (text) => {
      const characters = [...text];
      const best = Array.from({ length: characters.length + 1 }, () => ({ score: -Infinity, from: -1, id: -1 }));
      best[0].score = 0;
      const offer = (end, score, from, id) => score > best[end].score && (best[end] = { score, from, id });
      characters.forEach((character, from) => {
        let piece = "";
        for (let end = from + 1; end <= characters.length && piece.length < longest; end++) {
          piece += characters[end - 1];
          if (ids.has(piece)) offer(end, best[from].score + scores[ids.get(piece)], from, ids.get(piece));
        }
        if (!ids.has(character)) offer(from + 1, best[from].score + nothing, from, unknown);
      });
      const found = [];
      for (let end = characters.length; end > 0; end = best[end].from) {
        // Unknown characters in a row are one token.
        if (best[end].id !== unknown || found[0] !== unknown) found.unshift(best[end].id);
      }
      return found;
    };
    return (text) => text.split(border).flatMap((part) => (specials.has(part) ? [specials.get(part)] : unigram(part)));
  };

  const times = (matrix, x, out) => {
    const n = x.length;
    for (let row = 0, at = 0; row < out.length; row++) {
      let a = 0, b = 0, c = 0, d = 0; // four sums at once, none of which waits for another
      for (let i = 0; i < n; i += 4, at += 4) {
        a += matrix[at] * x[i];
        b += matrix[at + 1] * x[i + 1];
        c += matrix[at + 2] * x[i + 2];
        d += matrix[at + 3] * x[i + 3];
      }
      out[row] = a + b + c + d;
    }
    return out;
  };

  const SLOTS = 2048; // tokens that a model can hold: a prompt and its tree

  // A model holds keys and values of tokens in slots: first those of the prompt, then those of the tree's nodes.
  const createModel = ({ layers, heads, groups, width, epsilon, theta, experts, chosen }, weights) => {
    const embedding = weights["model.embed_tokens.weight"];
    const size = weights["model.norm.weight"].length;
    const vocabulary = embedding.length / size;
    const numbers = (n) => new Float64Array(n); // what is computed; rounding to 32 bits would cost time, too
    const stack = Array.from({ length: layers }, (_, i) => {
      const of = (name) => weights[`model.layers.${i}.${name}.weight`];
      const network = (up, gate, down) => ({ up: of(up), gate: of(gate), down: of(down) });
      const expert = (e) => ["w3", "w1", "w2"].map((part) => `block_sparse_moe.experts.${e}.${part}`);
      return {
        before: of("input_layernorm"),
        after: of("post_attention_layernorm"),
        ...Object.fromEntries(["q", "k", "v", "o"].map((name) => [name, of(`self_attn.${name}_proj`)])),
        router: experts ? of("block_sparse_moe.gate") : null,
        networks: experts
          ? Array.from({ length: experts }, (_, e) => network(...expert(e)))
          : [network("mlp.up_proj", "mlp.gate_proj", "mlp.down_proj")],
        keys: numbers(SLOTS * groups * width),
        values: numbers(SLOTS * groups * width),
      };
    });
    const inner = stack[0].networks[0].up.length / size;
    const [x, normed, q, mixed, projected] = [size, size, heads * width, heads * width, size].map(numbers);
    const [up, gate, added, routes] = [inner, inner, size, experts].map(numbers);
    const scores = new Float64Array(SLOTS);
    const kv = groups * width;
    const half = width / 2;
    const { fround } = Math; // angles alone are rounded, as transformers does whatever the precision of the rest
    const frequencies = Array.from({ length: half }, (_, i) => fround(1 / fround(theta ** fround((2 * i) / width))));

    const norm = (gain) => {
      let sum = 0;
      for (let i = 0; i < size; i++) sum += x[i] * x[i];
      const scale = 1 / Math.sqrt(sum / size + epsilon);
      for (let i = 0; i < size; i++) normed[i] = x[i] * scale * gain[i];
    };
    // Turns each head's vector by angles that grow with the position, half against half.
    const rotate = (vector, from, count, position) => {
      for (let i = 0; i < half; i++) {
        const angle = fround(position * frequencies[i]);
        const [cosine, sine] = [fround(Math.cos(angle)), fround(Math.sin(angle))];
        for (let head = 0; head < count; head++) {
          const at = from + head * width + i;
          const [a, b] = [vector[at], vector[at + half]];
          vector[at] = a * cosine - b * sine;
          vector[at + half] = b * cosine + a * sine;
        }
      }
    };
    const attend = ({ keys, values }, context) => {
      mixed.fill(0);
      for (let head = 0; head < heads; head++) {
        const shared = Math.floor((head * groups) / heads) * width;
        let best = -Infinity;
        for (let c = 0; c < context.length; c++) {
          const at = context[c] * kv + shared;
          let sum = 0;
          for (let i = 0; i < width; i++) sum += q[head * width + i] * keys[at + i];
          scores[c] = sum / Math.sqrt(width);
          if (scores[c] > best) best = scores[c];
        }
        let total = 0;
        for (let c = 0; c < context.length; c++) total += scores[c] = Math.exp(scores[c] - best);
        for (let c = 0; c < context.length; c++) {
          const share = scores[c] / total;
          const at = context[c] * kv + shared;
          for (let i = 0; i < width; i++) mixed[head * width + i] += share * values[at + i];
        }
      }
    };
    const add = (network, share) => {
      times(network.up, normed, up);
      times(network.gate, normed, gate);
      for (let i = 0; i < inner; i++) up[i] *= gate[i] / (1 + Math.exp(-gate[i]));
      times(network.down, up, added);
      for (let i = 0; i < size; i++) x[i] += share * added[i];
    };
    // The experts with the highest scores share the token, by their scores' softmax over the chosen ones alone.
    const route = (layer) => {
      times(layer.router, normed, routes);
      const order = [...routes.keys()].sort((a, b) => routes[b] - routes[a]).slice(0, chosen);
      const parts = order.map((e) => Math.exp(routes[e] - routes[order[0]]));
      const total = parts.reduce((a, b) => a + b);
      order.forEach((e, i) => add(layer.networks[e], parts[i] / total));
    };
    // Reads `token` into `slot`, behind the tokens in the slots of `context`, whose last is `slot` itself.
    const read = (token, slot, context) => {
      x.set(embedding.subarray(token * size, (token + 1) * size));
      for (const layer of stack) {
        norm(layer.before);
        times(layer.q, normed, q);
        times(layer.k, normed, layer.keys.subarray(slot * kv, (slot + 1) * kv));
        times(layer.v, normed, layer.values.subarray(slot * kv, (slot + 1) * kv));
        rotate(q, 0, heads, context.length - 1);
        rotate(layer.keys, slot * kv, groups, context.length - 1);
        attend(layer, context);
        times(layer.o, mixed, projected);
        for (let i = 0; i < size; i++) x[i] += projected[i];
        norm(layer.after);
        if (experts) route(layer);
        else add(layer.networks[0], 1);
      }
    };
    const logits = () => {
      norm(weights["model.norm.weight"]);
      return times(weights["lm_head.weight"], normed, numbers(vocabulary));
    };

    let prompt = [];
    let next = 0;
    // What begins like the prompt before need not be read again.
    const begin = (ids) => {
      let same = 0;
      while (same < ids.length - 1 && ids[same] === prompt[same]) same++;
      const context = Array.from({ length: same }, (_, slot) => slot);
      for (let slot = same; slot < ids.length; slot++) {
        context.push(slot);
        read(ids[slot], slot, context);
      }
      prompt = ids.slice();
      next = ids.length;
      return { context, logits: logits() };
    };
    const extend = (context, token) => {
      if (next === SLOTS) throw new Error("the model holds no more tokens");
      const longer = [...context, next];
      read(token, next++, longer);
      return { context: longer, logits: logits() };
    };
    return { begin, extend };
  };

  const INTEGER = /[+-]?[0-9]+/;
  const SUMS = ["correct", "wrong", "unknown", "lost"];

  // All answers to one problem as a tree of prefixes. The first integer of a text is its answer. A node is a prefix
  // whose answer is still open: none has begun, or it could go on. `ways` are what may follow it, likeliest first, which
  // no temperature changes: a token that leaves it open, or, at the place of the likeliest of them, all that end it.
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
    const over = (text, tokens) => {
      const found = integer(text);
      const answer = found === null ? null : String(BigInt(found));
      return { open: false, tokens, answer, right: answer === String(right), p: 0 };
    };
    const waysFrom = (text, depth, logits) => {
      const begun = integer(text) !== null;
      const ways = [];
      let stop = null;
      for (const token of [...logits.keys()].sort((a, b) => logits[b] - logits[a])) {
        const longer = text + pieces[token];
        if (ending.has(token) || (begun && !digits[token])) {
          if (!stop) ways.push((stop = over(text, [])));
          stop.tokens.push(token);
        } else if (depth + 1 === limit) ways.push(over(longer, [token]));
        else ways.push({ open: true, tokens: [token], piece: pieces[token], text: longer, possible: possible(longer), child: null, p: 0 });
      }
      return ways;
    };
    const node = (parent, way, { context, logits }) => {
      const seen = parent ? parent.seen.slice() : new Uint8Array(pieces.length);
      for (const token of way ? way.tokens : prompt) seen[token] = 1; // what a repetition penalty goes by
      const depth = parent ? parent.depth + 1 : 0;
      const text = way ? way.text : "";
      return { parent, way, text, depth, context, logits, seen, mass: 0, ways: waysFrom(text, depth, logits) };
    };
    const nodes = [node(null, null, model.begin(prompt))];

    // Works out the probability of all that was followed under `settings`, into `mass` of nodes and `p` of ways.
    const weigh = (settings) => {
      nodes[0].mass = 1;
      for (const { logits, seen, mass, ways } of nodes) { // parents come first
        const chance = mass > 0 ? probabilities(logits, seen, settings) : null;
        for (const way of ways) {
          way.p = 0;
          if (chance) for (const token of way.tokens) way.p += mass * chance[token];
          if (way.child) way.child.mass = way.p;
        }
      }
    };
    // Sums of each node over the texts below it, as last weighed: correct, wrong, and what was not followed to its end:
    // `unknown` may be right or wrong, `lost` is wrong whatever follows.
    const sum = () => {
      for (let i = nodes.length - 1; i >= 0; i--) {
        const sums = { correct: 0, wrong: 0, unknown: 0, lost: 0 };
        for (const { open, child, possible, right, p } of nodes[i].ways) {
          if (child) for (const name of SUMS) sums[name] += child.sums[name];
          else if (open) sums[possible ? "unknown" : "lost"] += p;
          else sums[right ? "correct" : "wrong"] += p;
        }
        nodes[i].sums = sums;
      }
      return nodes[0].sums;
    };
    // The probability of each complete answer, as last weighed; null is a text without a number.
    const answers = () => {
      const found = new Map();
      for (const { mass, ways } of nodes) {
        if (mass > 0) for (const { open, answer, p } of ways) if (!open && p > 0) found.set(answer, (found.get(answer) ?? 0) + p);
      }
      return found;
    };

    const follow = (from, way) => {
      if (!way.child) {
        way.child = node(from, way, model.extend(from.context, way.tokens[0]));
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
          if (way.open && !way.child && way.p > floor && (way.possible || !hopeful)) waiting.push({ from, way });
        }
      }
      waiting.sort((a, b) => b.way.p - a.way.p);
      for (const { from, way } of waiting.slice(0, count)) follow(from, way);
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
        let way = at.ways[0];
        for (const next of at.ways) {
          if (next.p > 0) way = next; // rounding may leave a last bit
          if (left < next.p) break;
          left -= next.p;
        }
        if (!way.child) return way;
        at = way.child;
      }
    };
    return { nodes, right: String(right), weigh, sum, answers, grow, follow, pick };
  };

  return { unpack, createTokenizer, createModel, createTree };
})();
