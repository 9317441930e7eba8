//! Shapes of the results of ONNX nodes, of the operators that our graphs use (source: the ONNX operators' documentation,
//! opset 17).

use tract_onnx::pb::NodeProto;

/// What is known of a value before anything is computed.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) shape: Vec<usize>,
    /// Whether it depends on no input of the graph.
    pub(super) is_constant: bool,
    /// Whether it comes out of DequantizeLinear.
    pub(super) is_dequantised: bool,
    /// Its values, where it is a short constant of integers, or of floats.
    pub(super) integers: Option<Vec<i64>>,
    pub(super) floats: Option<Vec<f32>>,
}

impl Known {
    /// Number of values; saturates.
    pub(super) fn elements(&self) -> u64 {
        elements(&self.shape)
    }
}

pub(super) fn elements(shape: &[usize]) -> u64 {
    shape.iter().fold(1_u64, |product, &side| product.saturating_mul(side as u64))
}

/// The integer attribute `name`, or its default.
pub(super) fn integer(node: &NodeProto, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name == name).map_or(default, |attribute| attribute.i)
}

/// The attribute `name` of a list of integers; empty where it is not given.
fn integers<'a>(node: &'a NodeProto, name: &str) -> &'a [i64] {
    node.attribute.iter().find(|attribute| attribute.name == name).map_or(&[], |attribute| &attribute.ints)
}

/// A place among `rank` axes; negative ones count from the end.
fn axis(at: i64, rank: usize) -> Result<usize, String> {
    let from_end = if at < 0 { at.saturating_add(rank as i64) } else { at };
    usize::try_from(from_end).ok().filter(|&at| at < rank).ok_or_else(|| format!("axis {at} of {rank}"))
}

fn side(value: i64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("a side of {value}"))
}

/// The shape of a node's first result; an error says what is wrong with it, or that the operator is not known.
pub(super) fn infer(node: &NodeProto, inputs: &[Option<Known>]) -> Result<Vec<usize>, String> {
    let given = |at: usize| inputs.get(at).and_then(Option::as_ref).ok_or_else(|| format!("no input {at}"));
    let list = |at: usize| {
        given(at)?.integers.clone().ok_or_else(|| format!("input {at} is not a short constant of integers"))
    };
    let x = given(0)?.shape.clone();
    match node.op_type.as_str() {
        "Cast" | "Clip" | "Relu" | "Sigmoid" | "Erf" | "Sqrt" | "Exp" | "Tanh" | "Neg" | "Identity" | "Softmax"
        | "QuantizeLinear" | "DequantizeLinear" => Ok(x),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" => broadcast(&x, &given(1)?.shape),
        "Conv" => convolution(node, &x, &given(1)?.shape),
        "MatMul" => product(&x, &given(1)?.shape),
        "ReduceMean" => {
            let keeps = integer(node, "keepdims", 1) != 0;
            let axes = if inputs.len() > 1 { list(1)? } else { integers(node, "axes").to_vec() };
            reduced(&x, &axes, keeps)
        }
        "Reshape" => reshaped(&x, &list(1)?),
        "Transpose" => {
            let order: Vec<i64> = match integers(node, "perm") {
                [] => (0..x.len() as i64).rev().collect(),
                order => order.to_vec(),
            };
            order.iter().map(|&at| Ok(x[axis(at, x.len())?])).collect()
        }
        "Concat" => {
            let at = axis(integer(node, "axis", 0), x.len())?;
            let mut shape = x;
            for index in 1..inputs.len() {
                shape[at] += given(index)?.shape.get(at).ok_or("parts of different ranks")?;
            }
            Ok(shape)
        }
        "Slice" => {
            let axes = if inputs.len() > 3 { list(3)? } else { (0..x.len() as i64).collect() };
            let steps = if inputs.len() > 4 { list(4)? } else { vec![1; axes.len()] };
            sliced(&x, &list(1)?, &list(2)?, &axes, &steps)
        }
        "Gather" => {
            let at = axis(integer(node, "axis", 0), x.len())?;
            Ok([&x[..at], given(1)?.shape.as_slice(), &x[at + 1..]].concat())
        }
        "Expand" => {
            let wanted: Vec<usize> = list(1)?.into_iter().map(side).collect::<Result<_, _>>()?;
            broadcast(&x, &wanted)
        }
        "Resize" => {
            let scales = given(2)?.floats.clone().ok_or("scales that are not constant")?;
            if scales.len() != x.len() {
                return Err(format!("{} scales for {} axes", scales.len(), x.len()));
            }
            Ok(x.iter().zip(scales).map(|(&side, scale)| (side as f32 * scale).floor() as usize).collect())
        }
        other => Err(format!("the operator {other}, which is not counted")),
    }
}

