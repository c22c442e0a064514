//! candle's side of the race: its own BERT and ResNet-50 with the weights every peer has.
//!
//!     candle-peer FOLDER MODEL BATCH
//!
//! FOLDER is what `bench/evaluate.py export` wrote. Threads are candle's own choice, one a core. Prints the JSON line that
//! the other peers print.

#[path = "../../race.rs"]
mod race;

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bert, resnet};
use race::race;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, name, batch] = &words[..] else {
        return Err("usage: candle-peer FOLDER MODEL BATCH".into());
    };
    let bytes = std::fs::read(format!("{folder}/{name}-{batch}.input"))?;
    let (batch, device): (usize, _) = (batch.parse()?, Device::Cpu);
    let weights = std::fs::read(format!("{folder}/{name}.safetensors"))?;
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &device)?;
    let flat =
        |y: candle_core::Result<Tensor>| y.and_then(|y| y.flatten_all()?.to_vec1::<f32>()).expect("the model runs");
    if name == "minilm" {
        let model = bert::BertModel::load(weights, &sizes())?;
        let ids: Vec<i64> = bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
        let ids = Tensor::from_vec(ids, (batch, 128), &device)?.to_dtype(DType::U32)?;
        let segments = ids.zeros_like()?;
        race("candle", name, batch, || flat(model.forward(&ids, &segments, None)));
    } else {
        let model = resnet::resnet50(1000, weights)?;
        let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let x = Tensor::from_vec(values, (batch, 3, 224, 224), &device)?;
        race("candle", name, batch, || flat(model.forward(&x)));
    }
    Ok(())
}

/// MiniLM's six layers of 384 features.
fn sizes() -> bert::Config {
    bert::Config {
        hidden_size: 384,
        num_hidden_layers: 6,
        num_attention_heads: 12,
        intermediate_size: 1536,
        ..bert::Config::default()
    }
}
