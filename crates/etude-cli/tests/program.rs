//! The program from outside: same bits on any number of threads, kill and resume, predictions, and bad input of every kind.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder of the test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("etude-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etude"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder, arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// 7,000 training digits in batches of 140: fifty steps an epoch.
const FIFTY_STEPS: [&str; 7] = ["--json", "--set", "batch=140", "--set", "claim=0", "--set", "patience=99"];

/// The weights of the newest checkpoint.
fn newest_weights(run: &Path) -> Vec<u8> {
    let mut checkpoints: Vec<PathBuf> = std::fs::read_dir(run.join("checkpoints"))
        .expect("the run has checkpoints")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.file_name().is_some_and(|name| name != "best") && path.join("model.safetensors").exists())
        .collect();
    checkpoints.sort();
    std::fs::read(checkpoints.last().expect("one at least").join("model.safetensors")).expect("weights")
}

#[test]
fn fifty_steps_of_lenet_give_the_same_bits_on_1_2_and_5_threads() {
    let scratch = Scratch::new("threads");
    let weights: Vec<Vec<u8>> = ["1", "2", "5"]
        .iter()
        .map(|threads| {
            let out = scratch.0.join(threads);
            let out = out.to_str().expect("a plain path");
            let mut arguments = vec!["run", "lenet", "--set", "epochs=1", "--threads", threads, "--out", out];
            arguments.extend(FIFTY_STEPS);
            let output = run(&scratch.0, &arguments);
            assert!(output.status.success(), "{}", text(&output.stderr));
            newest_weights(&Path::new(out).join("lenet/0001"))
        })
        .collect();
    assert!(weights[0].len() > 4 * 61_706);
    assert!(weights[0] == weights[1] && weights[0] == weights[2], "the weights differ between thread counts");
}

#[test]
fn a_killed_run_resumes_to_the_bits_of_an_unbroken_one() {
    let scratch = Scratch::new("kill");
    let common = ["--set", "epochs=2", "--save-every", "0"];
    let mut whole = vec!["run", "lenet", "--out", "whole"];
    whole.extend(common);
    whole.extend(FIFTY_STEPS);
    let output = run(&scratch.0, &whole);
    assert!(output.status.success(), "{}", text(&output.stderr));

    let mut broken = vec!["run", "lenet", "--out", "broken"];
    broken.extend(common);
    broken.extend(FIFTY_STEPS);
    let mut child = program(&scratch.0, &broken).stdout(Stdio::null()).spawn().expect("the program starts");
    let log = scratch.0.join("broken/lenet/0001/metrics.jsonl");
    let start = Instant::now();
    let lines = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    while lines() < 23 && start.elapsed() < Duration::from_secs(300) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("it still runs"); // SIGKILL
    child.wait().expect("it has ended");
    let stopped = lines();
    assert!((23..50).contains(&stopped), "killed after {stopped} lines, not in the middle of the first epoch");

    let resumed = run(&scratch.0, &["resume", "broken/lenet/0001", "--json"]);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    let (whole, broken) = (scratch.0.join("whole/lenet/0001"), scratch.0.join("broken/lenet/0001"));
    assert!(newest_weights(&whole) == newest_weights(&broken), "the resumed weights differ");
    // Everything logged but the time of day.
    let figures = |run: &Path| -> Vec<_> {
        let records = etude::train::run::read_metrics(run.join("metrics.jsonl")).expect("a log");
        records.into_iter().map(|record| (record.step, record.epoch, record.values)).collect()
    };
    assert_eq!(figures(&whole), figures(&broken), "the logged figures differ");
}

