//! Learning rates over time: each schedule is a function of the step's number, counted from 0, and nothing else, so that
//! a resumed run needs no memory of it. [`Plateau`] alone looks at results and has something to remember.

use std::f64::consts::PI;

/// A learning rate over time. A closure `|step| …` is one too.
pub trait Schedule: Send {
    /// The rate of step `step`, counted from 0.
    fn rate(&self, step: u64) -> f64;
}

impl<F: Fn(u64) -> f64 + Send> Schedule for F {
    fn rate(&self, step: u64) -> f64 {
        self(step)
    }
}

impl Schedule for Box<dyn Schedule> {
    fn rate(&self, step: u64) -> f64 {
        (**self).rate(step)
    }
}

/// Always the same rate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Constant(
    /// The rate.
    pub f64,
);

impl Schedule for Constant {
    fn rate(&self, _step: u64) -> f64 {
        self.0
    }
}

/// `rate · factor^⌊k/every⌋`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stairs {
    /// The first rate.
    pub rate: f64,
    /// How many steps one stair lasts.
    pub every: u64,
    /// What each stair multiplies the rate by.
    pub factor: f64,
}

impl Schedule for Stairs {
    fn rate(&self, step: u64) -> f64 {
        self.rate * self.factor.powf((step / self.every.max(1)) as f64)
    }
}

/// `rate · factor^(milestones at or before k)`.
#[derive(Clone, PartialEq, Debug)]
pub struct Milestones {
    /// The first rate.
    pub rate: f64,
    /// The steps from which the rate is lower, in any order.
    pub at: Vec<u64>,
    /// What each milestone multiplies the rate by.
    pub factor: f64,
}

impl Schedule for Milestones {
    fn rate(&self, step: u64) -> f64 {
        let passed = self.at.iter().filter(|&&milestone| milestone <= step).count();
        self.rate * self.factor.powf(passed as f64)
    }
}

/// `rate · factorᵏ`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Exponential {
    /// The first rate.
    pub rate: f64,
    /// What each step multiplies the rate by.
    pub factor: f64,
}

impl Schedule for Exponential {
    fn rate(&self, step: u64) -> f64 {
        self.rate * self.factor.powf(step as f64)
    }
}

/// From one number to another along half a cosine; `part` runs from 0 to 1.
fn along_cosine(from: f64, to: f64, part: f64) -> f64 {
    to + (from - to) * 0.5 * (1.0 + (PI * part).cos())
}

/// Half a cosine from `rate` down to `floor` over `steps` steps (Loshchilov and Hutter, 2017):
/// `floor + (rate−floor)·(1+cos(πk/steps))/2`. Past the end the cosine goes on and rises again, as PyTorch's does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cosine {
    /// The first rate.
    pub rate: f64,
    /// The lowest rate.
    pub floor: f64,
    /// After how many steps the lowest rate is reached.
    pub steps: u64,
}

impl Cosine {
    /// From `rate` down to `rate / times` over `steps` steps.
    ///
    /// ```
    /// use etude_nn::schedule::{Cosine, Schedule};
    /// let fall = Cosine::down(1e-3, 10.0, 200);
    /// assert_eq!((fall.rate(0), fall.rate(200)), (1e-3, 1e-4));
    /// ```
    pub fn down(rate: f64, times: f64, steps: u64) -> Cosine {
        Cosine { rate, floor: rate / times, steps }
    }
}

impl Schedule for Cosine {
    fn rate(&self, step: u64) -> f64 {
        along_cosine(self.rate, self.floor, step as f64 / self.steps.max(1) as f64)
    }
}

/// [`Cosine`] again and again, each round `growth` times as long as the one before (Loshchilov and Hutter, 2017).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CosineRestarts {
    /// The rate each round starts from.
    pub rate: f64,
    /// The rate each round ends just above.
    pub floor: f64,
    /// How many steps the first round lasts.
    pub first: u64,
    /// How much longer each round is than the one before; 1 keeps them equal.
    pub growth: u64,
}

impl Schedule for CosineRestarts {
    fn rate(&self, step: u64) -> f64 {
        let (mut length, mut step) = (self.first.max(1), step);
        if self.growth <= 1 {
            step %= length;
        }
        while step >= length {
            step -= length;
            length *= self.growth;
        }
        along_cosine(self.rate, self.floor, step as f64 / length as f64)
    }
}

/// A straight line from `from` to `to` over `steps` steps, `to` from then on: a warm-up if it rises.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Linear {
    /// The first rate.
    pub from: f64,
    /// The last rate.
    pub to: f64,
    /// After how many steps the last rate is reached.
    pub steps: u64,
}

