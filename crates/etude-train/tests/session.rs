//! The loop from outside: two optimisers, a value, an average and two loops in a row, killed and resumed; Ctrl-C; memory.

use etude_core::{Tensor, randn, tensor};
use etude_data::{Array, Dataset, Loader, Sample, Source, Values};
use etude_nn::optim::{Adam, Average, RmsProp};
use etude_nn::{Forward, Linear, Module, Param};
use etude_train::run::{Run, RunFolder};
use etude_train::{Result, Session, interrupt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("etude-session-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Points on a slanted ellipse, 30 of them, so that the last batch of 8 is a smaller one.
fn points() -> Dataset {
    let values = (0..30).flat_map(|i| {
        let angle = i as f32 / 30.0 * std::f32::consts::TAU;
        [2.0 * angle.cos(), angle.sin() + angle.cos()]
    });
    let inputs = Array::new([30, 2], Values::F32(values.collect())).unwrap();
    Dataset::new("points", inputs, vec![0; 30], vec!["all".into()]).unwrap()
}

const EPOCHS: u64 = 6;
const BATCHES: u64 = 4;
const STEPS: u64 = 9;

/// A toy of every kind: a generator against a critic, then an optimised input that sees the trained critic. `stop_at`
/// leaves with an error in the middle of that step, as a kill does.
fn toy(session: &Session, stop_at: u64) -> Result<Vec<f32>> {
    let (generator, critic) = (Linear::new(3, 2).init(), Linear::new(2, 1).init());
    let mut average = Average::new(&generator, 0.9);
    let mut g_step = Adam::new(0.02).over(&generator);
    let mut c_step = RmsProp::new(0.01).over(&critic);
    let fixed = randn([4, 3]);
    session.keep("generator", &generator);
    session.keep("critic", &critic);
    session.keep("average", &average);
    session.keep("generator_step", &g_step);
    session.keep("critic_step", &c_step);
    let seen = session.value("seen", (0u64, Vec::<f32>::new()));
    for batch in session.batches(&points(), 8, EPOCHS) {
        let batch = batch?;
        let fake = generator.forward(&randn([batch.inputs.shape()[0], 3]));
        let c_loss = critic.forward(&fake.detach()).mean(..) - critic.forward(&batch.inputs).mean(..);
        let c_loss = c_loss + critic.parameters().iter().map(|(_, p)| p.value().square().sum(..)).sum::<Tensor>();
        c_step.minimise(&c_loss)?;
        let g_loss = -critic.forward(&fake).mean(..);
        g_step.minimise(&g_loss)?;
        average.update(&generator)?;
        seen.borrow_mut().0 += batch.indices.iter().sum::<usize>() as u64;
        seen.borrow_mut().1.push(c_loss.item() as f32);
        session.log(&[("critic", &c_loss), ("generator", &g_loss)])?;
        if batch.last {
            session.record(&[("epoch/critic", session.mean("critic")), ("epoch/noise", randn(1).item())])?;
        }
        session.every(5, |media| media.text("fixed", &format!("{:?}", generator.forward(&fixed).to_vec::<f32>())))?;
        stop(session, stop_at)?;
    }
    let picture = Param::new(randn([1, 2]));
    let mut p_step = Adam::new(0.1).over(&picture);
    session.keep("picture", &picture);
    session.keep("picture_step", &p_step);
    for step in session.steps(STEPS) {
        let step = step?;
        let loss = critic.forward(&(picture.value() + randn([1, 2]) * 0.1)).square().sum(..);
        p_step.minimise(&loss)?;
        session.log(&[("picture", &loss)])?;
        stop(session, stop_at)?;
        if step == STEPS - 2 {
            break;
        }
    }
    session.record(&[("after", randn(1).item())])?;
    let mut end: Vec<f32> = picture.value().to_vec();
    for module in [&generator, &average.model] {
        end.extend(module.tensors().iter().flat_map(|(_, tensor)| tensor.to_vec::<f32>()));
    }
    end.extend(critic.forward(&tensor(vec![1.0, 2.0]).reshape([1, 2])).to_vec::<f32>());
    end.extend(&seen.borrow().1);
    end.extend([seen.borrow().0 as f32, average.updates() as f32, g_step.steps() as f32, randn(1).item() as f32]);
    Ok(end)
}

fn stop(session: &Session, at: u64) -> Result<()> {
    if session.step() == at { Err(etude_train::Error::new("killed")) } else { Ok(()) }
}

/// Everything logged but the time of day.
fn logged(path: &Path) -> Vec<(u64, u64, Vec<(String, f64)>)> {
    let records = RunFolder::open(path).unwrap().metrics().unwrap();
    records.into_iter().map(|record| (record.step, record.epoch, record.values)).collect()
}

fn session(run: Run, restored: Option<(etude_train::State, etude_train::run::Checkpoint)>, save: u64) -> Session {
    Session::new(run, restored, 11).quiet(true).save_every(Duration::from_secs(save))
}

#[test]
fn killed_at_any_step_and_resumed_gives_the_bits_of_an_unbroken_run() {
    let scratch = Scratch::new("kill");
    let whole = session(Run::create(&scratch.0, "whole", "", 11, false).unwrap(), None, 0);
    let expected = toy(&whole, u64::MAX).unwrap();
    let path = whole.path().to_path_buf();
    drop(whole);
    let expected_log = logged(&path);
    assert_eq!(expected_log.len() as u64, EPOCHS * BATCHES + EPOCHS + STEPS - 1 + 1);
    let text = std::fs::read(path.join("media/fixed.txt")).unwrap();

    // In the middle and at both ends of epochs and loops. Every step is saved, or only the end of a loop; killed a second
    // time six steps later.
    for (stop_at, saves) in [(1, 0..1), (8, 0..2), (24, 0..1), (25, 1..2), (29, 0..2)] {
        for save in saves.map(|save| save * 1000) {
            let run = Run::create(&scratch.0, "broken", "", 11, false).unwrap();
            let path = run.path().to_path_buf();
            assert!(toy(&session(run, None, save), stop_at).is_err());
            for stop_again in [stop_at + 6, u64::MAX] {
                let (run, restored) = Run::resume(&path).unwrap();
                let saved = restored.as_ref().map_or(0, |(state, _)| state.step);
                let first_loop = if stop_at > EPOCHS * BATCHES { EPOCHS * BATCHES } else { 0 };
                let exact = if save == 0 { stop_at - 1 } else { first_loop };
                assert!(saved >= exact, "step {stop_at}: saved at {saved}");
                match toy(&session(run, restored, save), stop_again) {
                    Ok(found) => {
                        assert_eq!(found, expected, "killed at step {stop_at} (saving every {save} s)");
                        assert_eq!(logged(&path), expected_log, "killed at step {stop_at} (saving every {save} s)");
                        assert_eq!(std::fs::read(path.join("media/fixed.txt")).unwrap(), text);
                    }
                    Err(error) => assert!(error.to_string() == "killed", "{error}"),
                }
            }
        }
    }
}

#[test]
fn a_changed_study_is_told_what_the_checkpoint_lacks() {
    let scratch = Scratch::new("lacks");
    let one = |session: &Session, name: &str| -> Result<()> {
        let weight = Param::new(tensor(1.0));
        session.keep(name, &weight);
        for step in session.steps(3) {
            step?;
            stop(session, 3)?;
        }
        Ok(())
    };
    let run = Run::create(&scratch.0, "a", "", 11, false).unwrap();
    let path = run.path().to_path_buf();
    assert!(one(&session(run, None, 0), "weight").is_err());
    let (run, restored) = Run::resume(&path).unwrap();
    let error = one(&session(run, restored, 0), "weights").unwrap_err().to_string();
    assert!(error.contains("holds no `weights.safetensors`, only state.json, weight.safetensors"), "{error}");
}

#[test]
#[should_panic(expected = "`model` is kept already")]
fn one_name_for_two_things_is_a_mistake() {
    let scratch = Scratch::new("twice");
    let session = session(Run::create(&scratch.0, "a", "", 11, false).unwrap(), None, 0);
    session.keep("model", &Param::new(tensor(1.0)));
    session.value("model", 1u8);
}

#[test]
fn a_number_that_is_not_finite_stops_the_run() {
    let scratch = Scratch::new("nan");
    let session = session(Run::create(&scratch.0, "a", "", 11, false).unwrap(), None, 1000);
    let run = || -> Result<()> {
        for step in session.steps(10) {
            session.log(&[("train/loss", &if step? == 3 { f64::NAN } else { 1.0 })])?;
        }
        Ok(())
    };
    let error = run().unwrap_err().to_string();
    assert!(error.contains("`train/loss` became NaN at step 4; lower the learning rate"), "{error}");
}

/// Four examples that cannot be read.
struct Missing;

impl Source for Missing {
    fn len(&self) -> usize {
        4
    }

    fn sample(&self, _: usize) -> etude_data::Result<Sample> {
        Err(etude_data::Error::new("pictures", "no such picture", "look elsewhere"))
    }
}

/// A loop that passes over its error ends there, and nothing after it counts as done.
#[test]
fn an_error_nobody_looks_at_is_not_lost() {
    let scratch = Scratch::new("unheeded");
    let session = session(Run::create(&scratch.0, "unheeded", "", 11, false).unwrap(), None, 1000);
    let mut items = 0;
    for _ in session.batches_from(Loader::new(Missing, 2), 1) {
        items += 1;
    }
    assert_eq!(items, 1, "nothing follows an error");
    for error in [session.heed(), session.record(&[("accuracy", 1.0)]), session.steps(3).next().unwrap().map(drop)] {
        assert!(error.unwrap_err().to_string().contains("no such picture"));
    }
}

/// A real Ctrl-C: this test starts itself as a process, and asks it to stop in the middle.
#[cfg(unix)]
#[test]
fn ctrl_c_finishes_the_step_and_saves() {
    if let Some(root) = std::env::var_os("ETUDE_TEST_CTRL_C") {
        interrupt::install().unwrap();
        let session = session(Run::create(root, "stopped", "", 11, false).unwrap(), None, 1000);
        let counted = session.value("counted", 0u64);
        for step in session.steps(u64::MAX) {
            match step {
                Ok(_) => *counted.borrow_mut() += 1,
                Err(error) if error.is_interrupted() => std::process::exit(7),
                Err(_) => std::process::exit(1),
            }
            session.log(&[("counted", &(*counted.borrow() as f64))]).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        return;
    }
    let scratch = Scratch::new("ctrl-c");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ctrl_c_finishes_the_step_and_saves", "--nocapture"])
        .env("ETUDE_TEST_CTRL_C", &scratch.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let path = scratch.0.join("stopped/0001");
    while RunFolder::open(&path).map_or(0, |run| run.metrics().map_or(0, |lines| lines.len())) < 20 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(7), "it left its loop by itself");
    let (run, restored) = Run::resume(&path).unwrap();
    let saved = restored.as_ref().unwrap().0.step;
    assert_eq!(run.folder().metrics().unwrap().len() as u64, saved, "nothing logged is lost");
    let session = session(run, restored, 1000);
    let counted = session.value("counted", 0u64);
    assert_eq!(session.steps(u64::MAX).next().unwrap().unwrap(), saved);
    assert_eq!(*counted.borrow(), saved);
}
