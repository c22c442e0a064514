//! Kernels compiled once. A generic function is compiled anew in every crate that calls it; these tables hold the bodies
//! for each type, so that they are compiled here and nowhere else. The public functions call through them.

use crate::attention::{Attention, AttentionGradients, Heads};
use crate::conv::ConvGeometry;
use crate::ctc::CtcError;
use crate::index::IndexError;
use crate::matmul::Operand;
use crate::pool::PoolGeometry;
use crate::random::Key;
use crate::scan::Number;
use crate::tile::Tail;
use crate::{
    Buffer, Float, arg, attention, conv, copy, ctc, index, matmul, norm, patches, pool, random, recurrent, scan,
    softmax, sort,
};

/// Kernels of a floating type.
pub struct Floats<T: 'static> {
    pub(crate) attention_forward: fn(&Attention<T>, Heads<T>, Heads<T>, Heads<T>, &mut [T], &mut [T]),
    pub(crate) attention_backward:
        fn(&Attention<T>, Heads<T>, Heads<T>, Heads<T>, &[T], &[T], Heads<T>, AttentionGradients<T>),
    pub(crate) conv_forward: fn(&ConvGeometry, &[T], &[T], &mut [T]),
    pub(crate) channels_forward: fn(&ConvGeometry, &[T], &[T], &conv::channels::Tail<T>, &mut [T]),
    pub(crate) channels_forward_planes: fn(&ConvGeometry, &[T], &[T], &conv::channels::Tail<T>, &mut [T]),
    pub(crate) channels_winograd: fn(&ConvGeometry, &[T], &[T], &conv::channels::Tail<T>, &mut [T]),
    pub(crate) channels_winograd_weights: fn(usize, usize, &[T], &mut [T]),
    pub(crate) channels_max_pool: fn(&PoolGeometry, &[T], &mut [T]),
    pub(crate) conv_input_gradient: fn(&ConvGeometry, &[T], &[T], &mut [T]),
    pub(crate) conv_weight_gradient: fn(&ConvGeometry, &[T], &[T], &mut [T]),
    pub(crate) softmax: fn(usize, usize, &[T], &mut [T]),
    pub(crate) softmax_scaled_exponentials: fn(&[T], T, &mut [T]),
    pub(crate) softmax_log_softmax: fn(usize, usize, &[T], &mut [T]),
    pub(crate) softmax_softmax_backward: fn(usize, usize, &[T], &[T], &mut [T]),
    pub(crate) softmax_log_softmax_backward: fn(usize, usize, &[T], &[T], &mut [T]),
    pub(crate) norm_layer_norm_statistics: fn(usize, usize, f64, &[T], &mut [T], &mut [T]),
    pub(crate) norm_layer_norm_backward:
        fn(usize, usize, &[T], Option<&[T]>, &[T], &[T], &[T], &mut [T], Option<[&mut [T]; 2]>),
    pub(crate) norm_batch_norm_statistics: fn(usize, usize, usize, &[T], &mut [T], &mut [T]),
    pub(crate) norm_batch_norm_backward:
        fn(usize, usize, usize, f64, &[T], &[T], &[T], Option<&[T]>, &[T], &mut [T], &mut [T], &mut [T]),
    pub(crate) recurrent_lstm_forward:
        fn(usize, usize, usize, bool, &[T], &[T], &[T], &[T], &mut [T], &mut [T], &mut [T]),
    pub(crate) recurrent_lstm_backward: fn(
        usize,
        usize,
        usize,
        bool,
        &[T],
        &[T],
        &[T],
        &[T],
        &[T],
        &[T],
        &[T],
        &[T],
        &mut [T],
        Option<&mut [T]>,
        &mut [T],
    ),
    pub(crate) recurrent_gru_forward: fn(usize, usize, usize, bool, &[T], &[T], &[T], &[T], &mut [T], &mut [T]),
    pub(crate) recurrent_gru_backward:
        fn(usize, usize, usize, bool, &[T], &[T], &[T], &[T], &[T], bool, &mut [T], &mut [T], &mut [T]),
    pub(crate) ctc:
        fn(usize, usize, usize, usize, &[T], &[i64], usize, &[i64], &[i64], &mut [T], &mut [T]) -> Result<(), CtcError>,
    pub(crate) pool_sum_forward: fn(&PoolGeometry, &[T], &mut [T]),
    pub(crate) pool_sum_backward: fn(&PoolGeometry, &[T], &mut [T]),
    pub(crate) pool_scatter_plane: fn(usize, usize, &[i64], &[T], &mut [T]),
    pub(crate) patches_fold: fn(&PoolGeometry, &[T], &mut [T]),
    pub(crate) matmul: fn(usize, usize, usize, Operand<T>, Operand<T>, &mut [T]),
    pub(crate) matmul_packed: fn([usize; 3], &[T], &[T], &mut Buffer, Option<&Tail>),
    pub(crate) random_uniform: fn(Key, &mut [T]),
    pub(crate) random_normal: fn(Key, &mut [T]),
}

