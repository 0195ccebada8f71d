//! Trainings that are killed, interrupted, or find their files damaged end in the same bytes.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use super::*;

/// Three ways to train: with every batch stepped, with the gradients of four batches added, and with
/// recurrent encoders on features that stay in the file.
const TRAININGS: [&str; 3] = [
    "train --data small.npz --seeds 1,2 --epochs 4 --quiet --keep-every 1",
    "train --data small.npz --seeds 3 --epochs 4 --quiet --keep-every 3 --recipe self_mm \
     --set training.batch_size=16",
    "train --data small.npz --seeds 4 --epochs 4 --quiet --keep-every 1 \
     --set data.in_file_above_mib=0 --set modalities.audio.encoder.kind=\"lstm\"",
];

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

/// Both generations are damaged at once, so that a run reads two and trains nothing.
#[test]
fn a_state_damaged_anywhere_is_named_and_nothing_is_taken_away() {
    let place = Place::with_data();
    stopped(&place, LONG);
    let whole: Vec<_> = states(&place)
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    // The line before the safetensors file, its length, its header with the metadata, its arrays.
    let bytes = &whole[0].0;
    let line = bytes.iter().position(|&byte| byte == b'\n').unwrap();
    let length: [u8; 8] = bytes[line + 1..][..8].try_into().unwrap();
    let header = line + 9 + u64::from_le_bytes(length) as usize;
    let arrays = bytes.len() - header;
    assert!(header > 2000 && arrays > 2000);
    let within = |from: usize, to: usize| (0..8).map(move |part| from + (to - from) * part / 8);
    let places = within(0, line)
        .chain(line..line + 9)
        .chain(within(line + 9, header))
        .chain(within(header, bytes.len()))
        .chain([bytes.len() - 1]);
    for (index, at) in places.enumerate() {
        for (bytes, path) in &whole {
            let mut damaged = bytes.clone();
            if index % 4 == 3 {
                damaged.truncate(at);
            } else {
                damaged[at] ^= 1 << (index % 8);
            }
            fs::write(path, damaged).unwrap();
        }
        let before = files(&place.path("run/state"));
        let output = place.run("train --resume run --quiet");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{at}: {said}");
        for name in ["seed-1.a.state", "seed-1.b.state"] {
            let part = format!("{name}: damaged: expected ");
            assert!(said.contains(&part), "{at}: {said}");
        }
        assert!(files(&place.path("run/state")) == before, "{at}");
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
    interrupt(child.id());
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

#[cfg(unix)]
fn interrupt(id: u32) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -INT {id}")])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// One batch of this training takes many seconds.
#[cfg(unix)]
#[test]
fn a_second_ctrl_c_stops_at_once() {
    let place = Place::empty();
    let long = changed(|data| {
        let audio = &mut data.train.features["audio"];
        let (rows, _, width) = audio.values.dim();
        let steps = 2000;
        audio.values = Array3::from_elem((rows, steps, width), 0.5);
        audio.lengths = vec![steps; rows];
    });
    place.write("long.npz", &long);
    let mut child = place
        .command(
            "train --data long.npz --seeds 1 --set training.batch_size=80 --output run --set \
             modalities.audio.encoder={kind=\"lstm\",hidden_size=128,output_size=4,dropout=0.0}",
        )
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let mut wait_for = |part: &str| {
        while !line.contains(part) {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended too early");
        }
    };
    wait_for("parameters");
    // The batch begins a moment later.
    std::thread::sleep(Duration::from_millis(300));
    interrupt(child.id());
    wait_for("Ctrl-C again stops at once");
    interrupt(child.id());
    let status = child.wait().unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(status.code(), Some(130), "{rest}");
    assert_eq!(rest, "", "it does not say that a state is kept");
    assert!(states(&place).is_empty());
}

/// The rate grows from batch to batch. One that is large enough makes the loss explode, one that is not
/// too large does so after an epoch.
#[test]
fn a_run_that_diverges_names_the_batch_and_keeps_its_best_model() {
    let place = Place::with_data();
    let line = "train --data small.npz --seeds 1 --epochs 20 --set training.patience=20 \
                --set training.warm_up=0.9 --set training.clip_gradient_norm=0.0";
    let found = ["1e0", "1e1", "1e2", "1e3", "1e4"]
        .into_iter()
        .find_map(|rate| {
            let run = format!("run-{rate}");
            let output = place.run(&format!(
                "{line} --set heads.learning_rate={rate} --output {run}"
            ));
            let best = format!("{run}/checkpoints/seed-1.safetensors");
            let failed = output.status.code() == Some(1) && place.path(&best).is_file();
            failed.then(|| (run, best, text(&output.stderr)))
        });
    let (run, best, said) =
        found.expect("one of these rates is too large, but not in the first epoch");
    let error = said.lines().find(|line| line.starts_with("error: "));
    for part in [
        "seed 1: the ",
        " in epoch ",
        ", batch ",
        ", expected ",
        "(rows train_",
        &format!("; its best model so far is {best}"),
    ] {
        assert!(
            error.is_some_and(|error| error.contains(part)),
            "{part}: {said}"
        );
    }
    let log = place.read(&format!("{run}/train.log"));
    assert!(log.contains("stopped: seed 1: the "), "{log}");
    let scores = place.succeed(&format!("predict --model {best} --data small.npz"));
    assert_eq!(scores.lines().count(), 40);
}

/// The system keeps a file that is open, whatever its folder says.
#[cfg(unix)]
#[test]
fn a_data_file_that_vanishes_or_shrinks_loses_nothing() {
    let place = Place::with_data();
    let line = format!("{LONG} --set data.in_file_above_mib=0");
    place.succeed(&format!("{line} --output undisturbed"));
    let expected = results(&place.path("undisturbed"));
    let data = place.path("small.npz");
    let whole = fs::read(&data).unwrap();
    let train = |damage: &dyn Fn()| {
        let mut child = place
            .command(&format!("{line} --output run"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_states(&place, &mut child, 1);
        damage();
        child.wait_with_output().unwrap()
    };
    let output = train(&|| fs::remove_file(&data).unwrap());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_equal(&place.path("run"), &expected);

    fs::remove_dir_all(place.path("run")).unwrap();
    fs::write(&data, &whole).unwrap();
    let shrink = || {
        let file = fs::File::options().write(true).open(&data).unwrap();
        file.set_len(1000).unwrap();
    };
    let output = train(&shrink);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "small.npz: expected ",
        " bytes of row ",
        "found the end",
        "go on with --resume",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let error = place.refuse("train --resume run");
    assert!(
        error.contains("small.npz: changed since the training began"),
        "{error}"
    );
    fs::write(&data, &whole).unwrap();
    place.succeed("train --resume run --quiet");
    assert_equal(&place.path("run"), &expected);
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
