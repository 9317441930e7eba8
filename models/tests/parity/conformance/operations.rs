//! Cases of single operations: odd sizes, batches, every activation, every way of broadcasting.

use kestrel_models::ops::{Act, Conv};
use kestrel_onboard::conformance::{Kind, Named, Tensors, Values};

use super::super::operations::{Case, prepare};
use super::super::runtimes::Data;
use super::Made;

const fn conv(kernel: usize, stride: usize, act: Act) -> Conv {
    Conv { kernel, stride, act }
}

fn cases() -> Vec<(&'static str, &'static str, Case)> {
    let mut all = convolutions();
    all.extend(affine());
    all.extend(rows());
    all.extend(attention());
    all
}

fn convolutions() -> Vec<(&'static str, &'static str, Case)> {
    vec![
        (
            "conv-3x3",
            "dense, odd map, ReLU6 cut at both ends",
            Case::Conv { map: [1, 7, 5, 3], out: 4, conv: conv(3, 1, Act::Relu6) },
        ),
        (
            "conv-3x3-stride-2-batch-2",
            "dense, even height and odd width: padding differs before and after",
            Case::Conv { map: [2, 6, 7, 3], out: 4, conv: conv(3, 2, Act::None) },
        ),
        (
            "conv-5x5-stride-2",
            "dense, kernel larger than half of the map",
            Case::Conv { map: [1, 7, 6, 2], out: 3, conv: conv(5, 2, Act::Relu) },
        ),
        (
            "conv-2x2-stride-3",
            "dense, even kernel, stride beyond the kernel",
            Case::Conv { map: [1, 8, 7, 2], out: 2, conv: conv(2, 3, Act::Silu) },
        ),
        (
            "conv-3x3-one-pixel",
            "dense, a map of one pixel in padding",
            Case::Conv { map: [1, 1, 1, 3], out: 4, conv: conv(3, 1, Act::None) },
        ),
        ("depthwise-3x3", "depthwise, odd map", Case::Depthwise { map: [1, 5, 7, 6], conv: conv(3, 1, Act::Relu6) }),
        (
            "depthwise-5x5-stride-2-batch-2",
            "depthwise, padding differs before and after",
            Case::Depthwise { map: [2, 6, 9, 3], conv: conv(5, 2, Act::None) },
        ),
        (
            "depthwise-3x3-stride-2-one-row",
            "depthwise, a map of one row",
            Case::Depthwise { map: [1, 1, 6, 2], conv: conv(3, 2, Act::None) },
        ),
        (
            "pointwise",
            "1×1 convolution with bias",
            Case::Pointwise { map: [2, 3, 5, 4], out: 6, bias: true, act: Act::Relu6 },
        ),
        (
            "pointwise-no-bias",
            "1×1 convolution without bias, to one channel",
            Case::Pointwise { map: [1, 4, 3, 5], out: 1, bias: false, act: Act::None },
        ),
        ("upsample-2", "nearest, twice", Case::Upsample { map: [2, 3, 5, 2], factor: 2 }),
        ("upsample-3", "nearest, three times, one column", Case::Upsample { map: [1, 4, 1, 3], factor: 3 }),
        ("map-to-rows-and-back", "layouts, with height and width exchanged", Case::ToMapAndBack { map: [2, 3, 4, 5] }),
        ("map-sum", "sum of maps", Case::MapSum { map: [2, 3, 5, 2], act: Act::Relu }),
        ("map-repeat", "a batch repeated, as map and as rows", Case::Repeat { map: [2, 2, 3, 2], times: 3 }),
        ("map-rms-norm", "RMSNorm over channels", Case::MapNorm { map: [2, 3, 2, 5], centred: false }),
        ("map-layer-norm", "LayerNorm over channels", Case::MapNorm { map: [1, 2, 3, 7], centred: true }),
    ]
}

