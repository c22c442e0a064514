//! tract's side of the race: evaluation of an exported model.
//!
//!     tract-peer FOLDER MODEL BATCH THREADS
//!
//! FOLDER is what `bench/evaluate.py export` wrote. Prints the JSON line that the other peers print.

use std::error::Error;
use std::time::Instant;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, name, batch, threads] = &words[..] else {
        return Err("usage: tract-peer FOLDER MODEL BATCH THREADS".into());
    };
    set_default_executor(Executor::multithread(threads.parse()?));
    let bytes = std::fs::read(format!("{folder}/{name}-{batch}.input"))?;
    let batch: usize = batch.parse()?;
    let input: Tensor = match &name[..] {
        "minilm" => {
            let ids: Vec<i64> = bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
            Tensor::from_shape(&[batch, ids.len() / batch], &ids)?
        }
        _ => {
            let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            Tensor::from_shape(&[batch, 3, 224, 224], &values)?
        }
    };
    let model = tract_onnx::onnx().model_for_path(format!("{folder}/{name}-{batch}.onnx"))?;
    let model = model.into_optimized()?.into_runnable()?;
    race("tract", name, batch, || {
        let outputs = model.run(tvec!(input.clone().into())).expect("the model runs");
        outputs[0].try_as_plain().and_then(|view| Ok(view.as_slice::<f32>()?.to_vec())).expect("the output is f32")
    });
    Ok(())
}

/// Times `step`, which evaluates the model once: two to warm up, then about two seconds' worth; prints the line.
fn race(peer: &str, name: &str, batch: usize, mut step: impl FnMut() -> Vec<f32>) {
    let mut output = Vec::new();
    let mut timed = || {
        let start = Instant::now();
        output = step();
        start.elapsed().as_secs_f64()
    };
    timed();
    let probe = timed();
    let mut times: Vec<f64> = (0..((2.0 / probe) as usize).clamp(5, 300)).map(|_| timed()).collect();
    times.sort_by(f64::total_cmp);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    let probe: Vec<f32> = (0..16).map(|i| output[i * output.len() / 16]).collect();
    println!(
        "{{\"peer\": \"{peer}\", \"workload\": \"{name}\", \"batch\": {batch}, \"median_ms\": {:.3}, \"min_ms\": {:.3}, \"peak_rss_mb\": {}, \"probe\": {probe:?}}}",
        times[times.len() / 2] * 1e3,
        times[0] * 1e3,
        peak.unwrap_or(0) / 1024
    );
}
