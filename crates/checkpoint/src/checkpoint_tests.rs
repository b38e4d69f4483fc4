//! Saving, finding and rotating, without crashes; those are in `crash_tests`.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::checkpoint::REPLACED;
use crate::*;

/// A small checkpoint whose every file depends on `number`.
pub(crate) fn contents(number: u32) -> Contents {
    let values: Vec<f32> = (0..24).map(|i| (i * number) as f32 * 0.1).collect();
    let tensor = HostTensor { shape: vec![4, 6], values };
    let tensors = |prefix: &str| File::tensors(Tensors::from([(format!("{prefix}wte.weight"), tensor.clone())]));
    let state = TrainState {
        format: train_state::FORMAT,
        step: number.into(),
        position_rows: 8 * u64::from(number),
        tokens_seen: 512 * u64::from(number),
        best: None,
        elapsed_seconds: 0.1,
        loss_scale: serde_json::Value::Null,
        seed: 1,
        data_hash: String::new(),
        tokenizer_hash: String::new(),
        config: serde_json::json!({}),
        firebox_version: "0.1.0".into(),
    };
    Contents::from([
        ("config.json".into(), File::Bytes(format!("{{\"number\": {number}}}").into_bytes())),
        (weights::FILE.into(), tensors("")),
        (train_state::STATE_FILE.into(), File::Bytes(state.to_bytes().unwrap())),
        (train_state::OPTIMIZER_FILE.into(), tensors("m.")),
    ])
}

/// Whether a directory holds exactly what `contents(number)` says.
pub(crate) fn holds(dir: &Path, number: u32) -> bool {
    let expected = contents(number);
    let (File::Tensors { tensors, .. }, File::Bytes(config)) = (&expected[weights::FILE], &expected["config.json"])
    else {
        return false;
    };
    let Source::Host(weight) = &tensors["wte.weight"] else {
        return false;
    };
    let model = open_model(dir).unwrap();
    model.names().eq(["wte.weight"])
        && model.tensor("wte.weight").unwrap() == *weight
        && TrainState::read(dir).unwrap().step == u64::from(number)
        && read_optimizer(dir).unwrap()["m.wte.weight"] == *weight
        && fs::read(dir.join("config.json")).unwrap() == *config
}

/// The names in a directory that only an interrupted process may leave.
pub(crate) fn leftovers(run_dir: &Path) -> Vec<String> {
    let mut names = crate::checkpoint::names_in(run_dir).unwrap();
    names.retain(|name| name.starts_with(".tmp-") || name.ends_with(REPLACED));
    names
}

fn steps(run_dir: &Path) -> Vec<u64> {
    list(run_dir).unwrap().iter().map(|listed| listed.step).collect()
}

fn corrupt(dir: &Path) {
    let path = dir.join(weights::FILE);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_saved_is_found_and_read_back_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("runs/x");
    for number in [1, 2, 1_000_000] {
        let saved = save(&run_dir, number.into(), &contents(number)).unwrap();
        assert_eq!(saved, run_dir.join(step_name(number.into())));
        assert_eq!(verify(&saved).unwrap(), Verified::Whole);
        assert!(holds(&saved, number));
        let found = find_latest(&run_dir).unwrap();
        assert_eq!((found.dir, found.step), (saved.clone(), number.into()));
        let latest = fs::read_to_string(run_dir.join(LATEST)).unwrap();
        assert_eq!(run_dir.join(latest.trim()), saved);
    }
    assert_eq!(steps(&run_dir), [1, 2, 1_000_000]);
    assert!(leftovers(&run_dir).is_empty());
}