fn affine() -> Vec<(&'static str, &'static str, Case)> {
    let linear = |rows, out, bias, act| Case::Linear { rows, out, bias, act };
    vec![
        ("linear", "affine rows", linear([2, 3, 5], 4, true, Act::None)),
        ("linear-no-bias", "affine rows without bias, to one number", linear([1, 7, 3], 1, false, Act::None)),
        ("linear-relu", "affine rows and ReLU", linear([2, 3, 5], 3, true, Act::Relu)),
        ("linear-relu6", "affine rows and ReLU6", linear([2, 3, 5], 3, true, Act::Relu6)),
        ("linear-gelu", "affine rows and the exact GELU", linear([2, 2, 5], 3, true, Act::Gelu)),
        ("linear-silu", "affine rows and SiLU", linear([1, 3, 5], 3, true, Act::Silu)),
        ("linear-sigmoid", "affine rows and the logistic", linear([1, 2, 7], 3, false, Act::Sigmoid)),
        (
            "embedding-tied",
            "rows looked up by integers, scored by the same matrix",
            Case::EmbeddingTied { length: 5, vocabulary: 11, dim: 3 },
        ),
    ]
}

fn rows() -> Vec<(&'static str, &'static str, Case)> {
    let element = |rows, broadcast, act| Case::Elementwise { rows, broadcast, act };
    let joined = |rows, axis, start| Case::ConcatNarrow { rows, axis, start };
    vec![
        (
            "select",
            "rows picked by integers, one of them twice",
            Case::Select { rows: [1, 5, 3], places: vec![4, 0, 4, 2] },
        ),
        ("rms-norm", "RMSNorm", Case::Norm { rows: [2, 3, 7], centred: false }),
        ("layer-norm", "LayerNorm", Case::Norm { rows: [2, 3, 7], centred: true }),
        ("elementwise-batch", "sum, product, parameter, scale; the batch broadcasts", element([2, 3, 5], 0, Act::Gelu)),
        ("elementwise-length", "the same, the rows broadcast", element([2, 3, 5], 1, Act::Sigmoid)),
        ("elementwise-width", "the same, the last axis broadcasts", element([2, 3, 5], 2, Act::None)),
        ("matmul-transposed", "rows by rows", Case::MatmulT { rows: [2, 3, 5], others: 4 }),
        ("softmax", "shares over an odd width", Case::Softmax { rows: [2, 3, 7] }),
        ("reshape", "rows in another shape", Case::Reshape { rows: [2, 3, 5] }),
        ("concat-narrow-batch", "joined with a constant and cut, along the batch", joined([2, 3, 2], 0, 1)),
        ("concat-narrow-length", "the same, along the rows", joined([2, 3, 2], 1, 2)),
        ("concat-narrow-width", "the same, along the last axis", joined([1, 3, 4], 2, 0)),
    ]
}

fn attention() -> Vec<(&'static str, &'static str, Case)> {
    let attend = |n, queries, keys, groups, kv_heads, head, mask| Case::Attention {
        n,
        queries,
        keys,
        groups,
        kv_heads,
        head,
        mask,
    };
    vec![
        (
            "rope-shared",
            "rotary positions, one table for the batch",
            Case::Rope { rows: [2, 5, 12], heads: 3, shared: true },
        ),
        (
            "rope-each",
            "rotary positions, a table for each of the batch",
            Case::Rope { rows: [2, 3, 8], heads: 2, shared: false },
        ),
        ("attention", "heads with keys of their own, no mask", attend(1, 3, 5, 1, 2, 3, 0)),
        ("attention-grouped", "three query heads for each key head, one mask", attend(2, 3, 4, 3, 2, 2, 1)),
        ("attention-masked-batch-2", "a mask for each of the batch", attend(2, 2, 5, 2, 1, 4, 2)),
        ("attention-one-key", "a single key takes all", attend(1, 4, 1, 1, 1, 3, 0)),
    ]
}

pub(super) fn made() -> Vec<Made> {
    cases()
        .into_iter()
        .zip(1..)
        .map(|((name, says, case), seed)| {
            let prepared = prepare(&case, seed);
            let inputs = prepared.feeds.into_iter().map(|feed| Named {
                name: feed.name.to_owned(),
                shape: feed.shape,
                values: match feed.data {
                    Data::Floats(data) => Values::F32(data),
                    Data::Integers(data) => Values::I64(data),
                },
            });
            let output = Named { name: "y".into(), shape: prepared.shape, values: Values::F32(prepared.expected) };
            let tensors = Tensors { inputs: inputs.collect(), outputs: vec![output] };
            Made::new(Kind::Operation, name, says, prepared.graph, tensors)
        })
        .collect()
}
