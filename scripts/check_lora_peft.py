#!/usr/bin/env python3
"""Opens a Firebox LoRA checkpoint with PEFT and compares it with what `firebox merge` made of it.

    firebox merge ADAPTER MERGED
    python3 scripts/check_lora_peft.py ADAPTER MERGED      # where the adapted model's path leads to it

Every tensor of the adapter must be one that PEFT loads and, saved by PEFT, come out the same. The logits of random tokens through
model and adapter must be those of the merged directory, opened with transformers. Exit codes: 0 agreed, 1 something differs.

Needs the packages of scripts/requirements.txt. Nothing is downloaded.
"""

import argparse
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification

TOLERANCE = 1e-4
CLASSES = {
    "CAUSAL_LM": AutoModelForCausalLM,
    "SEQ_CLS": AutoModelForSequenceClassification,
    "TOKEN_CLS": AutoModelForTokenClassification,
}


def stop(message):
    print(f"check_lora_peft: {message}", file=sys.stderr)
    sys.exit(1)


def main():
    parser = argparse.ArgumentParser(description="Compares an adapter in PEFT with the merged model.")
    parser.add_argument("adapter", help="a checkpoint of a run with [lora]")
    parser.add_argument("merged", help="what `firebox merge` made of it")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = PeftConfig.from_pretrained(args.adapter)
    cls = CLASSES[config.task_type]
    merged, loading = cls.from_pretrained(args.merged, dtype=torch.float32, output_loading_info=True)
    if loading["missing_keys"]:
        stop(f"the merged directory lacks weights: {sorted(loading['missing_keys'])}")

    labels = {} if config.task_type == "CAUSAL_LM" else {"num_labels": merged.config.num_labels}
    base = cls.from_pretrained(config.base_model_name_or_path, dtype=torch.float32, ignore_mismatched_sizes=True, **labels)
    base.resize_token_embeddings(merged.config.vocab_size, mean_resizing=False)
    model = PeftModel.from_pretrained(base, args.adapter)

    stored = load_file(os.path.join(args.adapter, "adapter_model.safetensors"))
    # Not the whole embedding, which PEFT adds where its size has changed: `modules_to_save` has it.
    of_peft = get_peft_model_state_dict(model, save_embedding_layers=False)
    if stored.keys() != of_peft.keys():
        stop(f"PEFT has other tensors: {sorted(stored.keys() ^ of_peft.keys())}")
    differ = [name for name, tensor in stored.items() if not torch.equal(tensor, of_peft[name])]
    if differ:
        stop(f"PEFT has other values of {differ}")

    generator = torch.Generator().manual_seed(1)
    seq = min(merged.config.max_position_embeddings, 32)
    ids = torch.randint(0, merged.config.vocab_size, (4, seq), generator=generator)
    with torch.no_grad():
        ours, theirs, untouched = merged.eval()(ids).logits, model.eval()(ids).logits, None
        with model.disable_adapter():
            untouched = model(ids).logits
    off, changed = (ours - theirs).abs().max().item(), (untouched - theirs).abs().max().item()
    print(json.dumps({"tensors": len(stored), "logits_off": off, "adapter_changes_logits_by": changed}))
    if not off <= TOLERANCE:
        stop(f"the logits of the merged model are off by {off}")


if __name__ == "__main__":
    main()
