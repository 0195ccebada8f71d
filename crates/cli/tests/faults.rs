//! Full disks and read-only folders, as the file systems of a mount namespace that ends with the
//! tests. They are listed as ignored where the system lets nobody mount.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "cli/place.rs"]
mod place;

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};

use place::*;

/// Set for the process inside the namespace.
const INSIDE: &str = "MODALIGN_TEST_NAMESPACE";

const TESTS: [(&str, fn()); 7] = [
    (
        "a_disk_that_fills_up_is_named_and_the_last_state_stays",
        a_disk_that_fills_up_is_named_and_the_last_state_stays,
    ),
    (
        "a_disk_without_room_for_the_results_loses_nothing",
        a_disk_without_room_for_the_results_loses_nothing,
    ),
    (
        "a_full_disk_leaves_no_run_folder",
        a_full_disk_leaves_no_run_folder,
    ),
    (
        "a_full_disk_leaves_no_part_of_an_archive",
        a_full_disk_leaves_no_part_of_an_archive,
    ),
    (
        "a_full_disk_leaves_no_part_of_the_predictions",
        a_full_disk_leaves_no_part_of_the_predictions,
    ),
    (
        "a_read_only_folder_is_named_and_stays_as_it_was",
        a_read_only_folder_is_named_and_stays_as_it_was,
    ),
    (
        "results_in_a_read_only_folder_can_be_written_later",
        results_in_a_read_only_folder_can_be_written_later,
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let inside = env::var_os(INSIDE).is_some();
    if !inside && let Some(mut namespace) = namespace() {
        let status = namespace
            .arg(env::current_exe().unwrap())
            .args(env::args_os().skip(1))
            .env(INSIDE, "1")
            .status()
            .unwrap();
        return match status.success() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        };
    }
    let trials = TESTS.map(|(name, test)| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(!inside)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// How to run a program that may mount, as any user or as root.
fn namespace() -> Option<Command> {
    let ways: [&[&str]; 2] = [&["--map-root-user", "--mount"], &["--mount"]];
    let command = |way: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(way);
        command
    };
    let folder = tempfile::tempdir().unwrap();
    let works = |way: &&&[&str]| {
        command(way)
            .args(["mount", "-t", "tmpfs", "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    ways.iter().find(works).map(|way| command(way))
}

/// Something mounted, until it is dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(path: &Path, arguments: &[&str]) -> Self {
        let status = Command::new("mount").args(arguments).arg(path).status();
        assert!(status.unwrap().success());
        Self(path.to_owned())
    }

    /// The folder as it is, but nobody can write to it.
    fn read_only(path: &Path) -> Self {
        let mount = Self::new(path, &["--bind", path.to_str().unwrap()]);
        let again = ["-o", "remount,bind,ro"];
        let status = Command::new("mount").args(again).arg(path).status();
        assert!(status.unwrap().success());
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        assert!(status.unwrap().success());
    }
}

/// A disk of 64 MiB with a folder to run the program in, `small.npz` in it.
struct Disk {
    place: Place,
    // Dropped in this order: the disk is in the folder.
    mount: Mount,
    _folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Mount::new(folder.path(), &["-t", "tmpfs", "-o", "size=64m", "tmpfs"]);
        let place = Place(tempfile::tempdir_in(folder.path()).unwrap());
        place.write("small.npz", &small());
        Self {
            place,
            mount,
            _folder: folder,
        }
    }

    fn filler(&self) -> PathBuf {
        self.mount.0.join("filler")
    }

    /// Leaves room for so many bytes.
    fn fill(&self, room: u64) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
        let length = filler.metadata().unwrap().len();
        filler.set_len(length.saturating_sub(room)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

/// Runs, wants exit code 1 and one error without a panic, and gives the error back.
fn fail(place: &Place, line: &str) -> String {
    let output = place.run(line);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}: {said}");
    assert!(!said.contains("panicked"), "{line}: {said}");
    let mut errors = said.lines().filter(|line| line.starts_with("error: "));
    let first = errors.next().unwrap_or_default().to_owned();
    assert!(!first.is_empty() && errors.next().is_none(), "{said}");
    first
}

const FULL: &str = "No space left on device";

fn a_disk_that_fills_up_is_named_and_the_last_state_stays() {
    let disk = Disk::new();
    let place = &disk.place;
    let expected = undisturbed(place);
    stopped(place, LONG);
    let kept: Vec<_> = states(place)
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    disk.fill(8192);
    let error = fail(place, "train --resume run --quiet");
    for part in ["the state of seed 1 cannot be kept", FULL, "--resume"] {
        assert!(error.contains(part), "{error}");
    }
    let names = states(place);
    assert!(names.iter().eq(kept.iter().map(|(_, path)| path)));
    for (bytes, path) in kept {
        assert!(fs::read(path).unwrap() == bytes, "a kept state has changed");
    }
    disk.free();
    place.succeed("train --resume run --quiet");
    assert_equal(&place.path("run"), &expected);
}

fn a_disk_without_room_for_the_results_loses_nothing() {
    results_are_written_later(FULL, |path| {
        Mount::new(path, &["-t", "tmpfs", "-o", "size=4k", "tmpfs"])
    });
}

fn a_full_disk_leaves_no_run_folder() {
    let disk = Disk::new();
    disk.fill(0);
    let error = fail(&disk.place, "train --data small.npz --output run");
    assert!(error.contains("run/config.toml: "), "{error}");
    assert!(error.contains(FULL), "{error}");
    assert!(!disk.place.path("run").exists());
}

fn a_full_disk_leaves_no_part_of_an_archive() {
    let disk = Disk::new();
    let before = files(disk.place.0.path());
    disk.fill(8192);
    let error = fail(&disk.place, "convert small.npz new.npz");
    assert!(
        error.contains("new.npz: ") && error.contains(FULL),
        "{error}"
    );
    assert!(files(disk.place.0.path()) == before);
}

fn a_full_disk_leaves_no_part_of_the_predictions() {
    let disk = Disk::new();
    let place = &disk.place;
    place.succeed("train --data small.npz --seeds 1 --epochs 1 --quiet --output run");
    let before = files(place.0.path());
    disk.fill(4096);
    let line = "predict --model run --data small.npz";
    let error = fail(place, &format!("{line} --output scores.jsonl"));
    assert!(error.contains("scores.jsonl: "), "{error}");
    assert!(error.contains(FULL), "{error}");
    assert!(files(place.0.path()) == before);

    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(line).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.starts_with("error: standard output: "), "{error}");
    assert!(error.contains(FULL), "{error}");
}

fn a_read_only_folder_is_named_and_stays_as_it_was() {
    let place = Place::with_data();
    let expected = undisturbed(&place);
    stopped(&place, LONG);
    let before = files(place.0.path());
    let mount = Mount::read_only(place.0.path());
    for (line, name) in [
        ("train --data small.npz --output new", "new"),
        ("train --data small.npz", "runs/small-1"),
        ("train --resume run --quiet", "run/train.log"),
        ("convert small.npz new.npz", "new.npz"),
        (
            "predict --model undisturbed --data small.npz --output scores.jsonl",
            "scores.jsonl",
        ),
    ] {
        let error = fail(&place, line);
        let expected = format!("error: {name}: Read-only file system");
        assert!(error.starts_with(&expected), "{line}: {error}");
    }
    assert!(files(place.0.path()) == before);
    drop(mount);
    place.succeed("train --resume run --quiet");
    assert_equal(&place.path("run"), &expected);
}

fn results_in_a_read_only_folder_can_be_written_later() {
    results_are_written_later("Read-only file system", Mount::read_only);
}

/// A training that has ended but whose models cannot be written keeps its states.
fn results_are_written_later(reason: &str, mount: impl Fn(&Path) -> Mount) {
    let place = Place::with_data();
    let expected = undisturbed(&place);
    stopped(&place, LONG);
    let checkpoints = place.path("run/checkpoints");
    fs::create_dir(&checkpoints).unwrap();
    let mounted = mount(&checkpoints);
    let error = fail(&place, "train --resume run --quiet");
    let named = format!("run/checkpoints/seed-1.safetensors: {reason}");
    assert!(error.contains(&named), "{error}");
    assert!(error.contains("go on with --resume"), "{error}");
    assert!(
        !place.path("run/metrics.json").exists(),
        "it is written last"
    );
    assert_eq!(states(&place).len(), 2);
    drop(mounted);
    place.succeed("train --resume run --quiet");
    assert_equal(&place.path("run"), &expected);
}
