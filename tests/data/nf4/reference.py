"""What the paper's route makes of the checkpoints here: transformers below 5, whose experts are linear layers.

With transformers 4.57.1, huggingface-hub 0.36.2 and tokenizers 0.22.2 in front of the others on the path::

    python tests/data/nf4/reference.py

writes ``reference.json``: of each matrix the hash of its 4-bit codes, and logits.
"""

import hashlib
import json
from pathlib import Path

import torch
import transformers
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

HERE = Path(__file__).parent
IDS = [[3, 7, 11, 4, 4, 9], [5, 3, 10, 8, 6, 6]]

found = {"transformers": transformers.__version__, "ids": IDS}
for family in ("mixtral", "olmoe"):
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(HERE / family, quantization_config=config, dtype=torch.bfloat16)
    codes = {}
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False  # its fast path fails for experts without a token
            codes[name] = hashlib.sha256(module.weight.data.cpu().numpy().tobytes()).hexdigest()
    with torch.no_grad():
        logits = model(torch.tensor(IDS)).logits.float()
    found[family] = {"codes": codes, "logits": logits.tolist()}
(HERE / "reference.json").write_text(json.dumps(found, indent=1) + "\n")
