//! A query that stands: listened to, renewed while somebody listens, and withdrawn when nobody does.

use super::explain::Listener;
use super::{Arguments, ask, exit, print};
use anyhow::{Context, Result, anyhow};
use kestrel_link::{DroneId, Query, Reply, codec};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, interval_at};
use zenoh::Session;
use zenoh::bytes::Encoding;
use zenoh::handlers::FifoChannelHandler;

/// How long a query stands without being renewed: whose link is lost leaves nothing behind for longer.
pub(super) const LIFE_MILLIS: u32 = 60_000;

/// How long to wait for the drone's word on a withdrawal.
const FAREWELL: Duration = Duration::from_secs(2);

/// Asks and prints every outcome until interrupted.
pub(super) async fn watch(
    session: &Session,
    drone: &DroneId,
    query: &Query,
    arguments: &Arguments,
    mut reasons: Option<Listener>,
) -> Result<ExitCode> {
    let outcomes = session
        .declare_subscriber(drone.outcome(&query.id)?)
        .await
        .map_err(|error| anyhow!("listening to {drone}: {error}"))?;
    let mut last = exit(&ask(session, drone, query, arguments.link.timeout()).await?);
    let pause = renewed_every(query);
    let mut renewals = interval_at(Instant::now() + pause, pause);
    let mut renewed = None;
    loop {
        tokio::select! {
            sample = outcomes.recv_async() => {
                let sample = sample.map_err(|error| anyhow!("the link closed: {error}"))?;
                let reply: Reply = codec::decode(&sample.payload().to_bytes()).context("an outcome")?;
                reasons.iter_mut().for_each(Listener::end_line);
                print(&reply, arguments.json)?;
                last = exit(&reply);
            }
            more = more(&mut reasons) => {
                if !more? {
                    reasons = None;
                }
            }
            _ = renewals.tick() => renewed = Some(renew(session, drone, query, arguments.link.timeout()).await?),
            why = refused(&mut renewed) => {
                reasons.iter_mut().for_each(Listener::end_line);
                eprintln!("{drone} did not renew the query: {why}\nhint: it is asked again in {pause:?}");
            }
            _ = tokio::signal::ctrl_c() => {
                withdraw(session, drone, query).await;
                return Ok(last);
            }
        }
    }
}

/// Half of the query's life: a renewal that is lost leaves time for the next.
fn renewed_every(query: &Query) -> Duration {
    let life = query.time_to_live_millis.unwrap_or(LIFE_MILLIS);
    Duration::from_millis(u64::from(life.div_ceil(2)).max(1))
}

type Replies = FifoChannelHandler<zenoh::query::Reply>;

/// Asks the same for another life, without reasons: they are for the first answer.
async fn renew(session: &Session, drone: &DroneId, query: &Query, timeout: Duration) -> Result<Replies> {
    let renewal = Query { explain: false, ..query.clone() };
    session
        .get(drone.query())
        .payload(codec::encode(&renewal)?)
        .encoding(Encoding::APPLICATION_CBOR)
        .timeout(timeout)
        .await
        .map_err(|error| anyhow!("asking {drone}: {error}"))
}

/// Why the last renewal was not taken; waits without end where none was sent, and where it was taken: its answer is an outcome
/// as any other.
async fn refused(renewed: &mut Option<Replies>) -> String {
    if let Some(replies) = renewed {
        let answer = replies.recv_async().await;
        *renewed = None;
        if let Ok(Err(error)) = answer.map(zenoh::query::Reply::into_result) {
            return String::from_utf8_lossy(&error.payload().to_bytes()).into_owned();
        }
    }
    std::future::pending().await
}

/// Tells the drone that nobody listens any more. If that is lost, the query ends with its life.
async fn withdraw(session: &Session, drone: &DroneId, query: &Query) {
    if let Err(error) = ask(session, drone, &query.withdrawal(), FAREWELL).await {
        let left = query.time_to_live_millis.unwrap_or(LIFE_MILLIS);
        eprintln!("no word on the withdrawal: {error}\nhint: the query ends by itself within {left} ms");
    }
}

/// The next part of an explanation; waits without end where none is listened to.
async fn more(reasons: &mut Option<Listener>) -> Result<bool> {
    match reasons {
        Some(reasons) => reasons.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// What would break: a query that ends between two renewals, or one that is asked anew instead of going on.
    #[test]
    fn a_watched_query_is_renewed_before_it_ends() {
        for life in [1, 999, LIFE_MILLIS] {
            let query = Query { frames: 0, time_to_live_millis: Some(life), ..Query::new("ask-1", "all boats") };
            let pause = renewed_every(&query);
            assert!(!pause.is_zero() && pause <= Duration::from_millis(u64::from(life)), "{life}: {pause:?}");
            assert!(query.renews(&Query { explain: true, ..query.clone() }));
        }
    }
}