impl Schedule for Linear {
    fn rate(&self, step: u64) -> f64 {
        self.from + (self.to - self.from) * part(step, self.steps)
    }
}

/// How much of `steps` has passed, from 0 to 1.
fn part(step: u64, steps: u64) -> f64 {
    if steps == 0 { 1.0 } else { step.min(steps) as f64 / steps as f64 }
}

/// `rate·(1 − k/steps)^power`, 0 from then on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Polynomial {
    /// The first rate.
    pub rate: f64,
    /// After how many steps the rate is 0.
    pub steps: u64,
    /// 1 for a straight line, more for a curve that falls early.
    pub power: f64,
}

impl Schedule for Polynomial {
    fn rate(&self, step: u64) -> f64 {
        self.rate * (1.0 - part(step, self.steps)).powf(self.power)
    }
}

/// `scale · width^(−½) · min((k+1)^(−½), (k+1)·warm_up^(−3/2))`: rises over the warm-up, then falls with the root of time
/// (Vaswani et al., 2017, section 5.3).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Noam {
    /// Multiplies everything.
    pub scale: f64,
    /// The model's width.
    pub width: usize,
    /// How many steps the rate rises.
    pub warm_up: u64,
}

impl Schedule for Noam {
    fn rate(&self, step: u64) -> f64 {
        let (k, warm_up) = ((step + 1) as f64, self.warm_up.max(1) as f64);
        self.scale * (self.width as f64).powf(-0.5) * k.powf(-0.5).min(k * warm_up.powf(-1.5))
    }
}

/// One rise and one long fall (Smith and Topin, 2018): from `peak/start_divisor` to `peak` over `rise` of the steps, then
/// down to `peak/start_divisor/end_divisor`. Past the end the last rate stays.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct OneCycle {
    /// The highest rate.
    pub peak: f64,
    /// How many steps the cycle has.
    pub steps: u64,
    /// The part of the steps that rises.
    pub rise: f64,
    /// The first rate is the highest over this.
    pub start_divisor: f64,
    /// The last rate is the first over this.
    pub end_divisor: f64,
    /// Straight lines instead of cosines.
    pub linear: bool,
    /// The fall mirrors the rise, and what is left of the steps goes from the first rate to the last.
    pub three_phases: bool,
}

impl OneCycle {
    /// A cycle with PyTorch's proportions: rising over 0.3 of the steps, divisors 25 and 10,000, cosines, two phases.
    pub fn new(peak: f64, steps: u64) -> OneCycle {
        let (start_divisor, end_divisor) = (25.0, 1e4);
        OneCycle { peak, steps, rise: 0.3, start_divisor, end_divisor, linear: false, three_phases: false }
    }
}

impl Schedule for OneCycle {
    fn rate(&self, step: u64) -> f64 {
        let first = self.peak / self.start_divisor;
        let last = first / self.end_divisor;
        let (all, top) = (self.steps as f64 - 1.0, self.rise * self.steps as f64 - 1.0);
        // Where each phase ends, and between which rates it runs.
        let phases = if self.three_phases {
            vec![(top, first, self.peak), (2.0 * top, self.peak, first), (all, first, last)]
        } else {
            vec![(top, first, self.peak), (all, self.peak, last)]
        };
        let (k, mut start) = (step as f64, 0.0);
        for (end, from, to) in phases {
            if k <= end {
                let part = if end > start { (k - start) / (end - start) } else { 1.0 };
                return if self.linear { from + (to - from) * part } else { along_cosine(from, to, part) };
            }
            start = end;
        }
        last
    }
}

/// One schedule after another. Each counts its steps from where it begins.
pub struct Sequence {
    parts: Vec<(u64, Box<dyn Schedule>)>,
}

impl Sequence {
    /// Starts with `schedule`.
    pub fn new(schedule: impl Schedule + 'static) -> Sequence {
        Sequence { parts: vec![(0, Box::new(schedule))] }
    }

    /// Goes on with `schedule` from step `start`, which must not come before the parts given so far.
    ///
    /// # Panics
    /// If it does.
    #[track_caller]
    pub fn then(mut self, start: u64, schedule: impl Schedule + 'static) -> Sequence {
        let before = self.parts.last().map_or(0, |part| part.0);
        assert!(before <= start, "Sequence::then: step {start} comes before {before}, where the last part begins");
        self.parts.push((start, Box::new(schedule)));
        self
    }
}

