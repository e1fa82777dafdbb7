"""An adapter of ours in PEFT: the same logits? Run by hand.

    make build/tests/model/save_adapter
    build/tests/model/save_adapter tests/fixtures/decoder/llama3 /tmp/adapter     random LoRA on that model, saved by
                                                                                  semollm, with semollm's logits
    python tests/oracle/peft_roundtrip.py tests/fixtures/decoder/llama3 /tmp/adapter
"""

import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

LENGTHS = [1, 7, 29, 40]


def main():
    model_folder, adapter_folder = sys.argv[1:3]
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    model = PeftModel.from_pretrained(model, adapter_folder).eval()
    ids = load_file(f"{model_folder}/expected.safetensors")["ids"].long()
    ours = load_file(f"{adapter_folder}/logits.safetensors")["logits"]
    with torch.no_grad():
        theirs = torch.cat([model(input_ids=s[None]).logits[0] for s in ids.split(LENGTHS)])
        with model.disable_adapter():
            bare = torch.cat([model(input_ids=s[None]).logits[0] for s in ids.split(LENGTHS)])
    error = ((ours - theirs).norm() / theirs.norm()).item()
    effect = ((ours - bare).norm() / bare.norm()).item()
    print(f"relative error {error:.3g} (the adapter changes the logits by {effect:.3g})")
    sys.exit(error > 1e-5 or effect < 1e-2)


if __name__ == "__main__":
    main()
