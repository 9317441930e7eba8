//! Every operation of the trait, on random shapes and numbers.

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::error::Result;
use kestrel_models::onnx::Onnx;
use kestrel_models::ops::{Act, Conv, Init, Ops};
use kestrel_models::weights::Weights;
use proptest::prelude::*;

use super::runtimes::{Data, Feed, onnx_runtime, tract};
use super::{TOLERANCE, difference, noises};

const ACTS: [Act; 6] = [Act::None, Act::Relu, Act::Relu6, Act::Gelu, Act::Silu, Act::Sigmoid];

/// One operation with its shapes. Maps are `[n, h, w, c]`, rows `[n, l, d]`.
#[derive(Debug, Clone)]
pub(super) enum Case {
    Conv { map: [usize; 4], out: usize, conv: Conv },
    Depthwise { map: [usize; 4], conv: Conv },
    Pointwise { map: [usize; 4], out: usize, bias: bool, act: Act },
    Linear { rows: [usize; 3], out: usize, bias: bool, act: Act },
    Upsample { map: [usize; 4], factor: usize },
    ToMapAndBack { map: [usize; 4] },
    EmbeddingTied { length: usize, vocabulary: usize, dim: usize },
    Select { rows: [usize; 3], places: Vec<usize> },
    Norm { rows: [usize; 3], centred: bool },
    MapNorm { map: [usize; 4], centred: bool },
    Rope { rows: [usize; 3], heads: usize, shared: bool },
    Attention { n: usize, queries: usize, keys: usize, groups: usize, kv_heads: usize, head: usize, mask: usize },
    Elementwise { rows: [usize; 3], broadcast: usize, act: Act },
    MapSum { map: [usize; 4], act: Act },
    MatmulT { rows: [usize; 3], others: usize },
    Softmax { rows: [usize; 3] },
    Reshape { rows: [usize; 3] },
    ConcatNarrow { rows: [usize; 3], axis: usize, start: usize },
    Repeat { map: [usize; 4], times: usize },
}

impl Case {
    /// Shapes of the inputs; integers are given with what they count.
    fn inputs(&self) -> Vec<(Vec<usize>, Option<Vec<usize>>)> {
        let float = |shape: &[usize]| (shape.to_vec(), None);
        match self {
            Case::Conv { map, .. }
            | Case::Depthwise { map, .. }
            | Case::Pointwise { map, .. }
            | Case::Upsample { map, .. }
            | Case::ToMapAndBack { map }
            | Case::MapNorm { map, .. }
            | Case::Repeat { map, .. } => vec![float(map)],
            Case::MapSum { map, .. } => vec![float(map), float(map)],
            Case::Linear { rows, .. } | Case::Norm { rows, .. } | Case::Softmax { rows } | Case::Reshape { rows } => {
                vec![float(rows)]
            }
            Case::EmbeddingTied { length, vocabulary, .. } => {
                vec![(vec![1, *length], Some((0..*length).map(|i| i * 7 % vocabulary).collect()))]
            }
            Case::Select { rows, places } => vec![float(rows), (vec![1, places.len()], Some(places.clone()))],
            Case::Rope { rows: [n, l, d], heads, shared } => {
                let table = [if *shared { 1 } else { *n }, *l, d / heads / 2];
                vec![float(&[*n, *l, *d]), float(&table), float(&table)]
            }
            Case::Attention { n, queries, keys, groups, kv_heads, head, mask } => {
                let kv = [*n, *keys, kv_heads * head];
                let mut all = vec![float(&[*n, *queries, groups * kv_heads * head]), float(&kv), float(&kv)];
                if *mask > 0 {
                    all.push(float(&[if *mask == 1 { 1 } else { *n }, *queries, *keys]));
                }
                all
            }
            Case::Elementwise { rows, broadcast, .. } => {
                let mut other = *rows;
                other[*broadcast] = 1;
                vec![float(rows), float(&other)]
            }
            Case::MatmulT { rows: [n, l, d], others } => vec![float(&[*n, *l, *d]), float(&[*n, *others, *d])],
            Case::ConcatNarrow { rows, axis, .. } => {
                let mut other = *rows;
                other[*axis] += 2;
                vec![float(rows), float(&other)]
            }
        }
    }

