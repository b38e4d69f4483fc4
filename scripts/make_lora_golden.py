#!/usr/bin/env python3
"""Makes the golden LoRA fixtures that Firebox is compared with; runs as `make_golden.py` does, whose rules hold here.

    /tmp/venv/bin/python scripts/make_lora_golden.py [--to DIR]

Each directory is an adapter as PEFT saves it, for a model whose fixture lies beside it, every tensor perturbed:

gpt2-lora             rank 4 beside every linear layer of gpt2-golden
  golden.safetensors  logits [3, 17, 61] of gpt2-golden's input_ids, logits_base without the adapter, and
                      grad.<parameter> of the adapter's parameters, by the names that PEFT saves them under
bert-lora             rank 3 beside query, value and every layer called `dense`, the pooler's too, of bert-classes, with a
                      classifier of five labels saved whole
  golden.safetensors  logits [3, 5] of bert-classes' input_ids
"""

import argparse
import json
import os

import torch
import transformers
from make_golden import FIXTURES, fresh, save_json, shifted_loss
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

MAX_BYTES = 80_000


def adapted(model, config):
    """The model with adapters that do something, in float64; what PEFT makes without a reason is random or zero."""
    torch.manual_seed(1337)
    generator = torch.Generator().manual_seed(7)
    model = get_peft_model(model, config)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                # As float32, which is what the file holds.
                noise = torch.randn(parameter.shape, generator=generator) * 0.2
                parameter.copy_((parameter + noise).float())
    return model.train()  # every dropout is 0


def save(model, directory, base, tensors):
    fresh(directory)
    model.save_pretrained(directory)
    os.remove(os.path.join(directory, "README.md"))
    path = os.path.join(directory, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    # The order of a set is another one in every process.
    config["target_modules"] = sorted(config["target_modules"])
    save_json(path, config | {"base_model_name_or_path": "../" + base})
    path = os.path.join(directory, "adapter_model.safetensors")
    save_file({name: tensor.float() for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    tensors = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, os.path.join(directory, "golden.safetensors"), metadata={"format": "pt"})
    files = [os.path.join(directory, file) for file in sorted(os.listdir(directory))]
    for file in files:
        os.chmod(file, 0o644)  # safetensors writes files that only their owner can read
    size = sum(map(os.path.getsize, files))
    print(f"{size:>8}  {os.path.basename(directory)}")
    assert size < MAX_BYTES, "the fixtures must stay small"


def gpt(to):
    base = os.path.join(FIXTURES, "gpt2-golden")
    ids = load_file(os.path.join(base, "golden.safetensors"))["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager", dtype=torch.float64)
    tensors = {"logits_base": model(ids).logits.detach()}
    layers = ["c_attn", "c_proj", "c_fc"]
    model = adapted(model, LoraConfig(r=4, lora_alpha=6, target_modules=layers, task_type="CAUSAL_LM", fan_in_fan_out=True))
    logits = model(ids).logits
    shifted_loss(logits, ids).backward()
    tensors["logits"] = logits.detach()
    off = (tensors["logits"] - tensors["logits_base"]).abs().max().item()
    assert off > 0.1, off
    names = get_peft_model_state_dict(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            name = name.replace(".default", "")
            assert name in names, name
            tensors["grad." + name] = parameter.grad
    save(model, os.path.join(to, "gpt2-lora"), "gpt2-golden", tensors)


def bert(to):
    base = os.path.join(FIXTURES, "bert-classes")
    inputs = load_file(os.path.join(base, "golden.safetensors"))
    inputs = {name: inputs[name] for name in ["input_ids", "attention_mask", "token_type_ids"]}
    model = AutoModelForSequenceClassification.from_pretrained(
        base, attn_implementation="eager", dtype=torch.float64, num_labels=5, ignore_mismatched_sizes=True
    )
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["query", "value", "dense"], task_type="SEQ_CLS")
    model = adapted(model, config)
    save(model, os.path.join(to, "bert-lora"), "bert-classes", {"logits": model(**inputs).logits.detach()})


def main():
    parser = argparse.ArgumentParser(description="Makes the golden LoRA fixtures.")
    parser.add_argument("--to", default=FIXTURES, help="where the directories go")
    to = os.path.normpath(parser.parse_args().to)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    gpt(to)
    bert(to)


if __name__ == "__main__":
    main()
