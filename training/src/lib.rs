//! Scenes, datasets, referring expressions, views, losses, supervised fine-tuning, metrics, rewards.
//!
//! The way of the data: [`scenes`] and [`datasets`] give a [`sample::Picture`] (pixels and labelled instances),
//! [`expressions`] asks about it, [`views`] degrades it, [`cache`] keeps the finished [`sample::Sample`]s on disk,
//! [`reasoning`] says why an answer is right, [`tasks`] asks for answers in words, [`sft`] trains on all that and
//! [`metrics`] judges the answers.
//! [`sheet`] draws pictures with their labels for people, [`resident`] tells how much memory the process holds.
//! [`rewards`] scores answers, and [`grpo`] reinforces what scores well.
#![forbid(unsafe_code)]

pub mod benchmark;
pub mod cache;
pub mod colour;
pub mod curves;
pub mod datasets;
pub mod expressions;
pub mod grpo;
pub mod losses;
pub mod metrics;
pub mod reasoning;
pub mod resident;
pub mod rewards;
pub mod sample;
pub mod scenes;
pub mod sft;
pub mod sheet;
pub mod tasks;
pub mod threads;
pub mod views;
