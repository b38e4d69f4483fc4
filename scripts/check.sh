#!/usr/bin/env bash
# Every check of the project, cheapest first: formatting, lints, tests, documentation of the public interface.
#
# One profile and one feature set throughout, so that Burn is built once. Lints run as part of that build (clippy's
# driver stands in for rustc on the workspace's own crates), not as a second pass over every dependency.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check

RUSTC_WORKSPACE_WRAPPER="$(rustup which clippy-driver)"
export RUSTC_WORKSPACE_WRAPPER
# Minimal tuning: software Vulkan has nothing to gain from trying kernels against each other.
export CUBECL_AUTOTUNE_LEVEL="${CUBECL_AUTOTUNE_LEVEL:-minimal}"
cargo test --release --workspace --all-targets --locked
