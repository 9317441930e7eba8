//! Counting what masks share, where they were drawn.

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg as _};
use candle_core::{Result, Storage, Tensor, bail};

use super::{Source, THREADS, view};
use crate::candle::overlap::{Group, Overlap, side};

static KERNELS: Source = Source::new("kestrel_overlap", include_str!("overlap.cu"));
/// Counts of a member in the kernel.
const COUNTS: usize = 8;
/// Members whose counts fit a block's 48 KiB of shared memory, with room to spare.
const MOST_MEMBERS: usize = 512;
/// Blocks at most: more cells than they have threads are taken in rounds.
const MOST_BLOCKS: u32 = 1024;

/// Counts over logits `[masks, cells]` of a GPU. Members name masks and targets that exist, targets have `cells` cells,
/// and so has every mask that is named.
pub(in crate::candle) fn overlap(logits: &Tensor, group: &Group, cells: usize) -> Result<Vec<Overlap>> {
    let count = group.members.len();
    if count == 0 || cells == 0 {
        return Ok(vec![Overlap::default(); count]);
    }
    let (Ok(numbers), true) = (u32::try_from(cells), count <= MOST_MEMBERS) else {
        bail!("overlap: expected up to {MOST_MEMBERS} members and under 2³² cells, got {count} and {cells}");
    };
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cuda(held) = &*storage else { bail!("overlap: expected logits on a GPU, got some elsewhere") };
    let device = held.device.clone();
    let logits = view(held, layout)?;
    let members = device.clone_htod(&described(group)?)?;
    let wanted = device.clone_htod(&wanted(group))?;
    let mut counts = device.alloc_zeros::<u64>(count * COUNTS)?;

    let (stream, function) = (device.cuda_stream(), KERNELS.kernel(&device, "overlap_count")?);
    let scalars = (count as i32, numbers, side(cells) as u32);
    let votes = (group.voters() as i32, i32::from(group.leave_one_out));
    let mut launch = stream.launch_builder(&function);
    launch.arg(&logits).arg(&wanted).arg(&members).arg(&mut counts);
    launch.arg(&scalars.0).arg(&scalars.1).arg(&scalars.2).arg(&votes.0).arg(&votes.1);
    let shape = LaunchConfig {
        grid_dim: (numbers.div_ceil(THREADS).min(MOST_BLOCKS), 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: (count * COUNTS * size_of::<u64>()) as u32,
    };
    // SAFETY: the arguments are those of `overlap_count`; the caller has checked what members name, and the kernel
    // reads no cell beyond `cells`.
    unsafe { launch.launch(shape) }.w()?;
    Ok(device.clone_dtoh(&counts)?.chunks_exact(COUNTS).map(counted).collect())
}

/// Mask, target and vote of every member as the kernel reads them.
fn described(group: &Group) -> Result<Vec<i32>> {
    let mut numbers = Vec::with_capacity(group.members.len() * 3);
    for member in &group.members {
        for index in [member.mask, member.target] {
            match index.map_or(Ok(-1), i32::try_from) {
                Ok(index) => numbers.push(index),
                Err(_) => bail!("overlap: expected under 2³¹ masks and targets, got {member:?}"),
            }
        }
        numbers.push(i32::from(member.votes));
    }
    Ok(numbers)
}

/// All targets one after the other; a byte where there is none, because a GPU gives no empty memory.
fn wanted(group: &Group) -> Vec<u8> {
    let cells: Vec<u8> = group.targets.iter().flatten().map(|cell| u8::from(*cell)).collect();
    if cells.is_empty() { vec![0] } else { cells }
}

fn counted(counts: &[u64]) -> Overlap {
    let at = |k: usize| counts.get(k).copied().unwrap_or_default();
    Overlap {
        drawn: at(0),
        target: at(1),
        on_target: at(2),
        consensus: at(3),
        on_consensus: at(4),
        columns: at(5),
        rows: at(6),
        broken: at(7),
    }
}
