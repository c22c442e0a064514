//! A classification set in memory: inputs, labels, class names, and where they come from.

use crate::{Array, Error, Result, Rng, Sample, Source, Values};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Inputs and labels in memory. Cloning is cheap: the clones share both.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// A short name, such as `mnist-10k`.
    pub name: String,
    /// One row an example: pictures `[count, channels, height, width]`, tables `[count, columns]`.
    pub inputs: Arc<Array>,
    /// The class of each example, an index into `classes`; empty when the set has no labels.
    pub labels: Arc<Vec<i64>>,
    /// The class names.
    pub classes: Vec<String>,
    /// The licence of the data, when known.
    pub licence: String,
    /// Where the data come from, when known.
    pub source: String,
}

/// The three parts of [`Dataset::split`].
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// What a model learns from.
    pub train: Dataset,
    /// What choices are made by.
    pub valid: Dataset,
    /// What the final figure is measured on.
    pub test: Dataset,
}

impl Dataset {
    /// A set of `inputs` with one row an example. `labels` holds one index into `classes` for each, or nothing.
    pub fn new(name: &str, inputs: Array, labels: Vec<i64>, classes: Vec<String>) -> Result<Dataset> {
        let error = |problem: String| Error::new(name, problem, "give one label in 0..classes for each example");
        if inputs.shape.is_empty() {
            return Err(error("the inputs are a single value, without a dimension for examples".to_string()));
        }
        if !labels.is_empty() && labels.len() != inputs.rows() {
            return Err(error(format!("{} examples, but {} labels", inputs.rows(), labels.len())));
        }
        let known = 0..classes.len() as i64;
        if let Some(at) = labels.iter().position(|label| !known.contains(label)) {
            return Err(error(format!("example {at} has the label {}, of {} classes", labels[at], classes.len())));
        }
        Ok(Dataset {
            name: name.to_string(),
            inputs: Arc::new(inputs),
            labels: Arc::new(labels),
            classes,
            licence: String::new(),
            source: String::new(),
        })
    }

    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.inputs.rows()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of one input: `[channels, height, width]`, or `[columns]`.
    pub fn input_shape(&self) -> &[usize] {
        &self.inputs.shape[1..]
    }

