//! What crosses crates: one test binary, because each would link all of Burn.

#![recursion_limit = "256"]

mod bad_input;
mod bert_golden;
mod chat;
mod commands;
mod configs;
mod encoders;
mod golden;
mod gradients;
mod layering;
mod loop_on_devices;
mod lora;
mod resume;
mod support;
