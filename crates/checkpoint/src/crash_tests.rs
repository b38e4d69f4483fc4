//! Aborts at every file operation, full disks, and two processes at once.
//!
//! Each test starts this test binary again as a child that runs one of the `child_...` functions.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::checkpoint_tests::{contents, holds, leftovers};
use crate::disk::ABORT_VARIABLE;
use crate::*;

const DIR: &str = "FIREBOX_TEST_DIR";

fn dir_of_child() -> PathBuf {
    std::env::var_os(DIR).expect("only started by the tests below").into()
}

/// The arguments that make this test binary run one function and say what it prints.
fn arguments(child: &str) -> Vec<String> {
    let name = format!("crash_tests::{child}");
    ["--exact", &name, "--ignored", "--nocapture", "--test-threads=1"].map(String::from).into()
}

fn child(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments(name)).env(DIR, dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
#[ignore = "a child process of the tests below"]
fn child_saves_and_rotates() {
    let run_dir = dir_of_child();
    let lock = RunLock::acquire(&run_dir).unwrap();
    let saved = save(&run_dir, 3, &contents(3)).unwrap();
    set_best(&run_dir, &saved, 1.0).unwrap();
    rotate(lock.run_dir(), 1, &[]).unwrap();
    println!("operations={}", file_operations());
}

#[test]
#[ignore = "a child process of the tests below"]
fn child_replaces_a_step() {
    let run_dir = dir_of_child();
    let _lock = RunLock::acquire(&run_dir).unwrap();
    save(&run_dir, 2, &contents(9)).unwrap();
    println!("operations={}", file_operations());
}

/// Aborts a child at each of its file operations in turn, each time in a copy of a run that holds
/// the steps 1 and 2, and lets `check` look at what is left.
fn abort_at_every_operation(name: &str, check: impl Fn(&Path, &str)) {
    let home = tempfile::tempdir().unwrap();
    let before = home.path().join("before");
    for number in [1, 2] {
        save(&before, number.into(), &contents(number)).unwrap();
    }
    set_best(&before, &before.join("step-000001"), 2.0).unwrap();
    let run = |label: &str, abort_at: Option<u64>| {
        let run_dir = home.path().join(label);
        copy_directory(&before, &run_dir);
        let mut command = child(name, &run_dir);
        if let Some(number) = abort_at {
            command.env(ABORT_VARIABLE, number.to_string());
        }
        (run_dir, command.output().unwrap())
    };
    let (_, whole) = run("whole", None);
    let printed = String::from_utf8_lossy(&whole.stdout).into_owned();
    assert!(whole.status.success(), "{printed}");
    let count = printed.split("operations=").nth(1).unwrap();
    let count: u64 = count.lines().next().unwrap().parse().unwrap();
    assert!(count > 30, "{count} operations are too few for a save of four files");
    for number in 1..=count {
        let (run_dir, output) = run(&format!("abort-{number}"), Some(number));
        assert!(!output.status.success(), "operation {number} did not abort");
        check(&run_dir, &format!("aborted at operation {number} of {count}"));
        fs::remove_dir_all(&run_dir).unwrap();
    }
}

#[test]
fn an_abort_at_any_file_operation_leaves_the_old_or_the_new_checkpoint_and_the_next_save_succeeds() {
    abort_at_every_operation("child_saves_and_rotates", |run_dir, when| {
        let found = find_latest(run_dir).unwrap();
        assert!(found.skipped.is_empty(), "{when}: {:?}", found.skipped);
        assert!([2, 3].contains(&found.step), "{when}: {found:?}");
        assert!(holds(&found.dir, found.step as u32), "{when}");
        for listed in list(run_dir).unwrap() {
            assert_eq!(verify(&listed.dir).unwrap(), Verified::Whole, "{when}");
        }
        let (best_dir, _) = best(run_dir).unwrap().expect(when);
        assert_eq!(verify(&best_dir).unwrap(), Verified::Whole, "{when}");

        let lock = RunLock::acquire(run_dir).unwrap();
        assert_eq!(leftovers(run_dir), [""; 0], "{when}");
        let found = find_latest(run_dir).unwrap();
        assert!([2, 3].contains(&found.step), "{when}: {found:?}");
        save(run_dir, 4, &contents(4)).expect(when);
        rotate(lock.run_dir(), 1, &[]).expect(when);
        let found = find_latest(run_dir).unwrap();
        assert!(found.step == 4 && holds(&found.dir, 4), "{when}");
        assert!(list(run_dir).unwrap().len() <= 2, "{when}"); // the last and the best
    });
}

#[test]
fn an_abort_while_a_step_is_replaced_leaves_the_old_or_the_new_one_of_that_step() {
    abort_at_every_operation("child_replaces_a_step", |run_dir, when| {
        let old_or_new = |found: Found| found.step == 2 && (holds(&found.dir, 2) || holds(&found.dir, 9));
        assert!(old_or_new(find_latest(run_dir).unwrap()), "{when}");
        RunLock::acquire(run_dir).unwrap();
        let found = find_latest(run_dir).unwrap();
        assert!(found.dir.ends_with("step-000002"), "{when}: {found:?}");
        assert!(old_or_new(found), "{when}");
        assert_eq!(leftovers(run_dir), [""; 0], "{when}");
        save(run_dir, 2, &contents(9)).expect(when);
        assert!(holds(&run_dir.join("step-000002"), 9), "{when}");
    });
}

/// Contents that need about a megabyte, so that a limit can fall inside each of their files.
fn large(number: u32) -> Contents {
    let mut contents = contents(number);
    let values: Vec<f32> = (0..30_000).map(|i| (i * number) as f32).collect();
    let shape = vec![values.len()];
    let tensor = HostTensor { shape, values };
    let file = File::tensors(Tensors::from([("w".to_string(), tensor)]));
    contents.insert(weights::FILE.to_string(), file);
    contents
}

/// A failed save must say so as an output error, leave no trace, and leave the old checkpoint as it was.
#[track_caller]
fn assert_nothing_is_lost(run_dir: &Path, result: Result<PathBuf, Error>) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Output);
    assert_eq!(leftovers(run_dir), [""; 0]);
    let found = find_latest(run_dir).unwrap();
    assert_eq!((found.step, found.skipped.len()), (1, 0));
}

