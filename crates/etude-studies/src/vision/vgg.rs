//! VGG (Simonyan and Zisserman, 2014) as an eye for other études: 3×3 convolutions in blocks, a pool between two blocks.
//!
//! A network that tells things apart looks at a picture in steps: the first block at edges and colours, later ones at
//! textures, parts, whole things. What the layer `relu3_2`, the second of the third block, gives for a picture is called
//! its *features*, and is compared in place of the pixels (Gatys et al., 2016; Johnson et al., 2016).

use etude::data::{Values, folder, hdf5};
use etude::prelude::*;
use etude::train::trainer::to_tensor;
use etude::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// The network of the étude `emoji`, as seed 1 left it: `etude run emoji` makes `features.safetensors` again.
const BUNDLED: &[u8] = include_bytes!("features.safetensors");

/// Blocks of convolutions, the features of a classifier. Parameters have the names they have in torchvision.
#[derive(Module, Clone)]
pub struct Vgg {
    features: Sequential,
    /// What is taken off each channel of a picture with values in 0 … 1, `[3, 1, 1]`.
    mean: State,
    /// What each channel is divided by then.
    deviation: State,
    /// The layers that can be looked at, `relu1_1` first, and their paths.
    #[module(skip)]
    layers: Vec<(String, String)>,
}

impl Vgg {
    /// Blocks of these widths, one number a convolution. With `norm` each convolution is normalised over the batch, which
    /// is for training; `average` pools by means instead of maxima.
    pub fn new(blocks: &[Vec<usize>], norm: bool, average: bool) -> Self {
        let (mut features, mut layers, mut channels) = (Sequential::new(), Vec::new(), 3);
        for (block, widths) in blocks.iter().enumerate() {
            if block > 0 {
                features = features.add(if average { Pool::average(2) } else { Pool::max(2) });
            }
            for (number, &width) in widths.iter().enumerate() {
                features = features
                    .add(Conv2d::new(channels, width, 3).padding(1).weights(Init::HeNormal(2f64.sqrt())).init());
                if norm {
                    features = features.add(BatchNorm::new(width).init());
                }
                layers.push((format!("relu{}_{}", block + 1, number + 1), format!("features.{}", features.len())));
                features = features.add(Activation::Relu.layer());
                channels = width;
            }
        }
        let each = |values: [f64; 3]| State::new(tensor(values).to(DType::F32).reshape([3, 1, 1]));
        // The colours that torchvision's networks were trained on.
        Self { features, mean: each([0.485, 0.456, 0.406]), deviation: each([0.229, 0.224, 0.225]), layers }
    }

    /// Changes what pictures are brought to: `(x − mean) / deviation`.
    pub fn input(self, mean: [f64; 3], deviation: [f64; 3]) -> Self {
        self.mean.set(tensor(mean).to(DType::F32).reshape([3, 1, 1]));
        self.deviation.set(tensor(deviation).to(DType::F32).reshape([3, 1, 1]));
        self
    }

    /// The bundled network, for an empty `file`, or that of a file: safetensors named as torchvision's VGG networks, such
    /// as an `emoji` run's, or Keras's HDF5 of VGG-16 or VGG-19. Nothing of it is trained any more.
    pub fn open(file: &str, average: bool) -> Result<Self> {
        let vgg = match file {
            "" => Self::from_torch(
                nn::tensors_from_bytes(BUNDLED, "the bundled network")?,
                "the bundled network",
                average,
            )?,
            _ if file.ends_with(".h5") || file.ends_with(".hdf5") => Self::from_keras(file, average)?,
            _ => Self::from_torch(nn::read_tensors(file)?, file, average)?,
        };
        vgg.freeze();
        Ok(vgg)
    }

    /// Layers are numbered; a number left out between activation and convolution is a pool.
    fn from_torch(mut tensors: HashMap<String, Tensor>, source: &str, average: bool) -> Result<Self> {
        tensors.retain(|name, _| name.starts_with("features.") || name == "mean" || name == "deviation");
        let number = |name: &String| name.strip_prefix("features.")?.strip_suffix(".weight")?.parse::<usize>().ok();
        let mut kernels: Vec<(usize, usize)> =
            tensors.iter().filter_map(|(name, kernel)| Some((number(name)?, kernel.shape()[0]))).collect();
        kernels.sort();
        if kernels.is_empty() || tensors.keys().any(|name| name.ends_with("running_mean")) {
            return Err(Error::new(format!("{source}: not a VGG network without batch norm")).remedy(
                "give the weights of torchvision's vgg11, 13, 16 or 19, or an `emoji` run's features.safetensors",
            ));
        }
        let mut blocks: Vec<Vec<usize>> = Vec::new();
        for (i, &(place, width)) in kernels.iter().enumerate() {
            if i == 0 || place - kernels[i - 1].0 > 2 {
                blocks.push(Vec::new());
            }
            blocks.last_mut().unwrap_or(&mut Vec::new()).push(width);
        }
        let vgg = Self::new(&blocks, false, average);
        for (name, state) in [("mean", &vgg.mean), ("deviation", &vgg.deviation)] {
            tensors.entry(name.into()).or_insert_with(|| state.get());
        }
        vgg.assign(tensors, &Default::default(), source)?;
        Ok(vgg)
    }

