//! Windows laid out as columns, and columns added back into windows: each is the other's gradient.

use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::conv::ConvOptions;
use crate::ops::spatial::{self, PerAxis};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor};
use etude_kernels::pool::PoolGeometry;
use etude_kernels::{Element, Float, patches};
use std::hash::{Hash, Hasher};

/// Planes to columns (`unfold`), or columns to planes (`fold`).
#[derive(Debug)]
struct Patches {
    fold: bool,
    axes: usize,
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
    dilation: [usize; 3],
    /// The spatial sizes of the planes that columns are folded into.
    size: [usize; 3],
}

impl Patches {
    fn positions(&self, planes: [usize; 3]) -> Result<[usize; 3], String> {
        spatial::positions(self.axes, planes, self.kernel, self.stride, self.padding, self.dilation)
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    fn geometry(&self, planes: usize, input: [usize; 3]) -> Result<PoolGeometry, String> {
        let (kernel, stride, padding, dilation) = (self.kernel, self.stride, self.padding, self.dilation);
        Ok(PoolGeometry { planes, input, kernel, stride, padding, dilation, output: self.positions(input)? })
    }

    fn unfold<T: Element>(&self, call: &mut Call) -> Result<(), String> {
        let (x, shape) = (call.input::<T>(0), call.shape(0));
        let geometry = self.geometry(shape[0] * shape[1], spatial::sizes(&shape, self.axes))?;
        patches::unfold(&geometry, x, call.output::<T>(0));
        Ok(())
    }

    fn fold<T: Float>(&self, call: &mut Call) -> Result<(), String> {
        let (y, shape) = (call.input::<T>(0), call.output_meta(0).shape);
        let geometry = self.geometry(shape[0] * shape[1], self.size)?;
        patches::fold(&geometry, y, call.output::<T>(0));
        Ok(())
    }
}

impl Operation for Patches {
    fn name(&self) -> &'static str {
        if self.fold { "fold" } else { "unfold" }
    }

