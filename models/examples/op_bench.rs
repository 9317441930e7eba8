//! Times of the candle interpreter's heaviest operations: `cargo run --release --example op_bench`.

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::error::Result;
use kestrel_models::ops::{Act, Conv, Init, Ops};
use std::time::Instant;

const REPEATS: usize = 25;

fn main() -> Result<()> {
    let relu6 = |kernel, stride| Conv { kernel, stride, act: Act::Relu6 };
    let threads: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let run = || -> Result<()> {
        println!("{threads} thread(s), best of {REPEATS}; milliseconds");
        println!("{:40} {:>9} {:>9}", "operation", "forward", "+backward");
        bench("depthwise 3x3 [4,96,96,144]", &[4, 96, 96, 144], |ops, x| ops.depthwise(x, "w", relu6(3, 1)))?;
        bench("depthwise 3x3 / 2 [4,96,96,144]", &[4, 96, 96, 144], |ops, x| ops.depthwise(x, "w", relu6(3, 2)))?;
        bench("depthwise 5x5 [4,24,24,672]", &[4, 24, 24, 672], |ops, x| ops.depthwise(x, "w", relu6(5, 1)))?;
        bench("pointwise 112 -> 672 [4,24,24]", &[4, 24, 24, 112], |ops, x| ops.linear(x, "w", 672, true, Act::Relu6))?;
        bench("stem 3x3 / 2 [1,512,512,3]", &[1, 512, 512, 3], |ops, x| ops.conv(x, "w", 32, relu6(3, 2)))?;
        bench("attention 8/2 heads [1,304,256]", &[1, 304, 256], |ops, x| {
            let kv = ops.narrow(x, 2, 0, 64)?;
            ops.attention(x, &kv, &kv, 8, 2, None)
        })?;
        bench("rms_norm [1,304,256]", &[1, 304, 256], |ops, x| ops.rms_norm(x, "w", 1e-6))?;
        bench("silu [1,304,640]", &[1, 304, 640], |ops, x| ops.activate(x, Act::Silu))?;
        bench("upsample 2 [1,64,64,64]", &[1, 64, 64, 64], |ops, x| ops.upsample_nearest(x, 2))?;
        bench("add [1,128,128,32]", &[1, 128, 128, 32], |ops, x| ops.add(x, x))
    };
    match pool {
        Ok(pool) => pool.install(run),
        Err(_) => run(),
    }
}

fn bench(name: &str, shape: &[usize], f: impl Fn(&mut Candle<'_>, &Tensor) -> Result<Tensor>) -> Result<()> {
    let params = Params::new(&Device::Cpu, 1);
    let x = Candle::new(&params).parameter("x", shape, Init::Normal(1.0))?;
    let forward = best(|| f(&mut Candle::new(&params), &x).map(drop))?;
    let y = f(&mut Candle::new(&params), &x)?;
    let cotangent = y.ones_like()?;
    // The loss itself is timed as well and taken off, for it is no part of the operation.
    let both = best(|| Ok((f(&mut Candle::new(&params), &x)? * &cotangent)?.sum_all()?.backward().map(drop)?))?;
    let y = candle_core::Var::from_tensor(&y.detach())?;
    let loss = best(|| Ok((y.as_tensor() * &cotangent)?.sum_all()?.backward().map(drop)?))?;
    println!("{name:40} {forward:9.2} {:9.2}", both - loss);
    Ok(())
}

fn best(f: impl Fn() -> Result<()>) -> Result<f64> {
    f()?;
    let mut least = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        f()?;
        least = least.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(least)
}
