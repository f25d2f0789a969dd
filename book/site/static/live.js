// The arithmetic of the live figures and their data. What draws is in live-figures.js.
window.lmrelLive = (() => {
  const folder = new URL("live/", document.currentScript.src);
  const arrived = new Map();
  const asked = new Map();

  // A page opened from disk may not fetch; it may load scripts, and each data file is one that calls `put`.
  const put = (name, data) => arrived.set(name, data);
  const load = async (name) => {
    if (!arrived.has(name) && !asked.has(name)) {
      const script = document.createElement("script");
      script.src = new URL(`${name}.js`, folder);
      asked.set(name, new Promise((done, failed) => {
        script.onload = done;
        script.onerror = () => failed(new Error(`${name}.js cannot be read`));
      }));
      document.head.append(script);
    }
    if (!arrived.has(name)) await asked.get(name);
    return arrived.get(name);
  };

  const bytes = (base64) => {
    const text = atob(base64);
    const found = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i); // some megabytes: a call each would be felt
    return found;
  };

  const PURE = { topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };

  // What is the chance of each token? `logits` are raw; `seen` holds a 1 for tokens in the prompt and the text so far.
  // The order of knobs is that of `lmrel.Decoder`.
  const probabilities = (logits, seen, settings) => {
    const { temperature, topK, topP, minP, repetitionPenalty } = { ...PURE, ...settings };
    const penalized = (x) => (x < 0 ? x * repetitionPenalty : x / repetitionPenalty);
    const scores = repetitionPenalty === 1 ? logits : logits.map((x, token) => (seen[token] ? penalized(x) : x));
    let best = -Infinity; // loops, since a turn of the dial comes here for every prefix
    for (let token = 0; token < scores.length; token++) if (scores[token] > best) best = scores[token];
    if (temperature === 0) {
      const first = scores.indexOf(best);
      return scores.map((_, token) => (token === first ? 1 : 0));
    }
    const weights = new Float64Array(scores.length);
    for (let token = 0; token < scores.length; token++) weights[token] = Math.exp((scores[token] - best) / temperature);
    const upwards = topK || topP < 1 ? [...weights.keys()].sort((a, b) => scores[a] - scores[b]) : [];
    if (topK && topK < weights.length) {
      const least = scores[upwards[weights.length - topK]];
      scores.forEach((x, token) => x < least && (weights[token] = 0));
    }
    if (topP < 1) {
      const total = weights.reduce((a, b) => a + b);
      let tail = 0;
      for (const token of upwards.slice(0, -1)) {
        tail += weights[token] / total;
        if (tail > 1 - topP) break;
        weights[token] = 0;
      }
    }
    if (minP) weights.forEach((w, token) => w < minP && (weights[token] = 0)); // the greatest weight is 1
    let total = 0;
    for (let token = 0; token < weights.length; token++) total += weights[token];
    for (let token = 0; token < weights.length; token++) weights[token] /= total;
    return weights;
  };

  const unpacked = new WeakMap();
  const unpack = (tree) => {
    if (!unpacked.has(tree)) {
      const all = new Float32Array(bytes(tree.logits).buffer);
      const size = all.length / tree.parent.length;
      const nodes = [];
      tree.parent.forEach((parent, number) => {
        const seen = parent < 0 ? new Uint8Array(size) : nodes[parent].seen.slice();
        for (const token of parent < 0 ? tree.seen : [tree.token[number]]) seen[token] = 1;
        nodes.push({ seen, logits: all.subarray(number * size, (number + 1) * size), child: new Map() });
        if (parent >= 0) nodes[parent].child.set(tree.token[number], number);
      });
      unpacked.set(tree, { nodes, ends: new Set(tree.ends), through: new Set(tree.through) });
    }
    return unpacked.get(tree);
  };

  // The probability of each complete answer, by its digits. "none" is a text without any; "other" left the tree.
  const answers = (tree, settings) => {
    const { nodes, ends, through } = unpack(tree);
    const mass = new Float64Array(nodes.length);
    const found = new Map();
    const add = (answer, p) => found.set(answer, (found.get(answer) ?? 0) + p);
    mass[0] = 1;
    nodes.forEach(({ logits, seen, child }, number) => { // parents come first
      if (mass[number] === 0) return;
      const answer = tree.answer[number];
      probabilities(logits, seen, settings).forEach((p, token) => {
        const below = mass[number] * p;
        if (below === 0) return;
        if (child.has(token)) mass[child.get(token)] = below;
        else if (ends.has(token)) add(answer === null ? "none" : String(answer), below);
        else if (answer !== null && !through.has(token)) add(String(answer), below);
        else add("other", below);
      });
    });
    return found;
  };

  // What was asked, with what a checkpoint adds where nothing was asked. Greedy decoding takes over the penalty only.
  const completed = (wanted, added) => {
    const inherited = Object.entries(added).filter(([knob]) => wanted.temperature > 0 || knob === "repetitionPenalty");
    return { ...PURE, ...Object.fromEntries(inherited), ...wanted };
  };

  const Z = 1.959963984540054; // of 95 %
  // Student's t by the expansion of Abramowitz and Stegun, 26.7.5.
  const student = (n) => {
    const [z, z3, z5, z7] = [1, 3, 5, 7].map((power) => Z ** power);
    const terms = [(z3 + z) / 4, (5 * z5 + 16 * z3 + 3 * z) / 96, (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / 384];
    return z + terms[0] / n + terms[1] / n ** 2 + terms[2] / n ** 3;
  };

  const wilson = (share, n) => {
    const scale = 1 + (Z * Z) / n;
    const centre = (share + (Z * Z) / (2 * n)) / scale;
    const half = (Z / scale) * Math.sqrt((share * (1 - share)) / n + (Z * Z) / (4 * n * n));
    return [Math.max(0, centre - half), Math.min(1, centre + half)];
  };

  // The 95 % interval of the mean of one share per problem: `lmrel.stats.inference.clustered_wilson`.
  const interval = (shares) => {
    const n = shares.length;
    const mean = shares.reduce((a, b) => a + b) / n;
    const single = shares.every((share) => share === 0 || share === 1);
    const spread = shares.reduce((sum, share) => sum + (share - mean) ** 2, 0) / (n - 1) / n;
    const alike = Math.max(...shares) - Math.min(...shares) < 1e-9; // as numbers: sums have noise
    const size = single || alike ? n : ((mean * (1 - mean)) / spread) * (Z / student(n - 1)) ** 2;
    const [low, high] = wilson(mean, size);
    return { mean, low, high };
  };

  return { put, load, bytes, probabilities, answers, completed, interval };
})();