    /// Kernels are `[3, 3, in, out]`; pictures are blue, green, red in 0 … 255 less the mean of each.
    fn from_keras(file: &str, average: bool) -> Result<Self> {
        let mut arrays = hdf5::read(file)?;
        // `conv2d_2` comes before `conv2d_10`.
        let order = |name: &str| -> Vec<(String, u64)> {
            name.split('/')
                .map(|part| {
                    part.rsplit_once('_')
                        .map_or((part.into(), 0), |(word, number)| (word.into(), number.parse().unwrap_or(0)))
                })
                .collect()
        };
        arrays.sort_by_key(|(name, _)| order(name));
        let is_kernel = |shape: &[usize]| shape.len() == 4 && shape[..2] == [3, 3];
        let names: Vec<String> =
            arrays.iter().filter(|(_, array)| is_kernel(&array.shape)).map(|(name, _)| name.clone()).collect();
        let counts: &[usize] = match names.len() {
            13 => &[2, 2, 3, 3, 3],
            16 => &[2, 2, 4, 4, 4],
            count => {
                return Err(Error::new(format!("{file}: {count} convolutions of 3×3, not the 13 or 16 of VGG"))
                    .remedy("give VGG-16's or VGG-19's weights as Keras 3 saves them"));
            }
        };
        let arrays: HashMap<String, data::Array> = arrays.into_iter().collect();
        let (mut tensors, mut blocks, mut names) = (HashMap::new(), Vec::new(), names.into_iter());
        let mut place = 0;
        for &count in counts {
            let mut widths = Vec::new();
            for name in names.by_ref().take(count) {
                let bias = format!("{}1", name.trim_end_matches('0'));
                let bias = arrays.get(&bias).ok_or_else(|| Error::new(format!("{file}: `{name}` has no bias")))?;
                let mut kernel = to_tensor(&arrays[&name])?.permute([3, 2, 0, 1]); // [out, in, 3, 3]
                if place == 0 {
                    kernel = kernel.flip(1);
                }
                widths.push(kernel.size(0));
                tensors.insert(format!("features.{place}.weight"), kernel);
                tensors.insert(format!("features.{place}.bias"), to_tensor(bias)?);
                place += 2;
            }
            blocks.push(widths);
            place += 1;
        }
        let vgg = Self::new(&blocks, false, average).input([0.48109, 0.45752, 0.40787], [1.0 / 255.0; 3]);
        tensors.extend([("mean".into(), vgg.mean.get()), ("deviation".into(), vgg.deviation.get())]);
        vgg.assign(tensors, &Default::default(), file)?;
        Ok(vgg)
    }

    /// This network without its batch norms: each is a scale and a shift of what the convolution before it gives,
    /// `γ·(w∗x + b − μ)/√(σ² + ε) + β`, and becomes part of the convolution.
    pub fn folded(&self, blocks: &[Vec<usize>]) -> Result<Self> {
        let from: HashMap<String, Tensor> = self.tensors().into_iter().collect();
        let plain = Self::new(blocks, false, false);
        let mut to = HashMap::from([("mean".into(), self.mean.get()), ("deviation".into(), self.deviation.get())]);
        for ((_, normed), (_, folded)) in self.layers.iter().zip(&plain.layers) {
            let place = |path: &str, back: usize| -> String {
                let number: usize = path["features.".len()..].parse().unwrap_or(0);
                format!("features.{}", number - back)
            };
            let (conv, norm, target) = (place(normed, 2), place(normed, 1), place(folded, 1));
            let of = |name: String| from.get(&name).cloned().ok_or_else(|| Error::new(format!("no tensor `{name}`")));
            let scale = of(format!("{norm}.weight"))? / (of(format!("{norm}.running_var"))? + 1e-5).sqrt(); // [out]
            let shift = (of(format!("{conv}.bias"))? - of(format!("{norm}.running_mean"))?) * &scale
                + of(format!("{norm}.bias"))?;
            to.insert(
                format!("{target}.weight"),
                of(format!("{conv}.weight"))? * scale.reshape([scale.count(), 1, 1, 1]),
            );
            to.insert(format!("{target}.bias"), shift);
        }
        plain.assign(to, &Default::default(), "the trained network")?;
        Ok(plain)
    }

