#!/usr/bin/env python3
"""Makes the golden BERT fixtures that Firebox is compared with; runs as `make_golden.py` does, whose rules hold here.

    /tmp/venv/bin/python scripts/make_bert_golden.py [--to DIR]

Each directory is a tiny model of one class, saved by transformers, every tensor perturbed, with a batch of three rows of
which two are padded:

bert-masked-lm, bert-pre-training, bert-classes (three labels), bert-tags (five)
  golden.safetensors    input_ids, attention_mask, token_type_ids [3, 9] i64, what the class is trained with (labels,
                        next_sentence_label; -100 trains nothing), its logits, logits_tanh_gelu (what a wrong activation
                        gives), grad.<parameter> of every parameter, losses [10] f64; bert-classes also multi_hot [3, 3],
                        loss_multi_label and loss_regression (multi_hot as values) [1] f64
  golden.json           the hyperparameters of the ten AdamW steps
"""

import argparse
import os

import torch
import transformers
from make_golden import ADAMW, FIXTURES, adamw_losses, fresh, save_json
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)

MAX_BYTES = 100_000
VOCAB, ROWS, SEQ, LENGTHS = 37, 3, 9, (9, 6, 4)
CLASSES = {
    "bert-masked-lm": (BertForMaskedLM, 2),
    "bert-pre-training": (BertForPreTraining, 2),
    "bert-classes": (BertForSequenceClassification, 3),
    "bert-tags": (BertForTokenClassification, 5),
}


def config(labels):
    return BertConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=40,
        max_position_embeddings=12,
        # Large enough for a reader that takes another to be seen.
        layer_norm_eps=1e-3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=labels,
        attn_implementation="eager",
    )


def perturb(model, generator):
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            std = 0.2 if "embeddings.weight" in name else 1.0 if name.startswith("classifier") else 0.5
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)


def batch(name, labels, generator):
    lengths = torch.tensor(LENGTHS)[:, None]
    real = torch.arange(SEQ)[None] < lengths
    ids = torch.randint(1, VOCAB, (ROWS, SEQ), generator=generator) * real
    types = (torch.arange(SEQ)[None] >= lengths // 2) & real
    tensors = {"input_ids": ids, "attention_mask": real.long(), "token_type_ids": types.long()}
    if name == "bert-classes":
        return tensors | {"labels": torch.tensor([2, 0, 1])}
    of_tokens = torch.randint(0, VOCAB if labels == 2 else labels, (ROWS, SEQ), generator=generator)
    trained = real if name == "bert-tags" else real & (torch.rand((ROWS, SEQ), generator=generator) < 0.4)
    tensors["labels"] = torch.where(trained, of_tokens, -100)
    if name == "bert-pre-training":
        tensors["next_sentence_label"] = torch.tensor([1, 0, 0])
    return tensors


def double_copy(cls, directory, **overrides):
    return cls.from_pretrained(directory, attn_implementation="eager", dtype=torch.float64, **overrides).train()


def logits_of(model, inputs):
    out = model(**inputs)
    return out.prediction_logits if "prediction_logits" in out else out.logits


def golden(directory, cls, labels):
    name = os.path.basename(directory)
    generator = torch.Generator().manual_seed(1337)
    torch.manual_seed(1337)
    model = cls(config(labels))
    perturb(model, generator)
    fresh(directory)
    model.save_pretrained(directory)
    inputs = batch(name, labels, generator)

    model = double_copy(cls, directory)
    out = model(**inputs)
    out.loss.backward()
    tensors = dict(inputs)
    tensors |= {"grad." + name: p.grad.float().contiguous() for name, p in model.named_parameters()}
    tensors["logits"] = logits_of(model, inputs).detach().float().contiguous()
    if "seq_relationship_logits" in out:
        tensors["next_sentence_logits"] = out.seq_relationship_logits.detach().float().contiguous()
    real = inputs["attention_mask"].bool()
    # Activations are functions of the configuration; the weights are the same.
    tanh = logits_of(double_copy(cls, directory, hidden_act="gelu_new"), inputs).detach()
    epsilon = logits_of(double_copy(cls, directory, layer_norm_eps=1e-12), inputs).detach()
    tensors["logits_tanh_gelu"] = tanh.float().contiguous()
    of_real = (lambda logits: logits[real]) if tanh.dim() == 3 else (lambda logits: logits)
    expected = of_real(logits_of(model, inputs).detach())
    wrong = {
        "tanh_gelu": (of_real(tanh) - expected).abs().max().item(),
        "epsilon_1e-12": (of_real(epsilon) - expected).abs().max().item(),
    }
    assert all(off > 1e-3 for off in wrong.values()), (name, wrong)
    if name == "bert-classes":
        multi_hot = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
        tensors["multi_hot"] = multi_hot
        for problem, key in [("multi_label_classification", "multi_label"), ("regression", "regression")]:
            other = double_copy(cls, directory, problem_type=problem)
            loss = other(**(inputs | {"labels": multi_hot.double()})).loss
            tensors["loss_" + key] = loss.detach().reshape(1)
    losses, norms = adamw_losses(double_copy(cls, directory), lambda model: model(**inputs).loss)
    assert losses[0] == out.loss.item() and losses[-1] < 0.7 * losses[0], losses
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    save_file(tensors, os.path.join(directory, "golden.safetensors"), metadata={"format": "pt"})
    save_json(os.path.join(directory, "golden.json"), {"losses": losses, "optimizer": {"kind": "adamw", **ADAMW}})
    print(f"{name}: losses {losses[0]:.4f} -> {losses[-1]:.4f}, norm {norms[0]:.3f}; wrong on purpose: {wrong}")


def main():
    parser = argparse.ArgumentParser(description="Makes the golden BERT fixtures.")
    parser.add_argument("--to", default=FIXTURES, help="where the directories go")
    to = os.path.normpath(parser.parse_args().to)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name, (cls, labels) in CLASSES.items():
        directory = os.path.join(to, name)
        golden(directory, cls, labels)
        files = [os.path.join(directory, file) for file in sorted(os.listdir(directory))]
        for path in files:
            os.chmod(path, 0o644)  # safetensors writes files that only their owner can read
        size = sum(map(os.path.getsize, files))
        print(f"{size:>8}  {name}")
        assert size < MAX_BYTES, "the fixtures must stay small"


if __name__ == "__main__":
    main()