/// Numpy's broadcasting, from the last axis on.
fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(format!("{a:?} beside {b:?}")),
        })
        .collect()
}

fn convolution(node: &NodeProto, x: &[usize], w: &[usize]) -> Result<Vec<usize>, String> {
    let (&[n, _, height, width], &[out, _, high, wide]) = (x, w) else {
        return Err(format!("a convolution of {x:?} by {w:?}"));
    };
    let of = |name: &str, at: usize, default: i64| side(integers(node, name).get(at).copied().unwrap_or(default));
    let length = |at: usize, input: usize, kernel: usize| {
        let (before, after) = (of("pads", at, 0)?, of("pads", at + 2, 0)?);
        let (stride, dilation) = (of("strides", at, 1)?.max(1), of("dilations", at, 1)?);
        let covered = dilation * kernel.saturating_sub(1) + 1;
        let padded = input + before + after;
        padded.checked_sub(covered).map(|rest| rest / stride + 1).ok_or_else(|| format!("{padded} under {covered}"))
    };
    Ok(vec![n, out, length(0, height, high)?, length(1, width, wide)?])
}

fn product(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let ([left @ .., rows, inner], [right @ .., other, columns]) = (a, b) else {
        return Err(format!("a product of {a:?} and {b:?}"));
    };
    if inner != other {
        return Err(format!("a product of {a:?} and {b:?}"));
    }
    let mut shape = broadcast(left, right)?;
    shape.extend([*rows, *columns]);
    Ok(shape)
}

fn reduced(x: &[usize], axes: &[i64], keeps: bool) -> Result<Vec<usize>, String> {
    let axes: Vec<usize> = axes.iter().map(|&at| axis(at, x.len())).collect::<Result<_, _>>()?;
    let gone = |at: usize| axes.is_empty() || axes.contains(&at);
    let sides = x.iter().enumerate();
    Ok(match keeps {
        true => sides.map(|(at, &side)| if gone(at) { 1 } else { side }).collect(),
        false => sides.filter(|(at, _)| !gone(*at)).map(|(_, &side)| side).collect(),
    })
}

fn reshaped(x: &[usize], target: &[i64]) -> Result<Vec<usize>, String> {
    let mut shape = Vec::with_capacity(target.len());
    for (at, &wanted) in target.iter().enumerate() {
        shape.push(match wanted {
            0 => *x.get(at).ok_or("a 0 beyond the axes")?,
            -1 => 1,
            wanted => side(wanted)?,
        });
    }
    let (all, known) = (elements(x), elements(&shape));
    if let Some(open) = target.iter().position(|&wanted| wanted == -1) {
        shape[open] = usize::try_from(all.checked_div(known).unwrap_or(0)).unwrap_or(0);
    }
    if elements(&shape) == all { Ok(shape) } else { Err(format!("{x:?} as {target:?}")) }
}

