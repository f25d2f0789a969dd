// The shipped models in plain JavaScript: tokenizer and forward pass. It knows no page.
// Weights and sizes come from `book.figures.lab`; the arithmetic is that of transformers' Mistral and Mixtral.
window.lmrelLab = (() => {
  const { bytes } = window.lmrelLive;

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

  const STRIDE = 6; // tokens of a prompt that are read without a pause
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
    // Reads a prompt but for its last tokens, a few at a time with `pause` awaited in between; `begin` then is quick. It
    // ends at once where `pause` says true: another prompt may be in the slots by then, and a tree behind it.
    const prepare = async (ids, pause) => {
      for (let read = STRIDE; read < ids.length; read += STRIDE) {
        begin(ids.slice(0, read));
        if (await pause()) return;
      }
    };
    const extend = (context, token) => {
      if (next === SLOTS) throw new Error("the model holds no more tokens");
      const longer = [...context, next];
      read(token, next++, longer);
      return { context: longer, logits: logits() };
    };
    return { prepare, begin, extend };
  };

  return { unpack, createTokenizer, createModel };
})();