#[test]
fn an_interrupted_run_saves_and_says_how_to_go_on() {
    let scratch = Scratch::new("interrupt");
    let mut child = program(&scratch.0, &["run", "mlp", "--set", "epochs=200", "--set", "patience=200"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let log = scratch.0.join("runs/mlp/0001/metrics.jsonl");
    let start = Instant::now();
    while std::fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 5 {
        assert!(start.elapsed() < Duration::from_secs(120), "training has not begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(signal.success());
    let output = child.wait().expect("it ends by itself");
    assert_eq!(output.code(), Some(130));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut said).expect("text");
    assert!(said.contains("etude resume runs/mlp/0001"), "{said}");
}

/// The digit at `index` of the bundled set as a PNG of its own.
fn digit_png(index: usize) -> (Vec<u8>, i64) {
    let set = etude::data::load("mnist-10k").expect("bundled");
    let one = set.subset(&[index]);
    let picture = etude::train::trainer::to_tensor(&one.inputs).expect("a picture").reshape([28, 28]);
    let png = etude::train::session::picture_of(&picture).expect("a picture").to_png().expect("encodes");
    (png, one.labels[0])
}

#[test]
fn a_trained_run_reads_pictures_of_digits() {
    let scratch = Scratch::new("predict");
    let output = run(&scratch.0, &["run", "mlp", "--quick", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut right = 0;
    for index in 0..10 {
        let (png, label) = digit_png(index);
        std::fs::write(scratch.0.join("digit.png"), png).expect("writable");
        let answer = run(&scratch.0, &["predict", "runs/mlp/0001", "digit.png"]);
        assert!(answer.status.success(), "{}", text(&answer.stderr));
        right += text(&answer.stdout).starts_with(&format!("{label} ")) as usize;
    }
    assert!(right >= 8, "{right} of 10 digits read");
    for name in ["config.toml", "metrics.jsonl", "report.html", "report.json", "media/curves.png", "media/wrong.png"] {
        assert!(scratch.0.join("runs/mlp/0001").join(name).exists(), "{name} is missing");
    }
}

#[test]
fn bad_input_is_one_clear_line_and_a_failure() {
    let scratch = Scratch::new("bad");
    std::fs::write(scratch.0.join("file"), "in the way").expect("writable");
    std::fs::create_dir(scratch.0.join("empty")).expect("writable");
    std::fs::write(scratch.0.join("cut.png"), &digit_png(0).0[..60]).expect("writable");
    let cases: [(&[&str], &str); 12] = [
        (&["run", "lenett"], "did you mean `lenet`?"),
        (&["run", "lenet", "--set", "lerning_rate=0.01"], "did you mean `learning_rate`?"),
        (&["run", "lenet", "--set", "epochs=many"], "epochs"),
        (&["run", "lenet", "--set", "epochs"], "epochs"),
        (&["run", "lenet", "--threads", "0"], "threads"),
        (&["run", "lenet", "--data", "nowhere"], "nowhere"),
        (&["run", "lenet", "--data", "empty"], "empty"),
        (&["run", "lenet", "--out", "file/runs"], "file"),
        (&["resume", "empty"], "empty"),
        (&["predict", "empty", "cut.png"], "empty"),
        (&["data", "info", "mnist"], "mnist"),
        (&["show", "nothing"], "there is no étude `nothing`"),
    ];
    for (arguments, expected) in cases {
        let output = run(&scratch.0, arguments);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} should fail");
        assert!(said.contains(expected), "{arguments:?} says: {said}");
        assert!(!said.contains("panicked"), "{arguments:?} panicked: {said}");
    }
    let output = run(&scratch.0, &["run", "mlp", "--quick", "--json", "--set", "epochs=1", "--set", "claim=0"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = run(&scratch.0, &["predict", "runs/mlp/0001", "cut.png"]);
    assert!(!output.status.success() && text(&output.stderr).contains("cut.png"), "{}", text(&output.stderr));
}

#[test]
fn lists_and_tables() {
    let scratch = Scratch::new("lists");
    let list = text(&run(&scratch.0, &["list"]).stdout);
    for name in ["lenet", "mlp", "backprop", "tape", "gradcheck", "summary", "seeds", "linear", "logistic", "softmax"] {
        assert!(list.lines().any(|line| line.starts_with(name)), "{name} is not in\n{list}");
    }
    let show = text(&run(&scratch.0, &["show", "lenet"]).stdout);
    assert!(show.contains("learning_rate") && show.contains("LeCun"), "{show}");
    // An étude of several files lists them, and shows them one after another.
    let show = text(&run(&scratch.0, &["show", "ddpm"]).stdout);
    assert!(show.contains("  generative/ddpm/way.rs") && show.contains("   The way back\n"), "{show}");
    let source = text(&run(&scratch.0, &["show", "ddpm", "--source"]).stdout);
    for part in ["impl Etude for Ddpm", "// crates/etude-studies/src/generative/ddpm/unet.rs\n", "pub struct UNet"] {
        assert!(source.contains(part), "{part} is not in the source of ddpm");
    }
    let summary = text(&run(&scratch.0, &["summary", "summary"]).stdout);
    for number in ["21,248", "5,246,976", "85,075", "5,353,299", "20.42 MB"] {
        assert!(summary.contains(number), "{number} is not in\n{summary}");
    }
    assert!(text(&run(&scratch.0, &["data", "list"]).stdout).contains("mnist-10k"));
    assert!(text(&run(&scratch.0, &["data", "info", "iris"]).stdout).contains("150"));
}

#[test]
fn the_page_of_all_etudes_is_current() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/etudes.md");
    let said = text(&run(&std::env::temp_dir(), &["list", "--page", page.to_str().expect("a plain path")]).stdout);
    let written = std::fs::read_to_string(&page).expect("the page");
    assert!(
        said == written,
        "write it anew: etude list --page docs/etudes.md > new.md; mv new.md docs/etudes.md\n{said}"
    );
}

#[test]
fn results_on_the_page_come_from_runs_and_stay() {
    let scratch = Scratch::new("page");
    let page =
        |arguments: &[&str]| text(&run(&scratch.0, &[&["list", "--page", "etudes.md"], arguments].concat()).stdout);
    let row = |page: &str| page.lines().find(|line| line.starts_with("| [seeds]")).expect("a row").to_string();
    assert!(row(&page(&[])).contains("not run yet"));
    assert!(run(&scratch.0, &["run", "seeds"]).status.success());
    let with = page(&["--runs", "runs"]);
    assert!(row(&with).contains("with another seed ≥ 90.0 %: 100.0 % | "), "{}", row(&with));
    std::fs::write(scratch.0.join("etudes.md"), &with).expect("writable");
    assert_eq!(page(&[]), with, "without runs the page stays as it is");
}
