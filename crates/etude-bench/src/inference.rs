//! Models evaluated the way somebody who ships them would: `compile()`, one input after the other.

use crate::Setting;
use crate::workload::{fill_statistics_with_pattern, fill_with_pattern};
use etude::prelude::*;
use etude::{Error, Result};
use etude_zoo::{Bert, BertSizes, ResNet};
use std::rc::Rc;

/// The batches that are timed.
pub const BATCHES: [usize; 2] = [1, 16];

/// A model to evaluate.
pub struct Inference {
    /// What the peers call it.
    pub name: &'static str,
    /// Model and input in a few words.
    pub what: &'static str,
    /// How many parameters the peers' model has.
    pub parameters: usize,
    build: fn(&Setting, usize) -> Evaluation,
}

/// A model with an input.
pub struct Evaluation {
    /// The model.
    pub model: Rc<dyn Module>,
    plain: Box<dyn Fn() -> Tensor>,
    compile: Box<dyn Fn() -> Box<dyn Fn() -> Tensor>>,
}

impl Evaluation {
    fn new<M: Forward + Clone + 'static>(model: M, x: Tensor) -> Evaluation {
        model.parameters().iter().for_each(|(_, param)| drop(param.value()));
        let model = Rc::new(model);
        let (plain, compiled) = ((model.clone(), x.clone()), model.clone());
        Evaluation {
            model,
            plain: Box::new(move || evaluating(|| plain.0.forward(&plain.1))),
            compile: Box::new(move || {
                let (ready, x) = (compiled.compile(), x.clone());
                Box::new(move || ready.forward(&x))
            }),
        }
    }

    /// What the model gives, run the ordinary way.
    pub fn output(&self) -> Tensor {
        (self.plain)()
    }

    /// The model as it is now, compiled: each call evaluates it once.
    pub fn compile(&self) -> Box<dyn Fn() -> Tensor> {
        (self.compile)()
    }
}

impl Inference {
    /// Makes weights and an input of `batch` examples: random ones, or the pattern's.
    pub fn build(&self, setting: &Setting, batch: usize) -> Evaluation {
        let evaluation = (self.build)(setting, batch);
        if setting.pattern {
            fill_with_pattern(&*evaluation.model);
            fill_statistics_with_pattern(&*evaluation.model);
        }
        evaluation
    }
}

/// The model of this name.
pub fn find_inference(name: &str) -> Result<&'static Inference> {
    INFERENCES.iter().find(|model| model.name == name).ok_or_else(|| {
        let names: Vec<&str> = INFERENCES.iter().map(|model| model.name).collect();
        Error::new(format!("there is no model `{name}` to evaluate"))
            .remedy(format!("choose from {}", names.join(", ")))
    })
}

/// The models.
pub const INFERENCES: &[Inference] = &[
    Inference {
        name: "resnet50",
        what: "ResNet-50, 3×224×224",
        parameters: 25_557_032,
        build: |s, batch| {
            let side = s.size(224, 64);
            Evaluation::new(ResNet::resnet50(1000), s.normal([batch, 3, side, side]))
        },
    },
    Inference {
        name: "minilm",
        what: "BERT encoder, 6 layers of 384 features, 128 tokens",
        parameters: 22_565_376,
        build: |s, batch| {
            let (sizes, length) = (BertSizes::MINI, s.size(128, 16));
            Evaluation::new(Bert::new(sizes), s.whole([batch, length], 0, sizes.vocabulary))
        },
    },
];
