//! A model judged on episodes: records as every evaluation gives them, from features that were computed once.

use kestrel_models::candle::Params;
use kestrel_models::kestrel::Config;
use kestrel_models::tokenizer::QueryTokenizer;

use super::bake::Episodes;
use crate::metrics::Record;
use crate::sample::Ask;
use crate::sft::Result;
use crate::sft::evaluate::{Subject, answer};
use crate::sft::example::{Question, ids};
use crate::threads::Threads;

/// Records of all questions of a set; with the likeliest answer and the decoder's own mask threshold, no gate and no tiles.
/// What computes is where the parameters are.
///
/// # Errors
/// When an episode is damaged or the model fails.
pub fn records(
    params: &Params,
    config: &Config,
    tokenizer: &QueryTokenizer,
    set: &str,
    episodes: &Episodes,
    workers: usize,
) -> Result<Vec<Record>> {
    let results = Threads::new(workers)?.each(0..workers, |_, number| {
        let mine = (number..episodes.len()).step_by(workers);
        mine.map(|index| Ok((index, one(params, config, tokenizer, set, episodes, index)?))).collect::<Result<Vec<_>>>()
    })?;
    let mut all: Vec<(usize, Vec<Record>)> = results.into_iter().flatten().collect();
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().flat_map(|(_, records)| records).collect())
}

fn one(
    params: &Params,
    config: &Config,
    tokenizer: &QueryTokenizer,
    set: &str,
    episodes: &Episodes,
    index: usize,
) -> Result<Vec<Record>> {
    let episode = episodes.get(index, config)?.on(params.device())?;
    let mut records = Vec::new();
    for sight in &episode.sights {
        let mut questions = Vec::with_capacity(sight.asked.len());
        for posed in &sight.asked {
            let Ask { text, hint, nonsense, .. } = &posed.ask;
            let tokens = ids(tokenizer, config.max_tokens, text, hint.as_ref(), nonsense)?;
            questions.push(Question::stored(&posed.ask, tokens, posed.goal.clone()));
        }
        let asks: Vec<Ask> = sight.asked.iter().map(|posed| posed.ask.clone()).collect();
        let subject = Subject {
            set,
            origin: &episode.origin,
            degradation: sight.degradation.as_ref(),
            asks: &asks,
            questions: &questions,
            things: &sight.things,
        };
        records
            .extend(answer(params, config, tokenizer, &subject, &sight.seen)?.into_iter().map(|judged| judged.record));
    }
    Ok(records)
}
