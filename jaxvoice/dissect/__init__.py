"""Take any model apart: tables, captured and edited activations, parts of functions, bending, pictures and sounds."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.dissect.bending import bend as bend, bend_weights as bend_weights
    from jaxvoice.dissect.bending_rules import Bend as Bend, BendingConfig as BendingConfig
    from jaxvoice.dissect.channels import (
        channel_mask as channel_mask,
        clusters as clusters,
        kernel_norms as kernel_norms,
        kernels as kernels,
        similarity as similarity,
        top_channels as top_channels,
    )
    from jaxvoice.dissect.controls import Control as Control
    from jaxvoice.dissect.named_results import (
        NamedValue as NamedValue,
        capture as capture,
        named_values as named_values,
        tag as tag,
    )
    from jaxvoice.dissect.operations import (
        OPERATIONS as OPERATIONS,
        Affine as Affine,
        Apply as Apply,
        Bias as Bias,
        Channels as Channels,
        Mask as Mask,
        Mix as Mix,
        Noise as Noise,
        OrderedMask as OrderedMask,
        Permute as Permute,
        Scale as Scale,
        Threshold as Threshold,
        interpolate as interpolate,
        register_function as register_function,
    )
    from jaxvoice.dissect.plots import (
        plot_activation as plot_activation,
        plot_audio as plot_audio,
        plot_kernels as plot_kernels,
        plot_norms as plot_norms,
        plot_similarity as plot_similarity,
    )
    from jaxvoice.dissect.sound import activation_rate as activation_rate, sonify as sonify
    from jaxvoice.dissect.subgraphs import resume as resume, subgraph as subgraph
    from jaxvoice.dissect.tables import (
        ActivationRow as ActivationRow,
        GraphRow as GraphRow,
        Table as Table,
        WeightRow as WeightRow,
        activations as activations,
        graph as graph,
        weights as weights,
    )

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "bending": ("bend", "bend_weights"),
        "bending_rules": ("Bend", "BendingConfig"),
        "channels": ("channel_mask", "clusters", "kernel_norms", "kernels", "similarity", "top_channels"),
        "controls": ("Control",),
        "named_results": ("NamedValue", "capture", "named_values", "tag"),
        "operations": (
            "OPERATIONS",
            "Affine",
            "Apply",
            "Bias",
            "Channels",
            "Mask",
            "Mix",
            "Noise",
            "OrderedMask",
            "Permute",
            "Scale",
            "Threshold",
            "interpolate",
            "register_function",
        ),
        "plots": ("plot_activation", "plot_audio", "plot_kernels", "plot_norms", "plot_similarity"),
        "sound": ("activation_rate", "sonify"),
        "subgraphs": ("resume", "subgraph"),
        "tables": ("ActivationRow", "GraphRow", "Table", "WeightRow", "activations", "graph", "weights"),
    },
)
