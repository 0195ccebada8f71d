//! Trainings that are killed, interrupted, or find their files damaged end in the same bytes.

use std::process::Child;
use std::time::{Duration, Instant};

use super::*;

/// Two ways to train: with every batch stepped, and with the gradients of four batches added.
const TRAININGS: [&str; 2] = [
    "train --data small.npz --seeds 1,2 --epochs 4 --quiet --keep-every 1",
    "train --data small.npz --seeds 3 --epochs 4 --quiet --keep-every 3 --recipe self_mm \
     --set training.batch_size=16",
];

/// Everything but the log.
fn results(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files(folder);
    assert!(files.remove(Path::new("train.log")).is_some());
    files
}

fn assert_equal(found: &Path, expected: &BTreeMap<PathBuf, Vec<u8>>) {
    let found = results(found);
    assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
    for (name, bytes) in &found {
        assert!(expected[name] == *bytes, "{} differs", name.display());
    }
}

/// A training in the folder `run`, stopped as soon as two states of it are kept.
pub(super) fn stopped(place: &Place, line: &str) {
    let mut child = place
        .command(&format!("{line} --output run"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_states(place, &mut child, 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.path("run/metrics.json").exists());
}

pub(super) fn states(place: &Place) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(place.path("run/state"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "state"))
        .collect();
    found.sort();
    found
}

fn wait_for_states(place: &Place, child: &mut Child, count: usize) {
    let begun = Instant::now();
    while states(place).len() < count {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A training that lasts long enough to be stopped on the way.
pub(super) const LONG: &str = "train --data small.npz --seeds 1 --epochs 40 --set training.patience=40 --quiet \
                    --keep-every 1";

/// What [`LONG`] ends in when nothing happens to it.
fn undisturbed(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    place.succeed(&format!("{LONG} --output undisturbed"));
    results(&place.path("undisturbed"))
}

/// `MODALIGN_KILLS` says how many; 10 by default. The moments follow the golden ratio, so that they
/// cover the whole of a training, start and end included.
#[test]
fn a_killed_training_resumes_to_the_same_bytes() {
    let wanted: usize = std::env::var("MODALIGN_KILLS").map_or(10, |count| {
        count.parse().expect("MODALIGN_KILLS is a number")
    });
    let place = Place::with_data();
    let undisturbed: Vec<_> = TRAININGS
        .iter()
        .enumerate()
        .map(|(index, line)| {
            let begun = Instant::now();
            let name = format!("undisturbed-{index}");
            place.succeed(&format!("{line} --output {name}"));
            (begun.elapsed(), results(&place.path(&name)))
        })
        .collect();
    let (mut kills, mut resumed, mut trainings) = (0_usize, 0_usize, 0_usize);
    while kills < wanted || place.path("run").exists() {
        let (duration, expected) = &undisturbed[trainings % TRAININGS.len()];
        let begun = place.path("run/state/run.json").is_file();
        let ended = place.path("run/metrics.json").is_file();
        let line = if begun || ended {
            resumed += 1;
            "train --resume run --quiet --keep-every 1".to_owned()
        } else {
            // Killed before there was anything to go on from.
            let _ = fs::remove_dir_all(place.path("run"));
            format!("{} --output run", TRAININGS[trainings % TRAININGS.len()])
        };
        let mut child = place
            .command(&line)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if kills < wanted {
            let part = (kills as f64 * 0.618_033_988_75).fract();
            std::thread::sleep(duration.mul_f64(part));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                kills += 1;
                child.wait().unwrap();
                continue;
            }
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        assert_equal(&place.path("run"), expected);
        fs::remove_dir_all(place.path("run")).unwrap();
        trainings += 1;
    }
    assert!(resumed > 0 && trainings > 0);
    println!("{kills} kills, {resumed} resumes, {trainings} trainings to the end, all equal");
}

#[test]
fn a_damaged_generation_is_named_and_the_other_one_is_taken() {
    let place = Place::with_data();
    let expected = undisturbed(&place);
    stopped(&place, LONG);
    let kept = states(&place);
    assert_eq!(kept.len(), 2);
    let whole: Vec<_> = kept.iter().map(|path| fs::read(path).unwrap()).collect();
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_owned();
        bytes[at] ^= 1;
        bytes
    };
    let copy = files(&place.path("run"));
    for (index, damage) in [
        (0, whole[0][..whole[0].len() / 2].to_owned()),
        (1, whole[1][..40].to_owned()),
        (0, flipped(&whole[0], whole[0].len() - 9)),
        (1, flipped(&whole[1], 30)),
        (1, Vec::new()),
    ] {
        fs::remove_dir_all(place.path("run")).unwrap();
        for (name, bytes) in &copy {
            let path = place.path("run").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        fs::write(&kept[index], damage).unwrap();
        let output = place.run("train --resume run");
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        let name = kept[index].file_name().unwrap().to_str().unwrap();
        assert!(
            said.contains(&format!("{name}: damaged: expected"))
                && said.contains("going on from the generation before it"),
            "{said}"
        );
        assert_equal(&place.path("run"), &expected);
    }
}

#[test]
fn a_resume_with_other_data_or_another_configuration_is_refused_by_name() {
    let place = Place::with_data();
    stopped(&place, LONG);
    for (line, expected) in [
        ("train --resume run --epochs 3", "'--epochs <N>'"),
        ("train --resume absent", "absent: No such file"),
    ] {
        let error = place.refuse(line);
        assert!(error.contains(expected), "{error}");
    }
    let config = place.read("run/config.toml");
    place.write_text("run/config.toml", &format!("{config}\n# changed\n"));
    let error = place.refuse("train --resume run");
    assert!(error.contains("run/config.toml: changed since the training began"));
    place.write_text("run/config.toml", &config);

    place.write("other.npz", &changed(|data| data.train.labels[0] = 0.25));
    let error = place.refuse("train --resume run --data other.npz");
    assert!(error.contains("other.npz: changed since the training began: expected"));
    fs::rename(place.path("small.npz"), place.path("moved.npz")).unwrap();
    let error = place.refuse("train --resume run");
    assert!(error.contains("small.npz: No such file"), "{error}");

    let kept = states(&place);
    for path in &kept {
        let mut bytes = fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let output = place.run("train --resume run --data moved.npz --quiet");
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("expected one undamaged generation, found none"));
    assert_eq!(states(&place), kept, "nothing is taken away");
    for path in kept {
        fs::remove_file(path).unwrap();
    }
    place.succeed("train --resume run --data moved.npz --quiet");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_state_and_says_how_to_go_on() {
    let place = Place::with_data();
    let expected = undisturbed(&place);
    let mut child = place
        .command(&format!("{LONG} --output run"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_states(&place, &mut child, 1);
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -INT {}", child.id())])
        .status()
        .unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("Ctrl-C again stops at once"), "{said}");
    assert!(
        said.contains("go on with: modalign train --resume run"),
        "{said}"
    );
    place.succeed("train --resume run --quiet --threads 1");
    assert_equal(&place.path("run"), &expected);
    let again = place.succeed("train --resume run");
    assert!(again.contains("this training has ended"), "{again}");
}

#[test]
fn a_cross_validation_goes_on_too() {
    let place = Place::with_data();
    let line = "train --data small.npz --seeds 1 --epochs 20 --folds 3 --quiet";
    place.succeed(&format!("{line} --output undisturbed"));
    stopped(&place, line);
    place.succeed("train --resume run --quiet");
    assert_equal(&place.path("run"), &results(&place.path("undisturbed")));
}

/// The limit on the size of a file stands for a full disk: states are larger than it, everything
/// before them is smaller.
#[cfg(unix)]
#[test]
fn a_full_disk_is_named_and_the_last_state_stays() {
    let place = Place::with_data();
    let expected = undisturbed(&place);
    stopped(&place, LONG);
    let kept: Vec<_> = states(&place)
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    let program = env!("CARGO_BIN_EXE_modalign");
    // Ignored, the signal of the limit becomes an error of the write.
    let script = format!("trap '' XFSZ; ulimit -f 16; exec '{program}' train --resume run --quiet");
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(place.0.path())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the state of seed 1 cannot be kept: File too large"),
        "{said}"
    );
    assert!(said.contains("go on with --resume"), "{said}");
    for (bytes, path) in kept {
        assert!(fs::read(path).unwrap() == bytes, "a kept state has changed");
    }
    place.succeed("train --resume run --quiet");
    assert_equal(&place.path("run"), &expected);
}
