//! Operations put together from several ONNX nodes: norms, rotary positions, attention, GELU.

use super::{Attribute, Layout, Onnx, Order, Value, count, misshapen};
use crate::error::Result;
use crate::ops::Act;

impl Onnx<'_> {
    /// A view of rows in another shape; the entries stay.
    pub(super) fn reshape(&mut self, x: &Value, shape: &[usize]) -> Value {
        if x.shape == shape && x.layout == Layout::Rows {
            return x.clone();
        }
        let target = self.target(shape);
        Value { kind: x.kind, ..self.value("Reshape", &[&x.name, &target], &[], (shape, Layout::Rows)) }
    }

    /// Rows with their axes in another order.
    pub(super) fn transpose(&mut self, x: &Value, order: &[usize]) -> Value {
        let shape: Vec<usize> = order.iter().map(|&axis| x.shape[axis]).collect();
        let order: Vec<i64> = order.iter().map(|&axis| axis as i64).collect();
        self.value("Transpose", &[&x.name], &[("perm", Attribute::Ints(&order))], (&shape, Layout::Rows))
    }

    /// An element-wise node over two values, of which the first has the result's shape.
    pub(super) fn pair(&mut self, operator: &str, a: &Value, b: &str) -> Value {
        self.value(operator, &[&a.name, b], &[], (&a.shape, a.layout))
    }

    pub(super) fn with_scalar(&mut self, operator: &str, a: &Value, b: f32) -> Value {
        let b = self.scalar(b);
        self.pair(operator, a, &b)
    }

    pub(super) fn act(&mut self, x: &Value, act: Act) -> Value {
        let like = (x.shape.as_slice(), x.layout);
        match act {
            Act::None => x.clone(),
            Act::Relu => self.value("Relu", &[&x.name], &[], like),
            Act::Relu6 => {
                let (low, high) = (self.scalar(0.0), self.scalar(6.0));
                self.value("Clip", &[&x.name, &low, &high], &[], like)
            }
            Act::Sigmoid => self.value("Sigmoid", &[&x.name], &[], like),
            Act::Silu => {
                let gate = self.value("Sigmoid", &[&x.name], &[], like);
                self.pair("Mul", x, &gate.name)
            }
            Act::Gelu => {
                // The pattern that runtimes know as GELU: 0.5 · (x · (1 + erf(x / √2))).
                let scaled = self.with_scalar("Div", x, std::f32::consts::SQRT_2);
                let erf = self.value("Erf", &[&scaled.name], &[], like);
                let shifted = self.with_scalar("Add", &erf, 1.0);
                let product = self.pair("Mul", x, &shifted.name);
                self.with_scalar("Mul", &product, 0.5)
            }
        }
    }

    fn mean_last(&mut self, x: &Value) -> Value {
        let logical = x.shape.len() - 1;
        let mut shape = x.shape.clone();
        shape[logical] = 1;
        let axes = [x.axis(logical) as i64];
        let attributes = [("axes", Attribute::Ints(&axes)), ("keepdims", Attribute::Int(1))];
        self.value("ReduceMean", &[&x.name], &attributes, (&shape, x.layout))
    }

    /// `x / sqrt(mean(x²) + eps) · weight` over the last logical axis.
    pub(super) fn normalise(&mut self, x: &Value, name: &str, eps: f32) -> Result<Value> {
        let Some(&width) = x.shape.last() else { return Err(misshapen("norm", name, "at least one axis", &x.shape)) };
        let squared = self.pair("Mul", x, &x.name);
        let mean = self.mean_last(&squared);
        let shifted = self.with_scalar("Add", &mean, eps);
        let root = self.value("Sqrt", &[&shifted.name], &[], (&shifted.shape, shifted.layout));
        let unit = self.pair("Div", x, &root.name);
        let weight = self.weight(&format!("{name}.weight"), &[width], per_channel(x.layout))?;
        Ok(self.pair("Mul", &unit, &weight))
    }

    /// LayerNorm over the last logical axis.
    pub(super) fn normalise_centred(&mut self, x: &Value, name: &str, eps: f32) -> Result<Value> {
        let Some(&width) = x.shape.last() else { return Err(misshapen("norm", name, "at least one axis", &x.shape)) };
        let mean = self.mean_last(x);
        let centred = self.pair("Sub", x, &mean.name);
        let scaled = self.normalise(&centred, name, eps)?;
        let bias = self.weight(&format!("{name}.bias"), &[width], per_channel(x.layout))?;
        Ok(self.pair("Add", &scaled, &bias))
    }

    /// `len` entries from `start` along an axis in memory.
    pub(super) fn slice(&mut self, x: &Value, logical: usize, start: usize, len: usize) -> Value {
        let mut shape = x.shape.clone();
        shape[logical] = len;
        let (from, to, axis) =
            (self.integers(&[start]), self.integers(&[start + len]), self.integers(&[x.axis(logical)]));
        Value { kind: x.kind, ..self.value("Slice", &[&x.name, &from, &to, &axis], &[], (&shape, x.layout)) }
    }

    pub(super) fn join(&mut self, xs: &[&Value], logical: usize, shape: &[usize]) -> Value {
        let names: Vec<&str> = xs.iter().map(|x| x.name.as_str()).collect();
        let (axis, layout) = xs.first().map_or((logical, Layout::Rows), |x| (x.axis(logical), x.layout));
        self.value("Concat", &names, &[("axis", Attribute::Int(axis as i64))], (shape, layout))
    }

    /// Llama's half-split rotation of `[N, L, heads, d]`.
    pub(super) fn rotate(&mut self, x: &Value, cos: &Value, sin: &Value) -> Value {
        let half = x.shape[3] / 2;
        let per_head = |table: &Value| [table.shape[0], table.shape[1], 1, half];
        let cos = self.reshape(cos, &per_head(cos));
        let sin = self.reshape(sin, &per_head(sin));
        let (a, b) = (self.slice(x, 3, 0, half), self.slice(x, 3, half, half));
        let (a_cos, b_sin) = (self.pair("Mul", &a, &cos.name), self.pair("Mul", &b, &sin.name));
        let (b_cos, a_sin) = (self.pair("Mul", &b, &cos.name), self.pair("Mul", &a, &sin.name));
        let first = self.pair("Sub", &a_cos, &b_sin.name);
        let second = self.pair("Add", &b_cos, &a_sin.name);
        let shape = x.shape.clone();
        self.join(&[&first, &second], 3, &shape)
    }

    /// Attention over `q [N, Lq, heads, d]`, `k [N, Lk, kv_heads, d]`, `v [N, Lk, kv_heads, e]`, to `[N, Lq, heads, e]`.
    ///
    /// The query heads that share a key head become extra rows of it, so keys and values are never copied.
    pub(super) fn attend(&mut self, q: &Value, k: &Value, v: &Value, mask: Option<&Value>) -> Value {
        let (n, queries, heads, d) = (q.shape[0], q.shape[1], q.shape[2], q.shape[3]);
        let (keys, kv_heads, e) = (k.shape[1], k.shape[2], v.shape[3]);
        let rows = heads / kv_heads * queries;
        let q = self.with_scalar("Mul", q, 1.0 / (d as f32).sqrt());
        let q = self.transpose(&q, &[0, 2, 1, 3]);
        let q = self.reshape(&q, &[n, kv_heads, rows, d]);
        let k = self.transpose(k, &[0, 2, 3, 1]);
        let v = self.transpose(v, &[0, 2, 1, 3]);
        let mut scores = self.value("MatMul", &[&q.name, &k.name], &[], (&[n, kv_heads, rows, keys], Layout::Rows));
        if let Some(mask) = mask {
            let by_head = self.reshape(&scores, &[n, heads, queries, keys]);
            let mask = self.reshape(mask, &[mask.shape[0], 1, queries, keys]);
            let masked = self.pair("Add", &by_head, &mask.name);
            scores = self.reshape(&masked, &[n, kv_heads, rows, keys]);
        }
        let shares = self.shares(&scores);
        let mixed = self.value("MatMul", &[&shares.name, &v.name], &[], (&[n, kv_heads, rows, e], Layout::Rows));
        let mixed = self.reshape(&mixed, &[n, heads, queries, e]);
        self.transpose(&mixed, &[0, 2, 1, 3])
    }

    /// Softmax over the last axis of rows.
    pub(super) fn shares(&mut self, x: &Value) -> Value {
        self.value("Softmax", &[&x.name], &[("axis", Attribute::Int(-1))], (&x.shape, Layout::Rows))
    }

    /// Every batch entry `times` times in a row.
    pub(super) fn repeat(&mut self, x: &Value, times: usize) -> Value {
        let physical = x.physical();
        let (n, rest) = (physical[0], &physical[1..]);
        let with = |first: &[usize]| [first, rest].concat();
        let flat = Value { shape: physical.clone(), layout: Layout::Rows, ..x.clone() };
        let single = self.reshape(&flat, &with(&[n, 1]));
        let target = self.integers(&with(&[n, times]));
        let many = self.value("Expand", &[&single.name, &target], &[], (&with(&[n, times]), Layout::Rows));
        let many = Value { kind: x.kind, ..many };
        let repeated = self.reshape(&many, &with(&[n * times]));
        let mut shape = x.shape.clone();
        shape[0] = n * times;
        debug_assert_eq!(count(&shape), count(&repeated.shape));
        Value { shape, layout: x.layout, ..repeated }
    }
}

fn per_channel(layout: Layout) -> Order {
    match layout {
        Layout::Map => Order::Channel,
        Layout::Rows => Order::Plain,
    }
}