impl Schedule for Sequence {
    fn rate(&self, step: u64) -> f64 {
        let current = self.parts.iter().rev().find(|part| part.0 <= step);
        current.map_or(0.0, |(start, schedule)| schedule.rate(step - start))
    }
}

/// Several schedules multiplied: one gives the rate, the others factors, as a warm-up `Linear { from: 0.0, to: 1.0, … }`.
pub struct Product {
    parts: Vec<Box<dyn Schedule>>,
}

impl Product {
    /// Starts with `schedule`.
    pub fn new(schedule: impl Schedule + 'static) -> Product {
        Product { parts: vec![Box::new(schedule)] }
    }

    /// Multiplies by `schedule`.
    pub fn times(mut self, schedule: impl Schedule + 'static) -> Product {
        self.parts.push(Box::new(schedule));
        self
    }
}

impl Schedule for Product {
    fn rate(&self, step: u64) -> f64 {
        self.parts.iter().map(|part| part.rate(step)).product()
    }
}

/// Lowers the rate when a metric has stopped improving: after more than `patience` observations in a row that are not
/// better than the best by the threshold, the rate is multiplied by the factor.
#[derive(Clone, PartialEq, Debug)]
pub struct Plateau {
    factor: f64,
    patience: u64,
    threshold: f64,
    absolute: bool,
    maximise: bool,
    cooldown: u64,
    floor: f64,
    /// What there is to remember.
    pub memory: PlateauMemory,
}

/// What a [`Plateau`] remembers: a checkpoint keeps it and puts it back.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PlateauMemory {
    /// The rate now.
    pub rate: f64,
    /// The best value of the metric, none before the first observation.
    pub best: Option<f64>,
    /// Observations in a row that were no better.
    pub waited: u64,
    /// Observations to come that do not count.
    pub resting: u64,
}

impl Plateau {
    /// Starts at `rate` and divides it by 10 after more than 10 observations of a metric (the less the better) without an
    /// improvement by a ten-thousandth.
    pub fn new(rate: f64) -> Plateau {
        let memory = PlateauMemory { rate, best: None, waited: 0, resting: 0 };
        let (factor, patience, threshold) = (0.1, 10, 1e-4);
        Plateau { factor, patience, threshold, absolute: false, maximise: false, cooldown: 0, floor: 0.0, memory }
    }

    /// What the rate is multiplied by.
    pub fn factor(mut self, factor: f64) -> Plateau {
        self.factor = factor;
        self
    }

    /// How many observations without improvement pass unpunished.
    pub fn patience(mut self, patience: u64) -> Plateau {
        self.patience = patience;
        self
    }

    /// By which part of the best value a better one must be better.
    pub fn threshold(mut self, threshold: f64) -> Plateau {
        (self.threshold, self.absolute) = (threshold, false);
        self
    }

    /// By how much a better value must be better.
    pub fn absolute_threshold(mut self, threshold: f64) -> Plateau {
        (self.threshold, self.absolute) = (threshold, true);
        self
    }

    /// The more the better, as with an accuracy.
    pub fn maximise(mut self) -> Plateau {
        self.maximise = true;
        self
    }

    /// How many observations after a reduction do not count.
    pub fn cooldown(mut self, cooldown: u64) -> Plateau {
        self.cooldown = cooldown;
        self
    }

    /// The lowest rate.
    pub fn floor(mut self, floor: f64) -> Plateau {
        self.floor = floor;
        self
    }

    /// Looks at the metric's new value and returns the rate from now on. A NaN counts as no better.
    pub fn observe(&mut self, metric: f64) -> f64 {
        let memory = &mut self.memory;
        let better = memory.best.is_none_or(|best| {
            let margin = if self.absolute { self.threshold } else { self.threshold * best };
            if self.maximise { metric > best + margin } else { metric < best - margin }
        });
        if better && !metric.is_nan() {
            (memory.best, memory.waited) = (Some(metric), 0);
        } else {
            memory.waited += 1;
        }
        if memory.resting > 0 {
            memory.resting -= 1;
            memory.waited = 0;
        }
        if memory.waited > self.patience {
            let new = (memory.rate * self.factor).max(self.floor);
            // A change in the last bits is not worth a step of its own.
            if memory.rate - new > 1e-8 {
                memory.rate = new;
            }
            (memory.waited, memory.resting) = (0, self.cooldown);
        }
        memory.rate
    }
}

impl Schedule for Plateau {
    fn rate(&self, _step: u64) -> f64 {
        self.memory.rate
    }
}
