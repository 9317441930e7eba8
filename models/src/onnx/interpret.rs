//! [`Ops`] as ONNX nodes.

use tract_onnx::pb::tensor_proto::DataType;

use super::{Attribute, Layout, Onnx, Order, Value, count, misshapen};
use crate::error::Result;
use crate::ops::{Act, Conv, Init, Ops};
use crate::quantise::residual;

/// Padding before and after along one axis (TensorFlow SAME), and the output's length.
fn same(input: usize, kernel: usize, stride: usize) -> (i64, i64, usize) {
    let out = input.div_ceil(stride);
    let total = ((out - 1) * stride + kernel).saturating_sub(input);
    ((total / 2) as i64, (total - total / 2) as i64, out)
}

fn expect_map(operation: &'static str, name: &str, x: &Value) -> Result<[usize; 4]> {
    match (x.layout, x.shape.as_slice()) {
        (Layout::Map, &[n, h, w, c]) if n * h * w * c > 0 => Ok([n, h, w, c]),
        _ => Err(misshapen(operation, name, "a map [N, H, W, C]", &x.shape)),
    }
}

fn expect_rows(operation: &'static str, name: &str, x: &Value) -> Result<[usize; 3]> {
    match (x.layout, x.shape.as_slice()) {
        (Layout::Rows, &[n, l, d]) => Ok([n, l, d]),
        _ => Err(misshapen(operation, name, "rows [N, L, D]", &x.shape)),
    }
}

fn expect_integers(operation: &'static str, x: &Value) -> Result<[usize; 2]> {
    match (x.kind, x.shape.as_slice()) {
        (DataType::Int64, &[n, l]) => Ok([n, l]),
        _ => Err(misshapen(operation, &x.name, "integers [N, L]", &x.shape)),
    }
}

/// Whether a rotary or mask table fits `[N or 1, rows, columns]`.
fn expect_table(operation: &'static str, name: &str, x: &Value, expected: [usize; 3]) -> Result<()> {
    let [n, l, d] = expect_rows(operation, name, x)?;
    if (n == 1 || n == expected[0]) && [l, d] == expected[1..] {
        return Ok(());
    }
    Err(misshapen(operation, name, &format!("[{} or 1, {}, {}]", expected[0], expected[1], expected[2]), &x.shape))
}

/// The shape of an element-wise result; axes of length 1 broadcast.
fn broadcast(operation: &'static str, a: &Value, b: &Value) -> Result<Vec<usize>> {
    let fits = |(&x, &y): (&usize, &usize)| x == y || x == 1 || y == 1;
    if a.layout != b.layout || a.shape.len() != b.shape.len() || !a.shape.iter().zip(&b.shape).all(fits) {
        let expected = format!("a {:?} that broadcasts with {:?}", a.layout, a.shape);
        return Err(misshapen(operation, &b.name, &expected, &b.shape));
    }
    Ok(a.shape.iter().zip(&b.shape).map(|(&x, &y)| if x == 1 { y } else { x }).collect())
}

impl Onnx<'_> {
    /// A convolution node and its activation. `weight` and the bias `name.bias` are in place.
    fn convolve(
        &mut self,
        x: &Value,
        name: &str,
        weight: &str,
        [out, groups]: [usize; 2],
        conv: Conv,
    ) -> Result<Value> {
        let [n, h, w, _] = expect_map("conv", name, x)?;
        if conv.kernel == 0 || conv.stride == 0 {
            return Err(misshapen("conv", name, "a kernel and a stride", &[conv.kernel, conv.stride]));
        }
        let bias = self.weight(&format!("{name}.bias"), &[out], Order::Plain)?;
        self.convolve_with(x, name, &[weight, &bias], groups, conv, [n, h, w, out])
    }

    fn convolve_with(
        &mut self,
        x: &Value,
        name: &str,
        parameters: &[&str],
        groups: usize,
        conv: Conv,
        [n, h, w, out]: [usize; 4],
    ) -> Result<Value> {
        let (top, bottom, rows) = same(h, conv.kernel, conv.stride);
        let (left, right, columns) = same(w, conv.kernel, conv.stride);
        let attributes = [
            ("kernel_shape", Attribute::Ints(&[conv.kernel as i64; 2])),
            ("strides", Attribute::Ints(&[conv.stride as i64; 2])),
            ("pads", Attribute::Ints(&[top, left, bottom, right])),
            ("group", Attribute::Int(groups as i64)),
        ];
        let inputs: Vec<&str> = std::iter::once(x.name.as_str()).chain(parameters.iter().copied()).collect();
        let output = self.node("Conv", name, &inputs, &attributes);
        let y = Value { name: output, shape: vec![n, rows, columns, out], layout: Layout::Map, kind: DataType::Float };
        Ok(self.act(&y, conv.act))
    }

    /// `[in, out]` of `name.weight`, transposed here or, where the plain matrix is stored already, in the graph.
    fn transposed(&mut self, name: &str, out: usize, input: usize) -> Result<String> {
        let name = format!("{name}.weight");
        if !self.initialisers.contains_key(&name) {
            return self.weight(&name, &[out, input], Order::Transposed);
        }
        let plain = self.weight(&name, &[out, input], Order::Plain)?;
        Ok(self.node("Transpose", &format!("{name}/turned"), &[&plain], &[("perm", Attribute::Ints(&[1, 0]))]))
    }
}

