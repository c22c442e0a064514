//! Run folders from outside: created side by side, locked, killed, resumed, finished.

use etude_train::plot::{Chart, Picture};
use etude_train::run::{self, Run, RunFolder, State, Status};
use etude_train::{Claim, Figure, Report};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("etude-run-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A stand-in for training: the "weights" after a step depend on all steps before it.
fn work(weights: u64, step: u64) -> u64 {
    (weights ^ step).wrapping_mul(6_364_136_223_846_793_005).rotate_left(17)
}

fn train(run: &mut Run, state: &mut State, weights: &mut u64, until: u64, save_every: u64) {
    while state.step < until {
        state.step += 1;
        *weights = work(*weights, state.step);
        run.log(state.step, 1, &[("train/loss", *weights as f64 / u64::MAX as f64)]).unwrap();
        if state.step.is_multiple_of(save_every) {
            run.save_checkpoint(state, &[("model.safetensors", &weights.to_le_bytes())]).unwrap();
        }
    }
}

fn losses(folder: &RunFolder) -> Vec<(u64, Vec<(String, f64)>)> {
    folder.metrics().unwrap().into_iter().map(|record| (record.step, record.values)).collect()
}

#[test]
fn many_at_once_get_numbers_of_their_own() {
    let scratch = Scratch::new("many");
    let make = || Run::create(&scratch.0, "lenet", "epochs = 1\n", 1, false).unwrap().folder().about().number;
    let numbers: BTreeSet<u32> = std::thread::scope(|s| {
        (0..16).map(|_| s.spawn(make)).collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(numbers, (1..=16).collect());
    assert_eq!(run::runs(&scratch.0).len(), 16);
    assert!(scratch.0.join("lenet/0016/run.json").exists());
}

#[test]
fn a_run_has_one_writer() {
    let scratch = Scratch::new("lock");
    let first = Run::create(&scratch.0, "lenet", "", 1, false).unwrap();
    let path = first.path().to_path_buf();
    let error = Run::resume(&path).unwrap_err().to_string();
    assert!(error.ends_with("another process is writing this run; wait for it or stop it first"), "{error}");
    drop(first);
    assert!(Run::resume(&path).is_ok());
}

#[test]
fn resumed_equals_unbroken() {
    let scratch = Scratch::new("resume");
    let (mut unbroken, mut state, mut weights) =
        (Run::create(&scratch.0, "a", "", 1, false).unwrap(), State::new(1), 7);
    train(&mut unbroken, &mut state, &mut weights, 50, 10);

    let mut broken = Run::create(&scratch.0, "b", "", 1, false).unwrap();
    let (mut other, mut lost) = (State::new(1), 7);
    train(&mut broken, &mut other, &mut lost, 27, 10);
    let path = broken.path().to_path_buf();
    drop(broken);
    // As after kill -9: a torn line, half a checkpoint.
    let metrics = path.join("metrics.jsonl");
    let mut bytes = fs::read(&metrics).unwrap();
    bytes.extend(b"{\"step\":28,\"ep");
    fs::write(&metrics, bytes).unwrap();
    fs::create_dir(path.join("checkpoints/.tmp-1-2-step-00000030")).unwrap();

    let (mut resumed, found) = Run::resume(&path).unwrap();
    let (mut state_again, checkpoint) = found.unwrap();
    assert_eq!(state_again.step, 20);
    let bytes = checkpoint.read("model.safetensors").unwrap();
    let mut weights_again = u64::from_le_bytes(bytes.try_into().unwrap());
    train(&mut resumed, &mut state_again, &mut weights_again, 50, 10);
    assert_eq!((weights_again, state_again.step), (weights, state.step));
    assert_eq!(losses(resumed.folder()), losses(unbroken.folder()));
    assert!(!path.join("checkpoints/.tmp-1-2-step-00000030").exists());
    assert_eq!(fs::read_dir(path.join("checkpoints")).unwrap().count(), 3);
}

#[test]
fn a_run_without_checkpoint_starts_again() {
    let scratch = Scratch::new("again");
    let mut run = Run::create(&scratch.0, "a", "", 1, false).unwrap();
    run.log(1, 1, &[("loss", 1.0)]).unwrap();
    let path = run.path().to_path_buf();
    drop(run);
    let (run, found) = Run::resume(&path).unwrap();
    assert!(found.is_none() && run.folder().metrics().unwrap().is_empty());
}

/// A real kill: this test starts itself as a process that trains for ever, and kills it with no warning.
#[test]
fn killed_process_can_be_resumed() {
    if let Some(root) = std::env::var_os("ETUDE_TEST_TRAIN_FOR_EVER") {
        let mut run = Run::create(root, "killed", "", 1, false).unwrap();
        let (mut state, mut weights) = (State::new(1), 7);
        train(&mut run, &mut state, &mut weights, u64::MAX, 3);
        return;
    }
    let scratch = Scratch::new("killed");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed_process_can_be_resumed", "--nocapture"])
        .env("ETUDE_TEST_TRAIN_FOR_EVER", &scratch.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let path = scratch.0.join("killed/0001");
    for _ in 0..2000 {
        let saved = RunFolder::open(&path).ok().and_then(|folder| folder.latest_checkpoint().ok().flatten());
        if saved.is_some_and(|checkpoint| checkpoint.state().is_ok_and(|state| state.step >= 30)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let (run, found) = Run::resume(&path).unwrap();
    let (state, checkpoint) = found.expect("it had saved");
    let expected = (1..=state.step).fold(7, work);
    assert_eq!(checkpoint.read("model.safetensors").unwrap(), expected.to_le_bytes());
    assert!(state.step >= 30);
    assert_eq!(losses(run.folder()).len() as u64, state.step);
}

#[test]
fn finished_run_explains_itself() {
    let scratch = Scratch::new("finish");
    let mut run = Run::create(&scratch.0, "lenet", "# <b>\nepochs = 2\n", 3, true).unwrap();
    for step in 1..=20 {
        let loss = 1.0 / step as f64;
        run.log(step, 1, &[("train/loss", loss), ("valid/loss", loss * 1.1), ("rate", 1e-3)]).unwrap();
    }
    run.media("curves.png", &Chart::new("c").line("a", [0.0, 1.0], [1.0, 2.0]).to_png().unwrap()).unwrap();
    run.media("sample.txt", b"a <sample>").unwrap();
    assert!(run.media("../escape.png", b"").is_err());
    assert!(run.media(".hidden", b"").is_err());
    let mut report = Report::new();
    report
        .figures("test", [Figure::percent("accuracy", 0.985)])
        .claim(Claim::at_least("accuracy", 0.985, 0.98).percent())
        .claim(Claim::at_most("loss", f64::NAN, 0.1));
    let folder = run.finish(&mut report).unwrap();

    assert_eq!(report.media, ["report.html", "media/curves.png", "media/sample.txt"]);
    assert_eq!(folder.about().status, Status::Finished);
    let again = RunFolder::open(folder.path()).unwrap();
    assert_eq!(again.about().status, Status::Finished);
    assert_eq!(again.report().unwrap().unwrap().claims[0], report.claims[0]);
    assert_eq!(again.media(), ["curves.png", "sample.txt"]);
    assert_eq!(again.config().unwrap(), "# <b>\nepochs = 2\n");
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    for part in [
        "accuracy ≥ 98.0 %",
        "98.5 %",
        "data:image/png;base64,iVBOR",
        "a &lt;sample&gt;",
        "# &lt;b&gt;",
        "<svg",
        "broken: NaN",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for outside in ["http:", "https:", "src=\"/", "//", "<script", "url("] {
        let without_data: String =
            page.split("base64,").map(|piece| piece.split_once('"').map_or(piece, |p| p.1)).collect();
        assert!(!without_data.contains(outside), "{outside}");
    }
    assert!(
        !fs::read_dir(folder.path()).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with(".tmp"))
    );
}

#[test]
fn what_is_not_a_run_is_explained() {
    let scratch = Scratch::new("foreign");
    let open = |path: PathBuf| RunFolder::open(path).unwrap_err().to_string();
    assert!(open(scratch.0.join("absent")).ends_with("no such run; etude runs lists the runs"));
    assert!(open(scratch.0.clone()).contains("not a run folder: it has no run.json"));
    fs::write(scratch.0.join("run.json"), "{\"version\": 1").unwrap();
    assert!(open(scratch.0.clone()).contains("run.json: damaged"));
    let file = scratch.0.join("file");
    fs::write(&file, "").unwrap();
    let error = Run::create(&file, "lenet", "", 1, false).unwrap_err().to_string();
    assert!(error.contains("cannot make the folder") && !error.contains('\n'), "{error}");
    assert!(Run::create(&scratch.0, "../up", "", 1, false).is_err());
    assert!(Picture::open(&file).unwrap_err().to_string().contains("not a PNG picture"));
}

/// A full disk in the middle of a run: the checkpoint before it stays, the error is one line.
#[cfg(target_os = "linux")]
#[test]
fn file_size_limit_stands_in_for_a_full_disk() {
    if let Some(root) = std::env::var_os("ETUDE_TEST_SMALL_DISK") {
        let run = Run::create(root, "full", "", 1, false).unwrap();
        let mut state = State::new(1);
        state.step = 1;
        run.save_checkpoint(&state, &[("model.safetensors", b"small")]).unwrap();
        state.step = 2;
        let error = run.save_checkpoint(&state, &[("model.safetensors", &vec![0; 1 << 20])]).unwrap_err().to_string();
        assert!(
            error.contains("step-00000002/model.safetensors: cannot write the checkpoint") && !error.contains('\n'),
            "{error}"
        );
        let latest = run.folder().latest_checkpoint().unwrap().unwrap();
        assert_eq!(latest.read("model.safetensors").unwrap(), b"small");
        assert_eq!(fs::read_dir(run.path().join("checkpoints")).unwrap().count(), 1);
        return;
    }
    let scratch = Scratch::new("full");
    // Files over 256 kB fail to grow; the signal that would end the process is ignored, so writes return an error.
    let script = "trap '' XFSZ; ulimit -f 256; exec \"$0\" --exact file_size_limit_stands_in_for_a_full_disk";
    let status = Command::new("bash")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("ETUDE_TEST_SMALL_DISK", &scratch.0)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}
