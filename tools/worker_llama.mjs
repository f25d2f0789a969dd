// llama.cpp as a contestant of tools/bench_real.py: `node worker_llama.mjs FOLDER GGUF THREADS`, FOLDER being one in
// which npm installed node-llama-cpp. A line of JSON with prompts, temperatures and a size comes in; one with seconds,
// the most memory and the tokens drawn goes out. Sequences are drawn side by side in one batch, and each keeps what its
// next prompt begins with.
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

const [folder, gguf, threads] = process.argv.slice(2);
const { getLlama } = await import(path.resolve(folder, "node_modules/node-llama-cpp/dist/index.js"));
const SEQUENCES = 32;

const llama = await getLlama({ gpu: false, logLevel: "error", maxThreads: Number(threads) });
const model = await llama.loadModel({ modelPath: gguf });
const context = await model.createContext({ sequences: SEQUENCES, contextSize: 1024, batchSize: 512, threads: Number(threads) });
const sequences = Array.from({ length: SEQUENCES }, () => context.getSequence());

const draw = async (sequence, [prompt, temperature, seed], most) => {
  await sequence.adaptStateToTokens(prompt.slice(0, -1));
  let drawn = 0;
  const rest = prompt.slice(sequence.nextTokenIndex);
  for await (const _ of sequence.evaluate(rest, { temperature, topK: 0, topP: 1, minP: 0, seed })) if (++drawn >= most) break;
  return drawn;
};

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const { prompts, temperatures, size: [most, runs] } = JSON.parse(line);
  const waiting = prompts.flatMap((prompt) => temperatures.flatMap((t) => Array.from({ length: t ? runs : 1 }, (_, run) => [prompt, t, run + 1])));
  for (const sequence of sequences) await sequence.clearHistory();
  writeFileSync("/proc/self/clear_refs", "5"); // the high-water mark of memory begins anew
  const begun = performance.now();
  let [next, tokens] = [0, 0];
  await Promise.all(sequences.map(async (sequence) => {
    while (next < waiting.length) tokens += await draw(sequence, waiting[next++], most);
  }));
  const seconds = (performance.now() - begun) / 1000;
  const peak = Math.round((Number(readFileSync("/proc/self/status", "utf8").match(/VmHWM:\s+(\d+)/)[1]) * 1024) / 1e6);
  console.log(JSON.stringify({ seconds, peak_mb: peak, tokens }));
}
process.exit(0);