    /// The features of pictures `[B, 3, H, W]` at these layers, such as `relu3_1`.
    pub fn look(&self, pictures: &Tensor, layers: &[String]) -> Result<Vec<Tensor>> {
        let paths: Vec<&str> = layers
            .iter()
            .map(|layer| {
                let found = self.layers.iter().find(|(name, _)| name == layer);
                found.map(|(_, path)| path.as_str()).ok_or_else(|| {
                    let names: Vec<&str> = self.layers.iter().map(|(name, _)| name.as_str()).collect();
                    Error::new(format!("the network has no layer `{layer}`"))
                        .remedy(format!("choose of {}", names.join(", ")))
                })
            })
            .collect::<Result<_>>()?;
        Ok(self.cut(pictures, &paths)?)
    }
}

impl Forward for Vgg {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.features.forward(&((x - self.mean.get()) / self.deviation.get()))
    }
}

/// A picture `[1, 3, H, W]` with values in 0 … 1, its longer side `side`: one of the set `photographs` by its name, or a
/// PNG or JPEG file.
pub fn picture(name: &str, side: usize) -> Result<Tensor> {
    let read = |options: &folder::Options| match Path::new(name).extension() {
        None => data::photograph(name, options),
        Some(_) => folder::read_picture(name, options),
    };
    let shape = read(&folder::Options::default())?.shape;
    let scale = side as f64 / shape[1].max(shape[2]) as f64;
    let size = [1, 2].map(|axis| ((shape[axis] as f64 * scale).round() as usize).max(1));
    let array = read(&folder::Options { size: Some((size[0], size[1])), grey: false })?;
    debug_assert!(matches!(array.values, Values::U8(_)));
    Ok(to_tensor(&array)?.unsqueeze(0))
}

/// How much neighbouring pixels differ: the mean of the squared differences to the right and down, the total variation
/// that keeps optimised pictures free of noise (Mahendran and Vedaldi, 2015, with β = 2).
pub fn variation(x: &Tensor) -> Tensor {
    let (h, w) = (x.size(-2), x.size(-1));
    let down = x.narrow(-2, 1, h - 1) - x.narrow(-2, 0, h - 1);
    let right = x.narrow(-1, 1, w - 1) - x.narrow(-1, 0, w - 1);
    down.square().mean(..) + right.square().mean(..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn the_bundled_network_sees_in_four_blocks() {
        let vgg = Vgg::open("", false).unwrap();
        let x = picture("cat", 64).unwrap();
        assert_eq!(x.shape(), [1, 3, 64, 64]);
        let seen = vgg.look(&x, &layers(&["relu1_1", "relu4_2"])).unwrap();
        assert_eq!((seen[0].shape().to_vec(), seen[1].shape().to_vec()), (vec![1, 32, 64, 64], vec![1, 192, 8, 8]));
        assert!(vgg.parameters().iter().all(|(_, param)| param.is_frozen()));
        let error = vgg.look(&x, &layers(&["relu5_1"])).unwrap_err().to_string();
        assert!(error.contains("`relu5_1`") && error.contains("relu4_2"), "{error}");
        assert!(picture("dog", 64).unwrap_err().to_string().contains("cat"));
    }

    #[test]
    fn folding_changes_nothing() {
        etude::seed(1);
        let blocks = [vec![4, 5], vec![6]];
        let normed = Vgg::new(&blocks, true, false);
        // Running figures and scales of their own.
        training(|| normed.forward(&uniform([8, 3, 16, 16]))).eval().unwrap();
        for (name, param) in normed.parameters() {
            if param.shape().rank() == 1 {
                param.set(uniform(param.shape()) + if name.ends_with("weight") { 0.5 } else { -0.5 });
            }
        }
        let x = uniform([2, 3, 16, 16]);
        let plain = normed.folded(&blocks).unwrap();
        let apart = (plain.forward(&x) - evaluating(|| normed.forward(&x))).abs().max(..).item();
        assert!(apart < 1e-5, "{apart}");
    }

    #[test]
    fn blocks_are_read_off_the_names() {
        let made = Vgg::new(&[vec![2, 3], vec![4]], false, false);
        let tensors: HashMap<String, Tensor> = made.tensors().into_iter().collect();
        assert!(tensors.contains_key("features.5.weight"), "as torchvision numbers layers");
        let read = Vgg::from_torch(tensors.clone(), "x", true).unwrap();
        assert_eq!(read.layers, made.layers);
        // Without colours of its own a network gets torchvision's; what else a classifier has is passed over.
        let mut foreign = tensors;
        foreign.retain(|name, _| name.starts_with("features."));
        foreign.insert("classifier.0.weight".into(), ones([1]));
        assert!(Vgg::from_torch(foreign, "x", true).is_ok());
        assert!(Vgg::from_torch(HashMap::new(), "x", true).is_err_and(|error| error.to_string().contains("VGG")));
    }

    #[test]
    fn variation_is_that_of_a_ramp() {
        // 0, 1, 2 across and the same down every column.
        let x = tensor([0.0, 1.0, 2.0, 0.0, 1.0, 2.0]).to(DType::F32).reshape([1, 1, 2, 3]);
        assert_eq!(variation(&x).item(), 1.0);
    }
}