fn sliced(x: &[usize], starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]) -> Result<Vec<usize>, String> {
    let mut shape = x.to_vec();
    for (((&start, &end), &at), &step) in starts.iter().zip(ends).zip(axes).zip(steps) {
        let at = axis(at, x.len())?;
        if step < 1 {
            return Err(format!("a slice with step {step}"));
        }
        let length = x[at] as i64;
        let place = |value: i64| (if value < 0 { value.saturating_add(length) } else { value }).clamp(0, length);
        let span = (place(end) - place(start)).max(0);
        shape[at] = side((span + step - 1) / step)?;
    }
    Ok(shape)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tract_onnx::pb::AttributeProto;

    use super::*;

    fn node(operator: &str, attributes: &[(&str, i64, &[i64])]) -> NodeProto {
        let attribute = attributes
            .iter()
            .map(|(name, i, ints)| AttributeProto {
                name: (*name).to_owned(),
                i: *i,
                ints: ints.to_vec(),
                ..Default::default()
            })
            .collect();
        NodeProto { op_type: operator.to_owned(), attribute, ..Default::default() }
    }

    fn shaped(shape: &[usize]) -> Option<Known> {
        Some(Known { shape: shape.to_vec(), ..Known::default() })
    }

    fn list(values: &[i64]) -> Option<Known> {
        Some(Known { shape: vec![values.len()], integers: Some(values.to_vec()), ..Known::default() })
    }

    #[test]
    fn shapes_are_those_of_the_specification() {
        let conv = node("Conv", &[("strides", 0, &[2, 2]), ("pads", 0, &[0, 1, 1, 1])]);
        let same = infer(&conv, &[shaped(&[2, 3, 8, 7]), shaped(&[4, 3, 3, 3])]).unwrap();
        assert_eq!(same, [2, 4, 4, 4]);
        let matmul = infer(&node("MatMul", &[]), &[shaped(&[2, 1, 5, 3]), shaped(&[4, 3, 6])]).unwrap();
        assert_eq!(matmul, [2, 4, 5, 6]);
        let add = infer(&node("Add", &[]), &[shaped(&[3, 1]), shaped(&[2, 1, 4])]).unwrap();
        assert_eq!(add, [2, 3, 4]);
        let reshape = infer(&node("Reshape", &[]), &[shaped(&[2, 3, 4]), list(&[0, -1])]).unwrap();
        assert_eq!(reshape, [2, 12]);
        let slice = infer(&node("Slice", &[]), &[shaped(&[5, 9]), list(&[1]), list(&[-1]), list(&[1])]).unwrap();
        assert_eq!(slice, [5, 7]);
        let gather = infer(&node("Gather", &[("axis", 1, &[])]), &[shaped(&[1, 9, 4]), shaped(&[3])]).unwrap();
        assert_eq!(gather, [1, 3, 4]);
        let mean = infer(&node("ReduceMean", &[("axes", 0, &[-1])]), &[shaped(&[2, 5])]).unwrap();
        assert_eq!(mean, [2, 1]);
        let turned = infer(&node("Transpose", &[("perm", 0, &[0, 2, 1])]), &[shaped(&[2, 3, 4])]).unwrap();
        assert_eq!(turned, [2, 4, 3]);
        let joined = infer(&node("Concat", &[("axis", -1, &[])]), &[shaped(&[2, 3]), shaped(&[2, 5])]).unwrap();
        assert_eq!(joined, [2, 8]);
    }

    /// What would break: a figure for a graph that was not understood.
    #[test]
    fn what_does_not_fit_is_said() {
        for (operator, inputs, words) in [
            ("LSTM", vec![shaped(&[1])], "LSTM"),
            ("MatMul", vec![shaped(&[2, 3]), shaped(&[4, 5])], "product"),
            ("Add", vec![shaped(&[2]), shaped(&[3])], "beside"),
            ("Reshape", vec![shaped(&[6]), list(&[4])], "[6] as [4]"),
            ("Reshape", vec![shaped(&[6]), shaped(&[1])], "not a short constant"),
            ("Conv", vec![shaped(&[1, 1, 2, 2]), shaped(&[1, 1, 3, 3])], "2 under 3"),
            ("Conv", vec![shaped(&[1, 1, 2, 2])], "no input 1"),
            ("Slice", vec![shaped(&[4]), list(&[0]), list(&[4]), list(&[1])], "axis 1 of 1"),
        ] {
            let error = infer(&node(operator, &[]), &inputs).unwrap_err();
            assert!(error.contains(words), "{operator}: {error}");
        }
    }
}