#[test]
fn the_newest_whole_checkpoint_is_found_whatever_latest_says() {
    let dir = tempfile::tempdir().unwrap();
    for number in [1, 2, 3] {
        save(dir.path(), number.into(), &contents(number)).unwrap();
    }
    fs::write(dir.path().join(LATEST), "step-000001\n").unwrap();
    assert_eq!(find_latest(dir.path()).unwrap().step, 3);
    fs::write(dir.path().join(LATEST), [0xff, 0xfe]).unwrap();
    corrupt(&dir.path().join("step-000003"));
    fs::remove_file(dir.path().join("step-000002/manifest.json")).unwrap();
    let found = find_latest(dir.path()).unwrap();
    assert_eq!(found.step, 1);
    assert_eq!(found.skipped.len(), 2);
    let (path, why) = &found.skipped[0];
    assert!(path.ends_with("step-000003") && why.contains("model.safetensors has changed"), "{why}");
    assert!(found.skipped[1].1.contains("manifest.json is missing"), "{:?}", found.skipped);
    corrupt(&dir.path().join("step-000001"));
    let error = find_latest(dir.path()).unwrap_err();
    assert_eq!(error.kind(), Kind::Checkpoint);
    for step in ["step-000001", "step-000002", "step-000003", "hint:"] {
        assert!(error.to_string().contains(step), "{error}");
    }
}

#[test]
fn a_run_directory_without_checkpoints_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    for run_dir in [dir.path().to_path_buf(), dir.path().join("absent")] {
        let error = find_latest(&run_dir).unwrap_err();
        assert!(matches!(error, Error::NoCheckpoint { .. }), "{error}");
        assert!(list(&run_dir).unwrap().is_empty());
    }
}

#[test]
fn the_same_step_saved_again_is_kept_if_it_is_the_same_and_replaced_if_not() {
    let dir = tempfile::tempdir().unwrap();
    let saved = save(dir.path(), 5, &contents(5)).unwrap();
    let made = |path: &Path| fs::metadata(path.join("config.json")).unwrap().modified().unwrap();
    let first = made(&saved);
    save(dir.path(), 5, &contents(5)).unwrap();
    assert_eq!(made(&saved), first);
    save(dir.path(), 5, &contents(6)).unwrap();
    assert!(holds(&saved, 6));
    corrupt(&saved);
    save(dir.path(), 5, &contents(6)).unwrap();
    assert_eq!(verify(&saved).unwrap(), Verified::Whole);
    assert!(leftovers(dir.path()).is_empty());
    assert_eq!(steps(dir.path()), [5]);
}

#[test]
fn rotation_keeps_the_last_the_best_and_what_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = |step: u64| dir.path().join(step_name(step));
    for number in 1..=6 {
        save(dir.path(), number.into(), &contents(number)).unwrap();
    }
    set_best(dir.path(), &path(2), 1.5).unwrap();
    assert_eq!(best(dir.path()).unwrap(), Some((path(2), 1.5)));
    let removed = rotate(dir.path(), 2, &[path(3)]).unwrap();
    assert_eq!(removed, [path(1), path(4)]);
    assert_eq!(steps(dir.path()), [2, 3, 5, 6]);
    assert_eq!(rotate(dir.path(), 0, &[]).unwrap(), [path(3), path(5)]);
    assert_eq!(steps(dir.path()), [2, 6]);
    assert!(leftovers(dir.path()).is_empty());
}

#[test]
fn rotation_never_removes_the_last_whole_checkpoint_for_the_sake_of_damaged_ones() {
    let dir = tempfile::tempdir().unwrap();
    for number in 1..=4 {
        save(dir.path(), number.into(), &contents(number)).unwrap();
    }
    corrupt(&dir.path().join("step-000003"));
    corrupt(&dir.path().join("step-000004"));
    rotate(dir.path(), 1, &[]).unwrap();
    assert_eq!(find_latest(dir.path()).unwrap().step, 2);
    assert_eq!(steps(dir.path()), [2, 3, 4]);
    corrupt(&dir.path().join("step-000002"));
    assert!(rotate(dir.path(), 1, &[]).unwrap().is_empty());
    assert_eq!(steps(dir.path()), [2, 3, 4]);
}

#[test]
fn rotation_keeps_what_was_just_saved_though_later_steps_of_an_abandoned_branch_stand() {
    let dir = tempfile::tempdir().unwrap();
    for number in [1, 2, 3, 4, 2] {
        save(dir.path(), number.into(), &contents(number)).unwrap();
    }
    rotate(dir.path(), 1, &[]).unwrap();
    assert_eq!(steps(dir.path()), [2, 4]);
}

