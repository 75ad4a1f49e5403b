"""Layers that two or more models share: convolutions, norms, attention, LSTM, dropout; and their streaming forms."""

from jaxvoice._lazy import list_public
from jaxvoice.nn._attention import MultiHeadAttention as MultiHeadAttention, TransformerLayer as TransformerLayer
from jaxvoice.nn._batch_norm import (
    BatchNormState as BatchNormState,
    FixedBatchNorm as FixedBatchNorm,
    MaskedBatchNorm as MaskedBatchNorm,
)
from jaxvoice.nn._conv import (
    ColumnConv as ColumnConv,
    Conv1d as Conv1d,
    Conv2d as Conv2d,
    ConvTranspose1d as ConvTranspose1d,
)
from jaxvoice.nn._frozen import freeze as freeze
from jaxvoice.nn._inputs import length_mask as length_mask, masked as masked
from jaxvoice.nn._linear import (
    Embedding as Embedding,
    GroupNorm as GroupNorm,
    LayerNorm as LayerNorm,
    Linear as Linear,
)
from jaxvoice.nn._module import Module as Module, operation as operation, submodules as submodules
from jaxvoice.nn._norm import (
    SpectralConv1d as SpectralConv1d,
    SpectralNormState as SpectralNormState,
    fold_weight_norm as fold_weight_norm,
    spectral_norm as spectral_norm,
    weight_norm as weight_norm,
)
from jaxvoice.nn._ops import average_pool1d as average_pool1d
from jaxvoice.nn._pointwise_forms import (
    IndexForm as IndexForm,
    PointwiseForm as PointwiseForm,
    StatefulForm as StatefulForm,
    draw_for_positions as draw_for_positions,
)
from jaxvoice.nn._random import dropout as dropout, subkeys as subkeys
from jaxvoice.nn._recurrent import GRU as GRU, LSTM as LSTM, LSTMShape as LSTMShape
from jaxvoice.nn._relative_attention import (
    RelativeAttention as RelativeAttention,
    relative_positions as relative_positions,
)
from jaxvoice.nn._streaming import (
    ParallelForm as ParallelForm,
    SequenceForm as SequenceForm,
    Stream as Stream,
    StreamState as StreamState,
    add_all as add_all,
    average_pool_form as average_pool_form,
    residual_form as residual_form,
    streaming_form as streaming_form,
)
from jaxvoice.nn._streaming_forms import (
    Block as Block,
    DelayForm as DelayForm,
    StreamingForm as StreamingForm,
    Timing as Timing,
)
from jaxvoice.nn._upsampled import UpsampledConv1d as UpsampledConv1d
from jaxvoice.nn._window_forms import TransposedForm as TransposedForm, WindowForm as WindowForm

__dir__ = list_public(globals())