    fn attributes(&self, mut state: &mut dyn Hasher) {
        (self.fold, self.axes, self.kernel, self.stride, self.padding, self.dilation, self.size).hash(&mut state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let Meta { shape, dtype } = inputs[0];
        if !self.fold {
            if !(3..=5).contains(&shape.rank()) {
                return Err("the input needs batch, channels and one to three spatial axes".into());
            }
            let positions = self.positions(spatial::sizes(&shape, self.axes))?.iter().product();
            return Ok(vec![Meta::new(Shape::from([shape[0], shape[1] * self.taps(), positions]), dtype)]);
        }
        if shape.rank() != 3 {
            return Err("the input needs three axes: batch, channels times kernel, positions".into());
        }
        if !dtype.is_float() {
            return Err(format!("takes a floating dtype, not {dtype}; convert with .to(DType::F32)"));
        }
        let (taps, wanted) = (self.taps(), self.positions(self.size)?.iter().product::<usize>());
        if taps == 0 || !shape[1].is_multiple_of(taps) {
            return Err(format!("axis 1 has {}, which is no multiple of the kernel's {taps} elements", shape[1]));
        }
        if shape[2] != wanted {
            let size = &self.size[3 - self.axes..];
            return Err(format!("the last axis has {} positions, {size:?} has {wanted}", shape[2]));
        }
        Ok(vec![Meta::new(spatial::shape(shape[0], shape[1] / taps, self.size, self.axes), dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let size = match self.fold {
            true => self.size,
            false => spatial::sizes(&step.inputs[0].shape(), self.axes),
        };
        let back = Patches { fold: !self.fold, size, ..*self };
        Ok(vec![Some(Tensor::record(back, &[&step.gradient(0)]))])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match (self.fold, call.dtype(0)) {
            (true, DType::F32) => self.fold::<f32>(call),
            (true, _) => self.fold::<f64>(call),
            (false, DType::F32) => self.unfold::<f32>(call),
            (false, DType::F64) => self.unfold::<f64>(call),
            (false, DType::I32) => self.unfold::<i32>(call),
            (false, DType::I64) => self.unfold::<i64>(call),
            (false, DType::U8 | DType::Bool) => self.unfold::<u8>(call),
        }
    }
}

/// The operation these options say.
#[track_caller]
fn operation(
    name: &'static str,
    axes: usize,
    kernel: PerAxis,
    options: ConvOptions,
    size: Option<[usize; 3]>,
) -> Patches {
    let plain = options.groups == 1 && options.output_padding == PerAxis::from(0);
    assert!(plain, "{name}: takes stride, padding and dilation, neither groups nor output padding");
    Patches {
        fold: size.is_some(),
        axes,
        kernel: kernel.spread(name, "kernel", axes, 1),
        stride: options.stride.spread(name, "stride", axes, 1),
        padding: options.padding.spread(name, "padding", axes, 0),
        dilation: options.dilation.spread(name, "dilation", axes, 1),
        size: size.unwrap_or([0; 3]),
    }
}

impl Tensor {
    /// Every window as a column: `[B, C, …] → [B, C·K, L]` for a kernel of K elements at L positions, channels outside,
    /// both kernel and positions in row-major order. Takes stride, padding and dilation from the options. A convolution
    /// is a matrix product with these columns; `unfold(p, ConvOptions::new().stride(p))` cuts an image into patches.
    ///
    /// # Panics
    /// If the kernel is larger than the padded input.
    #[track_caller]
    pub fn unfold(&self, kernel: impl Into<PerAxis>, options: ConvOptions) -> Tensor {
        let axes = self.rank().clamp(3, 5) - 2;
        Tensor::record(operation("unfold", axes, kernel.into(), options, None), &[self])
    }

    /// The transpose of [`Tensor::unfold`]: columns `[B, C·K, L]` added into planes `[B, C, ..size]`, which windows that
    /// overlap reach several times.
    ///
    /// # Panics
    /// If there are not as many positions as `size` has windows.
    #[track_caller]
    pub fn fold(&self, size: impl Into<Shape>, kernel: impl Into<PerAxis>, options: ConvOptions) -> Tensor {
        let size = size.into();
        assert!((1..=3).contains(&size.rank()), "fold: {size} should name one to three spatial axes");
        let sizes = spatial::sizes(&size, size.rank());
        Tensor::record(operation("fold", size.rank(), kernel.into(), options, Some(sizes)), &[self])
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let plain = ConvOptions::new();
    let uneven = plain.stride([2, 1]).padding([1, 0]).dilation([1, 2]);
    let unfold = vec![
        Case::new("windows of two", &[&[1, 2, 3]], |x| x[0].unfold(2, ConvOptions::new())).reference(|x| {
            let x = &x[0];
            vec![x[0], x[1], x[1], x[2], x[3], x[4], x[4], x[5]]
        }),
        Case::new("patches of an image", &[&[1, 1, 2, 4]], |x| x[0].unfold(2, ConvOptions::new().stride(2)))
            .reference(|x| [0, 2, 1, 3, 4, 6, 5, 7].iter().map(|&i| x[0][i]).collect()),
        Case::new("all options", &[&[2, 2, 4, 5]], move |x| x[0].unfold([3, 2], uneven).square()),
        Case::new("three axes", &[&[1, 2, 3, 2, 2]], |x| x[0].unfold([2, 1, 2], ConvOptions::new())),
        Case::new("nothing", &[&[0, 2, 3]], |x| x[0].unfold(2, ConvOptions::new())),
        Case::new("whole numbers", &[&[1, 1, 3]], |x| x[0].unfold(3, ConvOptions::new().padding(1)))
            .dtype(DType::I32)
            .reference(|x| {
                let x = &x[0];
                vec![0.0, x[0], x[1], x[0], x[1], x[2], x[1], x[2], 0.0]
            }),
        Case::new("as a convolution", &[&[2, 3, 4, 3], &[2, 3, 2, 2]], |x| {
            let columns = x[0].unfold(2, ConvOptions::new().padding(1));
            x[1].reshape([2, 12]).matmul(&columns).reshape([2, 2, 5, 4])
        })
        .against(|x| x[0].conv2d(&x[1], ConvOptions::new().padding(1))),
    ];
    let fold = vec![
        Case::new("windows that overlap", &[&[1, 2, 2]], |x| x[0].fold(3, 2, ConvOptions::new())).reference(|x| {
            let x = &x[0];
            vec![x[0], x[1] + x[2], x[3]]
        }),
        Case::new("fold with all options", &[&[1, 12, 6]], move |x| x[0].fold([4, 5], [3, 2], uneven).square()),
        Case::new("windows of any size", &[&[2, 3, 4]], |x| {
            let (size, count) = (x[0].size(1), x[0].size(2));
            x[0].fold(count + size - 1, size, ConvOptions::new()).square()
        }),
        Case::new("fold nothing", &[&[0, 4, 2]], |x| x[0].fold([2, 3], 2, ConvOptions::new())),
    ];
    vec![Row { name: "unfold", cases: unfold }, Row { name: "fold", cases: fold }]
}