#[test]
fn a_best_file_that_names_nothing_sensible_is_none_or_an_error_but_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(best(dir.path()).unwrap(), None);
    let file = dir.path().join(BEST);
    fs::write(&file, r#"{"directory": "step-000009", "metric": 1.0}"#).unwrap();
    assert_eq!(best(dir.path()).unwrap(), None);
    fs::write(&file, r#"{"directory": "../x", "metric": 1.0}"#).unwrap();
    assert_eq!(best(dir.path()).unwrap(), None);
    fs::write(&file, "step-000009").unwrap();
    assert!(matches!(best(dir.path()), Err(Error::Malformed { .. })));
    assert!(set_best(dir.path(), Path::new("elsewhere"), 1.0).is_err());
    assert!(set_best(dir.path(), Path::new("step-000001"), f64::NAN).is_err());
}

#[test]
fn contents_that_would_leave_the_directory_are_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 1, &contents(1)).unwrap();
    for name in ["../evil", "/evil", "manifest.json", ""] {
        let mut bad = contents(2);
        bad.insert(name.into(), File::Bytes(vec![]));
        let error = save(dir.path(), 2, &bad).unwrap_err();
        assert!(matches!(error, Error::CannotSave { .. }), "{error}");
    }
    let mut bad = contents(2);
    let misshapen = HostTensor { shape: vec![3], values: vec![1.0] };
    bad.insert(weights::FILE.into(), File::tensors(Tensors::from([("x".into(), misshapen)])));
    assert!(save(dir.path(), 2, &bad).is_err());
    assert_eq!(steps(dir.path()), [1]);
    assert!(leftovers(dir.path()).is_empty());
}

#[test]
fn an_export_is_whole_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("models/mine");
    let mut model = contents(3);
    model.retain(|name, _| !name.starts_with(train_state::DIRECTORY));
    export(&target, &model).unwrap();
    assert_eq!(verify(&target).unwrap(), Verified::Whole);
    let error = export(&target, &model).unwrap_err();
    assert!(error.to_string().contains("it exists"), "{error}");
    assert_eq!(fs::read_dir(dir.path().join("models")).unwrap().count(), 1);
}

#[test]
fn the_size_on_disk_is_foretold_from_above_and_closely() {
    let dir = tempfile::tempdir().unwrap();
    let values = vec![0.5; 100_000];
    let shape = vec![values.len()];
    let tensors = Tensors::from([("w".to_string(), HostTensor { shape, values })]);
    let contents = Contents::from([(weights::FILE.to_string(), File::tensors(tensors))]);
    let saved = save(dir.path(), 1, &contents).unwrap();
    let found = manifest::Manifest::read(&saved).unwrap().unwrap().total_size();
    let foretold = size_on_disk(&contents);
    assert!(foretold.abs_diff(found) < 200, "{foretold} {found}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_damage_to_any_file_makes_the_older_checkpoint_the_latest(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), how in 0..3, bit in 0u8..8,
    ) {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), 1, &contents(1)).unwrap();
        let saved = save(dir.path(), 2, &contents(2)).unwrap();
        let mut names: Vec<String> = contents(2).into_keys().collect();
        names.push(manifest::FILE.into());
        let path = saved.join(which.get(&names));
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        match how {
            0 => { bytes[at] ^= 1 << bit; fs::write(&path, bytes).unwrap() }
            1 => fs::write(&path, &bytes[..at]).unwrap(),
            _ => fs::remove_file(&path).unwrap(),
        }
        let found = find_latest(dir.path()).unwrap();
        prop_assert_eq!(found.step, 1);
        let (name, why) = (which.get(&names), &found.skipped[0].1);
        // A manifest with another hash or size in it accuses the file that it is about.
        prop_assert!(why.contains(name.as_str()) || name == manifest::FILE, "{}", why);
        prop_assert!(holds(&found.dir, 1));
        save(dir.path(), 2, &contents(2)).unwrap();
        prop_assert_eq!(find_latest(dir.path()).unwrap().step, 2);
    }
}
