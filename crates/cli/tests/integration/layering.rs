//! Who may import whom.

use std::collections::BTreeMap;

/// What each crate of the workspace may depend on inside it.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("firebox-kernels", &[]),
    ("firebox-model", &["firebox-kernels"]),
    ("firebox-data", &[]),
    ("firebox-checkpoint", &["firebox-model", "firebox-data"]),
    ("firebox-trainer", &["firebox-checkpoint", "firebox-model", "firebox-data", "firebox-kernels"]),
    ("firebox-inference", &["firebox-checkpoint", "firebox-model", "firebox-data"]),
    ("firebox", &["firebox-trainer", "firebox-inference", "firebox-checkpoint", "firebox-model", "firebox-data"]),
];

#[test]
fn crates_depend_only_on_what_the_design_allows() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .current_dir(crate::support::root())
        .no_deps()
        .other_options(["--offline".to_string()])
        .exec()
        .expect("cargo knows its workspace");
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let members: Vec<String> = metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    assert_eq!(members.len(), ALLOWED.len(), "every crate has its rule: {members:?}");
    for package in metadata.workspace_packages() {
        let rule = allowed.get(package.name.as_str()).unwrap_or_else(|| panic!("{} has no rule", package.name));
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            assert!(rule.contains(&dependency.name.as_str()), "{} may not depend on {}", package.name, dependency.name);
        }
        if package.name.as_str() == "firebox-data" {
            assert!(package.dependencies.iter().all(|d| !d.name.starts_with("burn")), "data stays free of Burn");
        }
    }
}
