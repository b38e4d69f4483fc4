#!/usr/bin/env python3
"""Makes the golden GPT-2 fixtures that Firebox is compared with.

How to run, from the repository root (CPU, a few seconds; the same bytes on every run):

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -r scripts/requirements.txt
    /tmp/venv/bin/python scripts/make_golden.py            # writes crates/cli/tests/fixtures/
    /tmp/venv/bin/python scripts/make_golden.py --to DIR   # writes elsewhere, to compare

What it writes:

gpt2-golden/            a tiny `GPT2LMHeadModel` directory, saved by transformers, every tensor perturbed
  golden.safetensors    input_ids [3, 17] i64, logits [3, 17, 61], logits_erf_gelu (the same weights with the erf
                        GELU: what a wrong activation gives), grad.<parameter> for every parameter, losses [10] f64
  golden.json           the hyperparameters of the ten AdamW steps, the first loss, versions
gpt2-base-prefixless/   a tinier `GPT2Model` in the old layout of the files on the HuggingFace hub: names without
                        `transformer.`, causal-mask buffers `h.N.attn.bias` and `h.N.attn.masked_bias` among the weights
  golden.safetensors    input_ids [2, 9] i64, logits [2, 9, 23] with the head tied to `wte.weight`

Everything is computed in float64 from the float32 weights in the file, then stored as float32 (the losses stay
float64): the reference carries no rounding of its own. `losses[i]` is the loss before update i + 1, so losses[0] belongs
to the untouched weights and is the loss that the gradients belong to.
"""

import argparse
import json
import os
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"  # every model is made here; nothing may come from the network

import safetensors
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, GPT2Model

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crates", "cli", "tests", "fixtures")
MAX_BYTES = 300_000
ADAMW = {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "max_grad_norm": 1.0, "steps": 10}


def config(**shape):
    # Token ids stay inside the small vocabulary; GPT-2's own 50256 would be rejected by strict readers.
    return GPT2Config(
        **shape,
        activation_function="gelu_new",
        layer_norm_epsilon=1e-5,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
    )


def perturb(model, generator):
    """Adds noise of standard deviation 0.2 or more to every tensor.

    The embeddings get the least, so that the first norm sees a small variance and its epsilon shows in the logits; the
    last norm gets the most: it scales the logits, and with them what a wrong GELU or epsilon changes. float32 rounding
    stays a hundred times smaller than either.
    """
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            std = 0.2 if name.endswith(("wte.weight", "wpe.weight")) else 1.0 if "ln_f" in name else 0.3
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)


