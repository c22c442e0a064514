//! tract's side of the race: evaluation of an exported model.
//!
//!     tract-peer FOLDER MODEL BATCH THREADS
//!
//! FOLDER is what `bench/evaluate.py export` wrote. Prints the JSON line that the other peers print.

#[path = "../../race.rs"]
mod race;

use race::race;
use std::error::Error;
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
