//! Counts what the thread that asks has allocated, and nothing of other threads.
// A global allocator is an unsafe trait; this one counts, and hands every call on as it came.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations: how many, and the largest in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Allocations {
    pub(crate) count: u64,
    pub(crate) largest: usize,
}

thread_local! {
    static ALLOCATIONS: Cell<Allocations> = const { Cell::new(Allocations { count: 0, largest: 0 }) };
}

fn note(bytes: usize) {
    // A thread that is ending has no count any more, and nobody asks it.
    let _ = ALLOCATIONS.try_with(|all| {
        let Allocations { count, largest } = all.get();
        all.set(Allocations { count: count + 1, largest: largest.max(bytes) });
    });
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as promised by who calls this.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as promised by who calls this.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as promised by who calls this.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as promised by who calls this.
        unsafe { System.dealloc(place, layout) }
    }
}

/// What `work` gives, and what this thread allocated for it; what is counted inside of it by itself stands apart.
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> (T, Allocations) {
    let before = ALLOCATIONS.replace(Allocations::default());
    let result = work();
    (result, ALLOCATIONS.replace(before))
}
