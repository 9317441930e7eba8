//! Key expressions: where on the network each message lives.
//!
//! `kestrel/{drone}/query`, `…/outcome/{query_id}`, `…/explanation/{query_id}`, `…/health`, `…/alive`, `…/camera`, `…/pose`,
//! `…/model/push`, `…/model/state`, `…/model/chunk/…`.

use crate::error::LinkError;

/// First chunk of every key.
pub const ROOT: &str = "kestrel";

/// Longest drone id.
pub const MAX_DRONE_BYTES: usize = 32;

/// Who is there: every drone's liveliness token.
pub const ALL_ALIVE: &str = "kestrel/*/alive";

/// A valid drone id: 1 to 32 of `a-z`, `0-9`, `_`, `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DroneId(String);

impl DroneId {
    /// Checks an id.
    ///
    /// # Errors
    /// Says which characters and lengths are allowed.
    pub fn new(id: &str) -> Result<Self, LinkError> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if (1..=MAX_DRONE_BYTES).contains(&id.len()) && id.bytes().all(allowed) {
            return Ok(Self(id.to_owned()));
        }
        Err(LinkError::field("drone", "1 to 32 of a-z, 0-9, '_' and '-'", id))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Queryable that takes a [`crate::Query`] and answers with a [`crate::Reply`].
    #[must_use]
    pub fn query(&self) -> String {
        self.key("query")
    }

    /// Where the replies to one query are published.
    ///
    /// # Errors
    /// When the id is not a valid [`crate::Query::id`].
    pub fn outcome(&self, query_id: &str) -> Result<String, LinkError> {
        check_query_id(query_id)?;
        Ok(self.key(&format!("outcome/{query_id}")))
    }

    /// All replies of this drone.
    #[must_use]
    pub fn outcomes(&self) -> String {
        self.key("outcome/*")
    }

    /// Where the reasons for the answer to one query are published, as [`crate::ExplanationPart`]s.
    ///
    /// # Errors
    /// When the id is not a valid [`crate::Query::id`].
    pub fn explanation(&self, query_id: &str) -> Result<String, LinkError> {
        check_query_id(query_id)?;
        Ok(self.key(&format!("explanation/{query_id}")))
    }

    /// Where [`crate::Health`] is published.
    #[must_use]
    pub fn health(&self) -> String {
        self.key("health")
    }

    /// Where another process may publish the camera's frames, each with a [`crate::FrameHeader`] attached.
    #[must_use]
    pub fn camera(&self) -> String {
        self.key("camera")
    }

    /// Where another process may publish the vehicle's poses, as [`crate::PoseSample`]s.
    #[must_use]
    pub fn pose(&self) -> String {
        self.key("pose")
    }

    /// Liveliness token.
    #[must_use]
    pub fn alive(&self) -> String {
        self.key("alive")
    }

    /// Queryable that takes a [`crate::PushOffer`].
    #[must_use]
    pub fn model_push(&self) -> String {
        self.key("model/push")
    }

    /// Where [`crate::PushState`] is published.
    #[must_use]
    pub fn model_state(&self) -> String {
        self.key("model/state")
    }

    /// What the pusher declares its queryable on: every chunk this drone may ask for.
    #[must_use]
    pub fn model_chunks(&self) -> String {
        self.key("model/chunk/**")
    }

    fn key(&self, rest: &str) -> String {
        format!("{ROOT}/{}/{rest}", self.0)
    }
}

impl std::fmt::Display for DroneId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for DroneId {
    type Err = LinkError;

    fn from_str(id: &str) -> Result<Self, LinkError> {
        Self::new(id)
    }
}

/// The drone's id in a key of ours, e.g. a liveliness token.
///
/// # Errors
/// When the key is not `kestrel/{drone}/…` with a valid id.
pub fn drone_of(key: &str) -> Result<DroneId, LinkError> {
    let mut parts = key.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(ROOT), Some(drone), Some(_)) => DroneId::new(drone),
        _ => Err(LinkError::field("key", "kestrel/{drone}/…", key)),
    }
}

/// Query ids become part of a key: 1 to 64 letters, digits, `.`, `_`, `-`.
pub(crate) fn check_query_id(id: &str) -> Result<(), LinkError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=crate::query::MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(allowed) {
        return Ok(());
    }
    Err(LinkError::field("query.id", "1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'", id))
}