#[test]
#[ignore = "a child process of the tests below, with a limit on the size of a file"]
fn child_saves_under_a_file_size_limit() {
    let run_dir = dir_of_child();
    assert_nothing_is_lost(&run_dir, save(&run_dir, 2, &large(2)));
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_grow_further_leaves_the_old_checkpoint_intact() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 1, &contents(1)).unwrap();
    // The shell's limit is in blocks of 512 or 1024 bytes; the signal that comes with it is
    // ignored, so that the write fails instead.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(arguments("child_saves_under_a_file_size_limit"))
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    save(dir.path(), 2, &large(2)).unwrap();
}

#[test]
#[ignore = "a child process of the test below, on a small disk"]
fn child_saves_on_a_disk_that_fills_up() {
    let run_dir = dir_of_child();
    save(&run_dir, 1, &large(1)).unwrap();
    let filler = run_dir.join("filler");
    let mut failures = 0;
    // The less is left, the earlier the save fails; every place where it can is met.
    for kilobytes in (0..).step_by(4) {
        let free = free_space(&run_dir).unwrap();
        fs::write(&filler, vec![0; (free - kilobytes * 1024) as usize]).unwrap();
        assert!(ensure_free(&run_dir, size_on_disk(&large(2)) + kilobytes * 1024).is_err());
        let result = save(&run_dir, 2, &large(2));
        fs::remove_file(&filler).unwrap();
        if result.is_ok() {
            break;
        }
        // The one file that follows a complete checkpoint is `latest`: then the new one is found.
        if find_latest(&run_dir).unwrap().step == 2 {
            break;
        }
        assert_nothing_is_lost(&run_dir, result);
        failures += 1;
    }
    save(&run_dir, 2, &large(2)).unwrap();
    assert_eq!(find_latest(&run_dir).unwrap().step, 2);
    println!("failures={failures}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_at_any_point_of_a_save_leaves_the_old_checkpoint_intact() {
    let dir = tempfile::tempdir().unwrap();
    // A mount of its own for the child alone; it goes when the child ends.
    let mount = "mount -t tmpfs -o size=1m none \"$FIREBOX_TEST_DIR\" || exit 77; exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
        .arg(std::env::current_exe().unwrap())
        .args(arguments("child_saves_on_a_disk_that_fills_up"))
        .env(DIR, dir.path())
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(77) && !output.stdout.is_empty() => output,
        other => return println!("skipped: this system lets nobody mount a tmpfs: {other:?}"),
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    let failures = printed.split("failures=").nth(1).unwrap().lines().next().unwrap();
    assert!(failures.parse::<u32>().unwrap() > 20, "{failures}");
}

#[test]
#[ignore = "a child process of the test below"]
fn child_holds_the_lock() {
    let _lock = RunLock::acquire(&dir_of_child()).unwrap();
    println!("\nlocked");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

/// Starts a child that holds the lock, and waits until it does.
fn holder_of(run_dir: &Path) -> Child {
    let mut holder = child("child_holds_the_lock", run_dir).spawn().unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "locked"));
    holder
}

#[test]
fn a_second_process_is_refused_and_a_killed_owner_leaves_no_stale_lock() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 1, &contents(1)).unwrap();
    let unfinished = dir.path().join(".tmp-step-000002-1");
    let mut holder = holder_of(dir.path());
    fs::create_dir(&unfinished).unwrap();
    let error = RunLock::acquire(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    if cfg!(unix) {
        assert!(error.to_string().contains(&holder.id().to_string()), "{error}");
    }
    assert!(unfinished.exists(), "what the owner is writing must not be touched");
    assert_eq!(find_latest(dir.path()).unwrap().step, 1); // reading needs no lock
    holder.kill().unwrap(); // SIGKILL
    holder.wait().unwrap();
    RunLock::acquire(dir.path()).unwrap();
    assert!(!unfinished.exists());
}