    /// How many examples each class has.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &label in self.labels.iter() {
            counts[label as usize] += 1;
        }
        counts
    }

    /// The examples at `indices`, in that order. Panics on an index out of range, as indexing does.
    pub fn subset(&self, indices: &[usize]) -> Dataset {
        let labels = match self.labels.is_empty() {
            true => Vec::new(),
            false => indices.iter().map(|&index| self.labels[index]).collect(),
        };
        Dataset { inputs: Arc::new(self.inputs.gather(indices)), labels: Arc::new(labels), ..self.clone() }
    }

    /// The first `count` examples, or all when there are fewer.
    pub fn take(&self, count: usize) -> Dataset {
        self.subset(&(0..count.min(self.len())).collect::<Vec<_>>())
    }

    /// The set cut at random into train, validation and test parts, such as `[0.7, 0.1, 0.2]`. The same seed always
    /// gives the same parts.
    pub fn split(&self, fractions: [f64; 3], seed: u64) -> Result<Split> {
        let [train, valid, test] = self.parts(fractions, seed, false)?;
        Ok(Split { train, valid, test })
    }

    /// Like [`Dataset::split`], with every class in each part by its share of the whole set, to within two examples.
    pub fn split_stratified(&self, fractions: [f64; 3], seed: u64) -> Result<Split> {
        let [train, valid, test] = self.parts(fractions, seed, true)?;
        Ok(Split { train, valid, test })
    }

    /// The set cut at random into any number of parts. The `fractions` add up to 1; the parts' sizes are those of the
    /// whole set cut at the rounded running sums, and every example is in exactly one part.
    pub fn parts<const N: usize>(&self, fractions: [f64; N], seed: u64, stratified: bool) -> Result<[Dataset; N]> {
        let sum: f64 = fractions.iter().sum();
        if !fractions.iter().all(|fraction| (0.0..=1.0).contains(fraction)) || (sum - 1.0).abs() > 1e-6 {
            let problem = format!("cannot be split into the fractions {fractions:?}");
            return Err(Error::new(&self.name, problem, "give numbers from 0 to 1 that add up to 1"));
        }
        if stratified && self.labels.is_empty() && !self.is_empty() {
            return Err(Error::new(&self.name, "has no labels to stratify by", "split it without"));
        }
        let mut rng = Rng::keyed(&[seed, self.len() as u64]);
        let mut order = rng.permutation(self.len());
        if stratified {
            order = self.interleaved(&order);
        }
        let (mut start, mut running) = (0, 0.0);
        Ok(fractions.map(|fraction| {
            running += fraction;
            let end = ((running * self.len() as f64).round() as usize).clamp(start, self.len());
            let mut indices = order[start..end].to_vec();
            start = end;
            rng.shuffle(&mut indices);
            self.subset(&indices)
        }))
    }

    /// `order` rearranged so that every stretch of it holds each class by its share: the i-th of a class's n examples
    /// gets the place (i + ½)/n.
    fn interleaved(&self, order: &[usize]) -> Vec<usize> {
        let counts = self.class_counts();
        let mut seen = vec![0usize; counts.len()];
        let mut places: Vec<(f64, usize)> = Vec::with_capacity(order.len());
        for &index in order {
            let class = self.labels[index] as usize;
            places.push(((seen[class] as f64 + 0.5) / counts[class] as f64, index));
            seen[class] += 1;
        }
        places.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable: ties keep their random order
        places.into_iter().map(|(_, index)| index).collect()
    }

    /// The mean and deviation of each channel (pictures) or column (tables), of the values a model would read.
    pub fn statistics(&self) -> Statistics {
        let channels = self.input_shape().first().copied().unwrap_or(1);
        let inside = self.inputs.row_size().checked_div(channels).unwrap_or(0);
        let count = (self.len() * inside) as f64;
        let mut row = Vec::with_capacity(self.inputs.row_size());
        let mut over = |term: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            let mut sums = vec![0.0; channels];
            for index in 0..self.len() {
                row.clear();
                self.inputs.push_row(index, &mut row);
                for (channel, values) in row.chunks_exact(inside.max(1)).enumerate() {
                    sums[channel] += values.iter().map(|&x| term(channel, f64::from(x))).sum::<f64>();
                }
            }
            sums.iter().map(|sum| if count > 0.0 { sum / count } else { 0.0 }).collect()
        };
        let mean = over(&|_, x| x);
        let variance = over(&|channel, x| (x - mean[channel]).powi(2));
        Statistics {
            mean: mean.iter().map(|&x| x as f32).collect(),
            deviation: variance.iter().map(|&x| x.sqrt() as f32).collect(),
        }
    }

    /// The set as `F32` with `(x − mean) / deviation` for each channel or column. Use the statistics of the training
    /// part for every part.
    pub fn normalised(&self, statistics: &Statistics) -> Result<Dataset> {
        let channels = self.input_shape().first().copied().unwrap_or(1);
        if statistics.mean.len() != channels || statistics.deviation.len() != channels {
            let problem = format!("has {channels} channels or columns, the statistics {}", statistics.mean.len());
            return Err(Error::new(&self.name, problem, "use statistics taken from data of the same shape"));
        }
        let mut inputs = self.inputs.to_f32();
        if let Values::F32(values) = &mut inputs.values {
            for row in values.chunks_exact_mut(self.inputs.row_size().max(1)) {
                statistics.apply(row);
            }
        }
        Ok(Dataset { inputs: Arc::new(inputs), ..self.clone() })
    }
}

/// An example of a set without labels has this label.
pub const NO_LABEL: i64 = -1;

impl Source for Dataset {
    fn len(&self) -> usize {
        Dataset::len(self)
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        let mut values = Vec::with_capacity(self.inputs.row_size());
        self.inputs.push_row(index, &mut values);
        let label = self.labels.get(index).copied().unwrap_or(NO_LABEL);
        Ok(Sample { values, shape: self.input_shape().to_vec(), label, index })
    }
}

/// The mean and standard deviation of each channel or column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// The means.
    pub mean: Vec<f32>,
    /// The standard deviations, of the whole population (divided by n).
    pub deviation: Vec<f32>,
}