def shifted_loss(logits, ids):
    """Mean cross entropy of each next token."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def double_copy(directory, **overrides):
    """The model of `directory` in float64, some configuration values replaced."""
    model = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager", dtype=torch.float64, **overrides)
    return model.train()  # every dropout is 0


def logits_of(model, ids):
    with torch.no_grad():
        return model(ids).logits


def adamw_losses(model, loss_of):
    """The loss before each of the AdamW steps: decay on matrices only, clipping by the global norm."""
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": ADAMW["weight_decay"]},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=ADAMW["lr"],
        betas=(ADAMW["beta1"], ADAMW["beta2"]),
        eps=ADAMW["eps"],
    )
    losses, norms = [], []
    for _ in range(ADAMW["steps"]):
        loss = loss_of(model)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, ADAMW["max_grad_norm"]).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


def save_json(path, value):
    with open(path, "w", encoding="ascii", newline="\n") as file:
        file.write(json.dumps(value, indent=2) + "\n")


def fresh(directory):
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    return directory


def golden(directory):
    generator = torch.Generator().manual_seed(1337)
    torch.manual_seed(1337)
    model = GPT2LMHeadModel(config(n_layer=2, n_head=2, n_embd=32, n_positions=32, vocab_size=61))
    perturb(model, generator)
    fresh(directory)
    model.save_pretrained(directory)
    ids = torch.randint(0, 61, (3, 17), generator=generator)

    model = double_copy(directory)
    logits = model(ids).logits
    loss = shifted_loss(logits, ids)
    loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    logits = logits.detach()
    loss_of = lambda model: shifted_loss(model(ids).logits, ids)
    losses, norms = adamw_losses(double_copy(directory), loss_of)
    erf = logits_of(double_copy(directory, activation_function="gelu"), ids)

    # What a wrong implementation would give must lie well outside the test's tolerance of 1e-4.
    wrong = {
        "erf_gelu": (erf - logits).abs().max().item(),
        "epsilon_1e-6": (logits_of(double_copy(directory, layer_norm_epsilon=1e-6), ids) - logits).abs().max().item(),
    }
    assert wrong["erf_gelu"] > 1e-3, wrong
    assert wrong["epsilon_1e-6"] > 3e-4, wrong
    assert losses[-1] < 0.5 * losses[0] and losses[0] == loss.item(), losses
    assert norms[0] > ADAMW["max_grad_norm"], "the clipping must matter"
    assert "lm_head.weight" not in grads, "the head is tied to transformer.wte.weight"
    single = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager", dtype=torch.float32)
    rounding = (logits_of(single, ids).double() - logits).abs().max().item()
    single_losses, _ = adamw_losses(single, loss_of)
    drift = max(abs(a - b) for a, b in zip(single_losses, losses))
    assert rounding < 3e-5 and drift < 1e-4, (rounding, drift)

    tensors = {"grad." + name: grad.float().contiguous() for name, grad in grads.items()}
    tensors["input_ids"] = ids
    tensors["logits"] = logits.float().contiguous()
    tensors["logits_erf_gelu"] = erf.float().contiguous()
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    save_file(tensors, os.path.join(directory, "golden.safetensors"), metadata={"format": "pt"})
    save_json(
        os.path.join(directory, "golden.json"),
        {
            "loss": loss.item(),
            "grad_norm": norms[0],
            "losses": losses,
            "optimizer": {
                "kind": "adamw",
                **ADAMW,
                "decayed": "tensors of two or more dimensions",
                "clipping": "global norm, torch.nn.utils.clip_grad_norm_",
                "batch": "the same input_ids at every step",
            },
            "versions": {
                "torch": torch.__version__.split("+")[0],
                "transformers": transformers.__version__,
                "safetensors": safetensors.__version__,
            },
        },
    )
    print(f"gpt2-golden: losses {losses[0]:.4f} -> {losses[-1]:.4f}, gradient norms {norms[0]:.3f} -> {norms[-1]:.3f}")
    print(f"  float32 against float64: logits {rounding:.1e}, losses {drift:.1e}; wrong on purpose: {wrong}")


def prefixless(directory):
    generator = torch.Generator().manual_seed(7)
    torch.manual_seed(7)
    n_positions = 12
    model = GPT2Model(config(n_layer=1, n_head=2, n_embd=8, n_positions=n_positions, vocab_size=23))
    perturb(model, generator)
    fresh(directory)
    model.save_pretrained(directory)
    path = os.path.join(directory, "model.safetensors")
    tensors = load_file(path)
    assert all(not name.startswith("transformer.") for name in tensors), sorted(tensors)
    tensors["h.0.attn.bias"] = torch.tril(torch.ones(n_positions, n_positions)).view(1, 1, n_positions, n_positions)
    tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, path, metadata={"format": "pt"})

    ids = torch.randint(0, 23, (2, 9), generator=generator)
    logits = logits_of(double_copy(directory), ids)
    by_hand = model.double()(ids).last_hidden_state @ model.wte.weight.T
    assert torch.allclose(logits, by_hand, atol=1e-9), "transformers did not take the prefixless names"
    save_file(
        {"input_ids": ids, "logits": logits.float().contiguous()},
        os.path.join(directory, "golden.safetensors"),
        metadata={"format": "pt"},
    )


def main():
    parser = argparse.ArgumentParser(description="Makes the golden GPT-2 fixtures.")
    parser.add_argument("--to", default=FIXTURES, help="where the two directories go")
    to = os.path.normpath(parser.parse_args().to)
    # One thread: sums are taken in one order, so the bytes are the same on every run.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    directories = [os.path.join(to, name) for name in ("gpt2-golden", "gpt2-base-prefixless")]
    golden(directories[0])
    prefixless(directories[1])
    total = 0
    for directory in directories:
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            os.chmod(path, 0o644)  # safetensors writes files that only their owner can read
            size = os.path.getsize(path)
            total += size
            print(f"{size:>8}  {os.path.relpath(path, to)}")
    print(f"{total:>8}  in all")
    assert total < MAX_BYTES, "the fixtures must stay small"


if __name__ == "__main__":
    main()
