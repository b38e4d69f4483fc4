//! `firebox devices`

use crate::report::{Failure, print, print_json};
use burn::tensor::Device;
use model::device::{adapters, ndarray, probe};
use serde_json::json;

/// Arguments of `firebox devices`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// Lists every device with whether a small matrix product on it is right.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut rows: Vec<(String, String, String, bool, Device)> = vec![
        ("ndarray".into(), "CPU".into(), "burn-ndarray".into(), false, ndarray()),
        ("flex".into(), "CPU".into(), "burn-flex".into(), false, Device::flex()),
    ];
    rows.extend(adapters().into_iter().map(|adapter| {
        let device = adapter.device();
        (
            format!("wgpu:{}", adapter.index),
            adapter.name,
            format!("{} {}", adapter.api, adapter.driver),
            adapter.software,
            device,
        )
    }));
    let mut list = Vec::new();
    let mut text = String::new();
    for (device, name, driver, software, handle) in rows {
        let result = probe(&handle);
        let verdict = match &result {
            Ok(()) => "computes right".to_string(),
            Err(why) => why.clone(),
        };
        let note = if software { ", software" } else { "" };
        text.push_str(&format!("{device:<8} {name} ({driver}{note}): {verdict}\n"));
        list.push(json!({
            "device": device, "name": name, "driver": driver, "software": software,
            "works": result.is_ok(), "problem": result.err(),
        }));
    }
    if arguments.json { print_json(&json!(list)) } else { print(&text) }
}