impl Ops for Onnx<'_> {
    type T = Value;

    fn shape(&self, x: &Value) -> Vec<usize> {
        x.shape.clone()
    }

    fn parameter(&mut self, name: &str, shape: &[usize], _init: Init) -> Result<Value> {
        let value = self.weight(name, shape, Order::Plain)?;
        Ok(Value { name: value, shape: shape.to_vec(), layout: Layout::Rows, kind: DataType::Float })
    }

    fn constant(&mut self, data: &[f32], shape: &[usize]) -> Result<Value> {
        if data.len() != count(shape) {
            return Err(misshapen("constant", "constant", &format!("{} entries", data.len()), shape));
        }
        let name = if self.is_quantised() { self.compact(data, shape) } else { self.floats(data, shape) };
        Ok(Value { name, shape: shape.to_vec(), layout: Layout::Rows, kind: DataType::Float })
    }

    fn conv(&mut self, x: &Value, name: &str, out: usize, conv: Conv) -> Result<Value> {
        let [_, _, _, c] = expect_map("conv", name, x)?;
        let shape = [out, conv.kernel, conv.kernel, c];
        let weight = self.weight(&format!("{name}.weight"), &shape, Order::Dense)?;
        let x = self.at(name, x);
        self.convolve(&x, name, &weight, [out, 1], conv)
    }

    fn depthwise(&mut self, x: &Value, name: &str, conv: Conv) -> Result<Value> {
        let [_, _, _, c] = expect_map("depthwise", name, x)?;
        let weight = self.weight(&format!("{name}.weight"), &[conv.kernel, conv.kernel, c], Order::Depthwise)?;
        let x = self.at(name, x);
        self.convolve(&x, name, &weight, [c, c], conv)
    }

    fn linear(&mut self, x: &Value, name: &str, out: usize, bias: bool, act: Act) -> Result<Value> {
        if x.layout == Layout::Map {
            let [n, h, w, c] = expect_map("linear", name, x)?;
            let weight = self.weight(&format!("{name}.weight"), &[out, c], Order::Pointwise)?;
            let conv = Conv { kernel: 1, stride: 1, act };
            let x = &self.at(name, x);
            if bias {
                return self.convolve(x, name, &weight, [out, 1], conv);
            }
            return self.convolve_with(x, name, &[&weight], 1, conv, [n, h, w, out]);
        }
        let Some((&input, leading)) = x.shape.split_last() else {
            return Err(misshapen("linear", name, "at least one axis", &x.shape));
        };
        let weight = self.transposed(name, out, input)?;
        let shape = [leading, &[out]].concat();
        let x = self.at(name, x);
        let output = self.node("MatMul", name, &[&x.name, &weight], &[]);
        let mut y = Value { name: output, shape, layout: Layout::Rows, kind: DataType::Float };
        if bias {
            let bias = self.weight(&format!("{name}.bias"), &[out], Order::Plain)?;
            y = self.pair("Add", &y, &bias);
        }
        Ok(self.act(&y, act))
    }

    fn upsample_nearest(&mut self, x: &Value, factor: usize) -> Result<Value> {
        let [n, h, w, c] = expect_map("upsample_nearest", &x.name, x)?;
        let scales = self.floats(&[1.0, 1.0, factor as f32, factor as f32], &[4]);
        let attributes = [
            ("mode", Attribute::Text("nearest")),
            ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
            ("nearest_mode", Attribute::Text("floor")),
        ];
        let shape = [n, h * factor, w * factor, c];
        Ok(self.value("Resize", &[&x.name, "", &scales], &attributes, (&shape, Layout::Map)))
    }

    fn to_rows(&mut self, x: &Value) -> Result<Value> {
        let [n, h, w, c] = expect_map("to_rows", &x.name, x)?;
        let flat = self.reshape(x, &[n, c, h * w]);
        Ok(self.transpose(&flat, &[0, 2, 1]))
    }

    fn to_map(&mut self, x: &Value, height: usize, width: usize) -> Result<Value> {
        let [n, l, c] = expect_rows("to_map", &x.name, x)?;
        if l != height * width {
            return Err(misshapen("to_map", &x.name, &format!("{height} · {width} rows"), &x.shape));
        }
        let turned = self.transpose(x, &[0, 2, 1]);
        let map = self.reshape(&turned, &[n, c, height, width]);
        Ok(Value { shape: vec![n, height, width, c], layout: Layout::Map, ..map })
    }

    fn embedding(&mut self, ids: &Value, name: &str, vocabulary: usize, dim: usize) -> Result<Value> {
        let [n, l] = expect_integers("embedding", ids)?;
        let table = self.weight(&format!("{name}.weight"), &[vocabulary, dim], Order::Plain)?;
        let attributes = [("axis", Attribute::Int(0))];
        Ok(self.value("Gather", &[&table, &ids.name], &attributes, (&[n, l, dim], Layout::Rows)))
    }

    fn select(&mut self, x: &Value, index: &Value) -> Result<Value> {
        let [n, _, d] = expect_rows("select", &x.name, x)?;
        let [_, k] = expect_integers("select", index)?;
        if n != 1 || index.shape[0] != 1 {
            return Err(misshapen("select", &x.name, "a batch of one", &x.shape));
        }
        let flat = self.reshape(index, &[k]);
        let attributes = [("axis", Attribute::Int(1))];
        Ok(self.value("Gather", &[&x.name, &flat.name], &attributes, (&[1, k, d], Layout::Rows)))
    }

    fn rms_norm(&mut self, x: &Value, name: &str, eps: f32) -> Result<Value> {
        self.normalise(x, name, eps)
    }

    fn layer_norm(&mut self, x: &Value, name: &str, eps: f32) -> Result<Value> {
        self.normalise_centred(x, name, eps)
    }

    fn rope(&mut self, x: &Value, heads: usize, cos: &Value, sin: &Value) -> Result<Value> {
        let [n, l, width] = expect_rows("rope", &x.name, x)?;
        if heads == 0 || width % (2 * heads) != 0 {
            return Err(misshapen("rope", &x.name, &format!("{heads} heads of even width"), &x.shape));
        }
        let d = width / heads;
        expect_table("rope", "cos", cos, [n, l, d / 2])?;
        expect_table("rope", "sin", sin, [n, l, d / 2])?;
        let by_head = self.reshape(x, &[n, l, heads, d]);
        let turned = self.rotate(&by_head, cos, sin);
        Ok(self.reshape(&turned, &[n, l, width]))
    }

    fn attention(
        &mut self,
        q: &Value,
        k: &Value,
        v: &Value,
        heads: usize,
        kv_heads: usize,
        mask: Option<&Value>,
    ) -> Result<Value> {
        let [n, queries, width] = expect_rows("attention", "q", q)?;
        let [_, keys, k_width] = expect_rows("attention", "k", k)?;
        let [_, _, v_width] = expect_rows("attention", "v", v)?;
        let divides = |width: usize, heads: usize| heads > 0 && width.is_multiple_of(heads);
        if !divides(width, heads) || !divides(heads, kv_heads) || !divides(v_width, kv_heads) {
            return Err(misshapen("attention", "q", &format!("{heads} heads over {kv_heads}"), &q.shape));
        }
        let d = width / heads;
        if [k.shape[0], k_width] != [n, kv_heads * d] || v.shape[..2] != k.shape[..2] {
            return Err(misshapen("attention", "k", &format!("[{n}, Lk, {}] and v alike", kv_heads * d), &k.shape));
        }
        if let Some(mask) = mask {
            expect_table("attention", "mask", mask, [n, queries, keys])?;
        }
        let q = self.reshape(q, &[n, queries, heads, d]);
        let k = self.reshape(k, &[n, keys, kv_heads, d]);
        let v = self.reshape(v, &[n, keys, kv_heads, v_width / kv_heads]);
        let mixed = self.attend(&q, &k, &v, mask);
        Ok(self.reshape(&mixed, &[n, queries, heads * (v_width / kv_heads)]))
    }

    fn softmax(&mut self, x: &Value) -> Result<Value> {
        expect_rows("softmax", &x.name, x)?;
        Ok(self.shares(x))
    }

    fn activate(&mut self, x: &Value, act: Act) -> Result<Value> {
        Ok(self.act(x, act))
    }

    fn add(&mut self, a: &Value, b: &Value) -> Result<Value> {
        let shape = broadcast("add", a, b)?;
        Ok(self.value("Add", &[&a.name, &b.name], &[], (&shape, a.layout)))
    }

    fn residual(&mut self, branch: &Value, identity: &Value, name: &str) -> Result<Value> {
        let identity = self.at(&residual(name), identity);
        self.add(branch, &identity)
    }

    fn mul(&mut self, a: &Value, b: &Value) -> Result<Value> {
        let shape = broadcast("mul", a, b)?;
        Ok(self.value("Mul", &[&a.name, &b.name], &[], (&shape, a.layout)))
    }

    fn scale(&mut self, x: &Value, factor: f32) -> Result<Value> {
        Ok(self.with_scalar("Mul", x, factor))
    }

    fn matmul_t(&mut self, a: &Value, b: &Value) -> Result<Value> {
        let [n, l, d] = expect_rows("matmul_t", &a.name, a)?;
        let [m_batch, m, m_width] = expect_rows("matmul_t", &b.name, b)?;
        if [m_batch, m_width] != [n, d] {
            return Err(misshapen("matmul_t", &b.name, &format!("[{n}, M, {d}]"), &b.shape));
        }
        let turned = self.transpose(b, &[0, 2, 1]);
        Ok(self.value("MatMul", &[&a.name, &turned.name], &[], (&[n, l, m], Layout::Rows)))
    }

    fn concat(&mut self, xs: &[Value], axis: usize) -> Result<Value> {
        let Some(first) = xs.first().filter(|x| axis < x.shape.len()) else {
            return Err(misshapen("concat", "concat", &format!("tensors with an axis {axis}"), &[xs.len()]));
        };
        let others = |shape: &[usize]| [&shape[..axis], &shape[axis + 1..]].concat();
        for x in xs {
            if x.layout != first.layout
                || x.shape.len() != first.shape.len()
                || others(&x.shape) != others(&first.shape)
            {
                return Err(misshapen("concat", &x.name, &format!("{:?} but for axis {axis}", first.shape), &x.shape));
            }
        }
        let mut shape = first.shape.clone();
        shape[axis] = xs.iter().map(|x| x.shape[axis]).sum();
        Ok(self.join(&xs.iter().collect::<Vec<_>>(), axis, &shape))
    }

    fn narrow(&mut self, x: &Value, axis: usize, start: usize, len: usize) -> Result<Value> {
        if x.shape.get(axis).is_none_or(|&d| start.checked_add(len).is_none_or(|end| end > d)) {
            return Err(misshapen(
                "narrow",
                &x.name,
                &format!("entries {start} to {start} + {len} on axis {axis}"),
                &x.shape,
            ));
        }
        Ok(self.slice(x, axis, start, len))
    }

    fn reshape(&mut self, x: &Value, shape: &[usize]) -> Result<Value> {
        expect_rows("reshape", &x.name, x)?;
        if x.shape.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(misshapen("reshape", &x.name, &format!("what fits {shape:?}"), &x.shape));
        }
        Ok(Onnx::reshape(self, x, shape))
    }

    fn repeat_batch(&mut self, x: &Value, times: usize) -> Result<Value> {
        match (times, x.shape.first()) {
            (1, _) => Ok(x.clone()),
            (0, _) | (_, None) => Err(misshapen("repeat_batch", &x.name, "a batch, at least once", &x.shape)),
            _ => Ok(self.repeat(x, times)),
        }
    }
}