    fn build<O: Ops>(&self, ops: &mut O, x: &[O::T]) -> Result<O::T> {
        let y = match self {
            Case::Conv { out, conv, .. } => ops.conv(&x[0], "p", *out, *conv)?,
            Case::Depthwise { conv, .. } => ops.depthwise(&x[0], "p", *conv)?,
            Case::Pointwise { out, bias, act, .. } | Case::Linear { out, bias, act, .. } => {
                ops.linear(&x[0], "p", *out, *bias, *act)?
            }
            Case::Upsample { factor, .. } => ops.upsample_nearest(&x[0], *factor)?,
            Case::ToMapAndBack { map: [_, h, w, _] } => {
                let rows = ops.to_rows(&x[0])?;
                // Another height and width than it came from, so that a transposition shows.
                let map = ops.to_map(&rows, h * w, 1)?;
                let map = ops.linear(&map, "p", 3, true, Act::None)?;
                let rows = ops.to_rows(&map)?;
                ops.to_map(&rows, *w, *h)?
            }
            Case::EmbeddingTied { vocabulary, dim, .. } => {
                let rows = ops.embedding(&x[0], "p", *vocabulary, *dim)?;
                ops.linear(&rows, "p", *vocabulary, false, Act::None)?
            }
            Case::Select { .. } => ops.select(&x[0], &x[1])?,
            Case::Norm { centred: true, .. } | Case::MapNorm { centred: true, .. } => {
                ops.layer_norm(&x[0], "p", 1e-5)?
            }
            Case::Norm { .. } | Case::MapNorm { .. } => ops.rms_norm(&x[0], "p", 1e-6)?,
            Case::Rope { heads, .. } => ops.rope(&x[0], *heads, &x[1], &x[2])?,
            Case::Attention { groups, kv_heads, .. } => {
                ops.attention(&x[0], &x[1], &x[2], groups * kv_heads, *kv_heads, x.get(3))?
            }
            Case::Elementwise { act, rows: [_, _, d], .. } => {
                let sum = ops.add(&x[0], &x[1])?;
                let product = ops.mul(&x[1], &sum)?;
                let offset = ops.parameter("q", &[1, 1, *d], Init::Normal(1.0))?;
                let shifted = ops.add(&product, &offset)?;
                let scaled = ops.scale(&shifted, 1.7)?;
                ops.activate(&scaled, *act)?
            }
            Case::MapSum { act, .. } => {
                let sum = ops.add(&x[0], &x[1])?;
                ops.activate(&sum, *act)?
            }
            Case::MatmulT { .. } => ops.matmul_t(&x[0], &x[1])?,
            Case::Softmax { .. } => ops.softmax(&x[0])?,
            Case::Reshape { rows: [n, l, d] } => ops.reshape(&x[0], &[*n, *d, *l])?,
            Case::ConcatNarrow { axis, start, rows } => {
                let constant = ops.constant(&noises(5, rows.iter().product(), 1.0), rows)?;
                let joined = ops.concat(&[x[0].clone(), x[1].clone(), constant], *axis)?;
                ops.narrow(&joined, *axis, *start, rows[*axis] + 1)?
            }
            Case::Repeat { times, .. } => {
                let map = ops.repeat_batch(&x[0], *times)?;
                let rows = ops.to_rows(&map)?;
                return ops.repeat_batch(&rows, *times);
            }
        };
        if ops.shape(&y).len() == 4 { ops.to_rows(&y) } else { Ok(y) }
    }
}

fn case() -> impl Strategy<Value = Case> {
    let map = || (1usize..3, 1usize..9, 1usize..9, 1usize..6).prop_map(|(n, h, w, c)| [n, h, w, c]);
    let rows = || (1usize..3, 2usize..9, 1usize..9).prop_map(|(n, l, d)| [n, l, d]);
    let act = || prop::sample::select(ACTS.to_vec());
    let conv = || {
        (prop::sample::select(vec![1usize, 2, 3, 5]), 1usize..4, act()).prop_map(|(kernel, stride, act)| Conv {
            kernel,
            stride,
            act,
        })
    };
    prop_oneof![
        (map(), 1usize..6, conv()).prop_map(|(map, out, conv)| Case::Conv { map, out, conv }),
        (map(), conv()).prop_map(|(map, conv)| Case::Depthwise { map, conv }),
        (map(), 1usize..6, any::<bool>(), act()).prop_map(|(map, out, bias, act)| Case::Pointwise {
            map,
            out,
            bias,
            act
        }),
        (rows(), 1usize..6, any::<bool>(), act()).prop_map(|(rows, out, bias, act)| Case::Linear {
            rows,
            out,
            bias,
            act
        }),
        (map(), 2usize..4).prop_map(|(map, factor)| Case::Upsample { map, factor }),
        map().prop_map(|map| Case::ToMapAndBack { map }),
        (1usize..9, 2usize..12, 1usize..6).prop_map(|(length, vocabulary, dim)| Case::EmbeddingTied {
            length,
            vocabulary,
            dim
        }),
        (rows(), prop::collection::vec(0usize..2, 1..4))
            .prop_map(|([_, l, d], places)| Case::Select { rows: [1, l, d], places }),
        (rows(), any::<bool>()).prop_map(|(rows, centred)| Case::Norm { rows, centred }),
        (map(), any::<bool>()).prop_map(|(map, centred)| Case::MapNorm { map, centred }),
        (rows(), 1usize..4, any::<bool>()).prop_map(|([n, l, d], heads, shared)| Case::Rope {
            rows: [n, l, heads * 2 * d],
            heads,
            shared
        }),
        (1usize..3, 1usize..6, 1usize..6, 1usize..4, 1usize..3, 1usize..5, 0usize..3).prop_map(
            |(n, queries, keys, groups, kv_heads, head, mask)| Case::Attention {
                n,
                queries,
                keys,
                groups,
                kv_heads,
                head,
                mask
            }
        ),
        (rows(), 0usize..3, act()).prop_map(|(rows, broadcast, act)| Case::Elementwise { rows, broadcast, act }),
        (map(), act()).prop_map(|(map, act)| Case::MapSum { map, act }),
        (rows(), 1usize..6).prop_map(|(rows, others)| Case::MatmulT { rows, others }),
        rows().prop_map(|rows| Case::Softmax { rows }),
        rows().prop_map(|rows| Case::Reshape { rows }),
        (rows(), 0usize..3, 0usize..3).prop_map(|(rows, axis, start)| Case::ConcatNarrow { rows, axis, start }),
        (map(), 1usize..4).prop_map(|(map, times)| Case::Repeat { map, times }),
    ]
}

