//! Layers: each a struct with its parameters, built by `Layer::new(sizes).option(…).init()`.

mod activation;
mod attention;
mod batch_norm;
mod cell;
pub mod conv;
mod dropout;
mod embedding;
mod linear;
mod norm;
mod pool;
mod position;
mod recurrent;
mod reshape;
mod sequential;
mod transformer;

pub use activation::{Activation, ActivationLayer, PRelu};
pub use attention::{Masks, MultiheadAttention, MultiheadAttentionConfig};
pub use batch_norm::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, InstanceNorm};
pub use conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use dropout::Dropout;
pub use embedding::{Embedding, EmbeddingConfig};
pub use linear::{Linear, LinearConfig};
pub use norm::{GroupNorm, LayerNorm, LocalResponseNorm, NormConfig, RmsNorm};
pub use pool::Pool;
pub use position::{LearnedPositions, SinusoidalPositions, sinusoidal_positions};
pub use recurrent::{Gru, Lstm, RecurrentCell, RecurrentConfig, Rnn};
pub use reshape::{Flatten, Unflatten, Upsample};
pub use sequential::{Layer, Sequential};
pub use transformer::{
    TransformerConfig, TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer,
};