/// Kernels of any element type.
pub struct Elements<T: 'static> {
    pub(crate) copy_strided: fn(&[T], usize, &[usize], &[isize], &mut [T]),
    pub(crate) copy_into_window: fn(&[T], &[usize], &mut [T], &[usize], &[usize], &[usize]),
    pub(crate) index_take: fn(usize, usize, usize, &[T], &[i64], &mut [T]) -> Result<(), IndexError>,
    pub(crate) index_take_add: fn(usize, usize, usize, &[i64], &[T], &mut [T]) -> Result<(), IndexError>,
    pub(crate) index_gather: fn(&[T], &[usize], usize, &[i64], &[usize], &mut [T]) -> Result<(), IndexError>,
    pub(crate) index_scatter_add: fn(&mut [T], &[usize], usize, &[i64], &[usize], &[T]) -> Result<(), IndexError>,
    pub(crate) index_scatter_set: fn(&mut [T], &[usize], usize, &[i64], &[usize], &[T]) -> Result<(), IndexError>,
    pub(crate) scan_cumulative_sum: fn(usize, usize, usize, &[T], &mut [T]),
    pub(crate) scan_cumulative_product: fn(usize, usize, usize, &[T], &mut [T]),
    pub(crate) sort_argsort: fn(usize, usize, usize, &[T], bool, &mut [i64]),
    pub(crate) pool_max_forward: fn(&PoolGeometry, &[T], &mut [T], &mut [i64]),
    pub(crate) pool_gather_plane: fn(usize, usize, &[i64], &[T], &mut [T]),
    pub(crate) patches_unfold: fn(&PoolGeometry, &[T], &mut [T]),
    pub(crate) arg_argmax: fn(usize, usize, usize, &[T], &mut [i64]),
    pub(crate) arg_argmin: fn(usize, usize, usize, &[T], &mut [i64]),
}

impl<T: Float> Floats<T> {
    const TABLE: Floats<T> = Floats {
        attention_forward: attention::forward_body::<T>,
        attention_backward: attention::backward_body::<T>,
        conv_forward: conv::forward_body::<T>,
        channels_forward: conv::channels::forward_body::<T>,
        channels_forward_planes: conv::channels::forward_planes_body::<T>,
        channels_winograd: conv::channels::winograd::forward_body::<T>,
        channels_winograd_weights: conv::channels::winograd::weights_body::<T>,
        channels_max_pool: conv::channels::max_pool_body::<T>,
        conv_input_gradient: conv::input_gradient_body::<T>,
        conv_weight_gradient: conv::weight_gradient_body::<T>,
        softmax: softmax::softmax_body::<T>,
        softmax_scaled_exponentials: softmax::scaled_exponentials_body::<T>,
        softmax_log_softmax: softmax::log_softmax_body::<T>,
        softmax_softmax_backward: softmax::softmax_backward_body::<T>,
        softmax_log_softmax_backward: softmax::log_softmax_backward_body::<T>,
        norm_layer_norm_statistics: norm::layer_norm_statistics_body::<T>,
        norm_layer_norm_backward: norm::layer_norm_backward_body::<T>,
        norm_batch_norm_statistics: norm::batch_norm_statistics_body::<T>,
        norm_batch_norm_backward: norm::batch_norm_backward_body::<T>,
        recurrent_lstm_forward: recurrent::lstm_forward_body::<T>,
        recurrent_lstm_backward: recurrent::lstm_backward_body::<T>,
        recurrent_gru_forward: recurrent::gru_forward_body::<T>,
        recurrent_gru_backward: recurrent::gru_backward_body::<T>,
        ctc: ctc::ctc_body::<T>,
        pool_sum_forward: pool::sum_forward_body::<T>,
        pool_sum_backward: pool::sum_backward_body::<T>,
        pool_scatter_plane: pool::scatter_plane_body::<T>,
        patches_fold: patches::fold_body::<T>,
        matmul: matmul::matmul_body::<T>,
        matmul_packed: matmul::matmul_packed_body::<T>,
        random_uniform: random::uniform_body::<T>,
        random_normal: random::normal_body::<T>,
    };
}

impl<T: Number> Elements<T> {
    const TABLE: Elements<T> = Elements {
        copy_strided: copy::strided_body::<T>,
        copy_into_window: copy::into_window_body::<T>,
        index_take: index::take_body::<T>,
        index_take_add: index::take_add_body::<T>,
        index_gather: index::gather_body::<T>,
        index_scatter_add: index::scatter_add_body::<T>,
        index_scatter_set: index::scatter_set_body::<T>,
        scan_cumulative_sum: scan::cumulative_sum_body::<T>,
        scan_cumulative_product: scan::cumulative_product_body::<T>,
        sort_argsort: sort::argsort_body::<T>,
        pool_max_forward: pool::max_forward_body::<T>,
        pool_gather_plane: pool::gather_plane_body::<T>,
        patches_unfold: patches::unfold_body::<T>,
        arg_argmax: arg::argmax_body::<T>,
        arg_argmin: arg::argmin_body::<T>,
    };
}

/// Kernels of `f32`.
pub(crate) static FLOATS_F32: Floats<f32> = Floats::TABLE;
/// Kernels of `f64`.
pub(crate) static FLOATS_F64: Floats<f64> = Floats::TABLE;
/// Kernels of `f32` as of any element.
pub(crate) static ELEMENTS_F32: Elements<f32> = Elements::TABLE;
/// Kernels of `f64` as of any element.
pub(crate) static ELEMENTS_F64: Elements<f64> = Elements::TABLE;
/// Kernels of `i32` as of any element.
pub(crate) static ELEMENTS_I32: Elements<i32> = Elements::TABLE;
/// Kernels of `i64` as of any element.
pub(crate) static ELEMENTS_I64: Elements<i64> = Elements::TABLE;
/// Kernels of `u8` as of any element.
pub(crate) static ELEMENTS_U8: Elements<u8> = Elements::TABLE;