fn names() -> [&'static str; 4] {
    ["a", "b", "c", "d"]
}

/// Random parameters of the shapes the definition asks for, in half precision.
fn parameters(case: &Case, x: &[Tensor], seed: u64) -> Weights {
    let made = Params::new(&Device::Cpu, seed);
    case.build(&mut Candle::evaluating(&made), x).unwrap();
    let mut weights = Weights::new();
    for (index, (name, (shape, data))) in Weights::from_params(&made).unwrap().into_iter().enumerate() {
        weights.insert(name, shape, noises(seed + index as u64, data.len(), 0.7)).unwrap();
    }
    weights.round_f16().unwrap();
    weights
}

fn channel_first(shape: &[usize], data: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let &[n, h, w, c] = shape else { return (shape.to_vec(), data.to_vec()) };
    let at = |i: usize| {
        let (b, ch, y, x) = (i / (c * h * w), i / (h * w) % c, i / w % h, i % w);
        data[((b * h + y) * w + x) * c + ch]
    };
    (vec![n, c, h, w], (0..data.len()).map(at).collect())
}

/// A case with numbers: its graph, what the graph is given, and what candle makes of it.
pub(super) struct Prepared {
    pub(super) graph: Vec<u8>,
    pub(super) feeds: Vec<Feed>,
    pub(super) shape: Vec<usize>,
    pub(super) expected: Vec<f32>,
}

pub(super) fn prepare(case: &Case, seed: u64) -> Prepared {
    let mut tensors = Vec::new();
    let mut feeds = Vec::new();
    let inputs = case.inputs();
    for (index, (shape, integers)) in inputs.iter().enumerate() {
        let name = names()[index];
        if let Some(integers) = integers {
            let ids: Vec<u32> = integers.iter().map(|&i| i as u32).collect();
            tensors.push(Tensor::from_slice(&ids, shape.as_slice(), &Device::Cpu).unwrap());
            let data = Data::Integers(integers.iter().map(|&i| i as i64).collect());
            feeds.push(Feed { name, shape: shape.clone(), data });
        } else {
            // Wide enough that ReLU6 cuts at both ends.
            let values = noises(seed ^ (index as u64 + 100), shape.iter().product(), 4.0);
            tensors.push(Tensor::from_slice(&values, shape.as_slice(), &Device::Cpu).unwrap());
            let (shape, values) = channel_first(shape, &values);
            feeds.push(Feed { name, shape, data: Data::Floats(values) });
        }
    }
    let weights = parameters(case, &tensors, seed);
    let params = weights.to_params(&Device::Cpu).unwrap();
    let candle = case.build(&mut Candle::evaluating(&params), &tensors).unwrap();
    let expected: Vec<f32> = candle.flatten_all().unwrap().to_vec1().unwrap();

    let mut onnx = Onnx::new(&weights);
    let values: Vec<_> = inputs
        .iter()
        .zip(names())
        .map(|((shape, integers), name)| match (integers, shape.len()) {
            (Some(_), _) => onnx.input_integers(name, shape),
            (None, 4) => onnx.input_map(name, shape).unwrap(),
            _ => onnx.input_rows(name, shape),
        })
        .collect();
    let y = case.build(&mut onnx, &values).unwrap();
    let shape = onnx.shape(&y);
    assert_eq!(shape, candle.dims(), "{case:?}");
    onnx.output("y", &y, &shape).unwrap();
    Prepared { graph: onnx.finish("case"), feeds, shape, expected }
}

fn agree(case: &Case, seed: u64) {
    let Prepared { graph, feeds, expected, .. } = prepare(case, seed);
    let in_tract = tract(&graph, &feeds);
    assert!(
        difference(&expected, &in_tract[0]) < TOLERANCE,
        "tract differs: {case:?}\n{expected:?}\n{:?}",
        in_tract[0]
    );
    if let Some(in_ort) = onnx_runtime(&graph, &feeds) {
        assert!(difference(&expected, &in_ort[0]) < TOLERANCE, "ONNX Runtime differs: {case:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_operation_means_the_same_everywhere(case in case(), seed in 0u64..1000) {
        agree(&case, seed);
    }
}
