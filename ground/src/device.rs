//! The option `--device` of commands that follow a recipe: what computes, whatever the recipe says.

use clap::{Args, ValueEnum};
use kestrel_training::sft::recipe::Processor;

/// What computes, if it is said.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Device {
    /// What computes, in the place of the recipe's `device`; `cuda` needs a build with that feature.
    #[arg(long, value_enum)]
    device: Option<Which>,
}

// Without a line of help for each, so that the help of a command stays one line an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Which {
    Cpu,
    Cuda,
    CudaTf32,
}

impl Device {
    /// As it is said, else as the recipe says.
    pub(crate) fn or(self, recipes: Processor) -> Processor {
        match self.device {
            None => recipes,
            Some(Which::Cpu) => Processor::Cpu,
            Some(Which::Cuda) => Processor::Cuda,
            Some(Which::CudaTf32) => Processor::CudaTf32,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What would break: an option that is spelled otherwise than the recipe's `device`, or does not win over it.
    #[test]
    fn the_option_has_the_recipes_words_and_wins_over_it() {
        assert_eq!(Which::value_variants().len(), 3);
        for which in Which::value_variants() {
            let name = which.to_possible_value().unwrap().get_name().to_owned();
            let said: Processor = serde_json::from_value(name.into()).unwrap();
            let device = Device { device: Some(*which) };
            assert!([Processor::Cpu, Processor::CudaTf32].into_iter().all(|recipes| device.or(recipes) == said));
        }
        assert_eq!(Device::default().or(Processor::CudaTf32), Processor::CudaTf32);
    }
}