impl Statistics {
    /// `(x − mean) / deviation` in place, on one example; a channel without any spread is only shifted.
    pub fn apply(&self, row: &mut [f32]) {
        let inside = (row.len() / self.mean.len().max(1)).max(1);
        for ((values, &mean), &deviation) in row.chunks_exact_mut(inside).zip(&self.mean).zip(&self.deviation) {
            let deviation = if deviation > 0.0 { deviation } else { 1.0 };
            values.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` examples of one column that holds the example's number, with classes in the given proportions.
    fn numbered(count: usize, class_of: impl Fn(usize) -> i64) -> Dataset {
        let inputs = Array::new([count, 1], Values::F32((0..count).map(|x| x as f32).collect())).unwrap();
        let labels: Vec<i64> = (0..count).map(class_of).collect();
        Dataset::new("numbers", inputs, labels, vec!["a".into(), "b".into(), "c".into()]).unwrap()
    }

    fn contents(set: &Dataset) -> Vec<usize> {
        let Values::F32(values) = &set.inputs.values else { panic!("not floats") };
        values.iter().map(|&x| x as usize).collect()
    }

    #[test]
    fn a_split_is_a_partition_that_only_the_seed_changes() {
        let set = numbered(1003, |index| (index % 3) as i64);
        let split = set.split([0.7, 0.1, 0.2], 5).unwrap();
        assert_eq!((split.train.len(), split.valid.len(), split.test.len()), (702, 100, 201));
        let mut all: Vec<usize> = [&split.train, &split.valid, &split.test].iter().flat_map(|p| contents(p)).collect();
        assert_ne!(all[..3], [0, 1, 2]);
        for part in [&split.train, &split.valid, &split.test] {
            assert!(contents(part).iter().zip(part.labels.iter()).all(|(&x, &label)| label == (x % 3) as i64));
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1003));
        assert_eq!(set.split([0.7, 0.1, 0.2], 5).unwrap(), split);
        assert_ne!(set.split([0.7, 0.1, 0.2], 6).unwrap().test, split.test);
        let whole = set.split([1.0, 0.0, 0.0], 5).unwrap();
        assert_eq!((whole.train.len(), whole.valid.len()), (1003, 0));
    }

    #[test]
    fn a_stratified_split_keeps_the_shares() {
        let set = numbered(500, |index| {
            if index < 20 {
                0
            } else if index < 150 {
                1
            } else {
                2
            }
        });
        let split = set.split_stratified([0.7, 0.1, 0.2], 3).unwrap();
        assert_eq!((split.train.len(), split.valid.len(), split.test.len()), (350, 50, 100));
        for (part, share) in [(&split.train, 0.7), (&split.valid, 0.1), (&split.test, 0.2)] {
            for (count, whole) in part.class_counts().into_iter().zip([20.0, 130.0, 350.0]) {
                assert!((count as f64 - whole * share).abs() <= 2.0, "{count} of {whole} in {share}");
            }
        }
        // Within a part the classes are mixed.
        assert!(split.train.labels.windows(2).filter(|pair| pair[0] != pair[1]).count() > 50);
        let unlabelled =
            Dataset::new("bare", Array::new([2, 1], Values::U8(vec![1, 2])).unwrap(), vec![], vec![]).unwrap();
        assert!(unlabelled.split_stratified([0.5, 0.5, 0.0], 1).is_err());
        assert_eq!(unlabelled.split([0.5, 0.5, 0.0], 1).unwrap().valid.len(), 1);
        assert_eq!(unlabelled.sample(0).unwrap().label, NO_LABEL);
    }

    #[test]
    fn bad_fractions_and_labels_are_errors() {
        let set = numbered(10, |_| 0);
        for fractions in [[0.5, 0.5, 0.5], [1.5, -0.5, 0.0], [f64::NAN, 0.5, 0.5], [0.3, 0.3, 0.3]] {
            assert!(set.split(fractions, 1).unwrap_err().to_string().contains("add up to 1"));
        }
        let inputs = || Array::new([2, 1], Values::U8(vec![1, 2])).unwrap();
        let new = |labels| Dataset::new("set", inputs(), labels, vec!["only".into()]);
        assert!(new(vec![0]).unwrap_err().to_string().contains("2 examples, but 1 labels"));
        assert!(new(vec![0, 1]).unwrap_err().to_string().contains("example 1 has the label 1"));
        assert!(new(vec![0, -1]).is_err());
    }

    #[test]
    fn taking_and_choosing() {
        let set = numbered(10, |index| (index % 3) as i64);
        assert_eq!(contents(&set.take(3)), [0, 1, 2]);
        assert_eq!(set.take(99).len(), 10);
        let chosen = set.subset(&[9, 0]);
        assert_eq!((contents(&chosen), chosen.labels.to_vec()), (vec![9, 0], vec![0, 0]));
        assert_eq!(set.class_counts(), [4, 3, 3]);
    }

    #[test]
    fn normalising_uses_the_given_statistics() {
        // Two channels of 1 × 2 pixels; the second is constant.
        let values = vec![0.0, 1.0, 5.0, 5.0, 2.0, 5.0, 5.0, 5.0];
        let set = Dataset::new("set", Array::new([2, 2, 1, 2], Values::F32(values)).unwrap(), vec![], vec![]).unwrap();
        let statistics = set.statistics();
        assert_eq!(statistics.mean, [2.0, 5.0]);
        assert_eq!(statistics.deviation, [(14.0f64 / 4.0).sqrt() as f32, 0.0]);
        let normal = set.normalised(&statistics).unwrap();
        let again = normal.statistics();
        assert!(again.mean.iter().all(|mean| mean.abs() < 1e-7) && (again.deviation[0] - 1.0).abs() < 1e-6);
        let Values::F32(values) = &normal.inputs.values else { panic!("not floats") };
        assert_eq!(values[2..4], [0.0, 0.0]);
        assert!(set.normalised(&Statistics { mean: vec![0.0], deviation: vec![1.0] }).is_err());
        // Bytes are read as 0..=1 before.
        let bytes = Dataset::new("set", Array::new([2, 1], Values::U8(vec![0, 255])).unwrap(), vec![], vec![]).unwrap();
        assert_eq!(bytes.statistics(), Statistics { mean: vec![0.5], deviation: vec![0.5] });
        assert_eq!(bytes.take(0).statistics(), Statistics { mean: vec![0.0], deviation: vec![0.0] });
    }
}
