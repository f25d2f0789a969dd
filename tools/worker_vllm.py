"""vLLM as a contestant of `tools.bench_real`, in an environment of its own: ``python worker_vllm.py MODEL DTYPE``.

A line of JSON with prompts, temperatures and a size comes in; one with seconds, the most memory and the tokens drawn
goes out. Prefixes are cached, within a request's draws and between requests, and forgotten between questions.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main(folder: str, dtype: str) -> None:
    """Load the model, say so, and answer until there is nothing more to answer."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{int(os.environ['OMP_NUM_THREADS']) - 1}"
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found,unused-ignore]

    kind = {"fp32": "float32", "bf16": "bfloat16"}[dtype]
    model = LLM(folder, dtype=kind, max_model_len=1024, max_num_seqs=512, enable_prefix_caching=True)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        new_tokens, runs, _ = asked["size"]
        pairs = [(prompt, t) for prompt in asked["prompts"] for t in asked["temperatures"]]
        rules = [
            SamplingParams(n=runs if t else 1, temperature=t, top_k=0, top_p=1.0, max_tokens=new_tokens)
            for _, t in pairs
        ]
        model.reset_prefix_cache()
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark of memory begins anew
        began = time.perf_counter()
        found = model.generate([{"prompt_token_ids": prompt} for prompt, _ in pairs], rules, use_tqdm=False)
        seconds = time.perf_counter() - began
        peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024 // 1_000_000
        tokens = sum(len(one.token_ids) for each in found for one in each.outputs)
        print(json.dumps({"seconds": seconds, "peak_mb": peak, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
