//! Notices of a registry on a server, and the marks of whoever reads them there.

use keywright_registry::people::Page;
use keywright_registry::{BoardKind, BoardNotice, BoardQuery};
use serde::{Deserialize, Serialize};

use super::call::{Call, Credentials};
use super::{Known, RemoteError, RemoteRegistry};
use crate::AppError;

/// What a server says of a notice that is not there any more.
const NOT_FOUND: &str = "notice_not_found";

#[derive(Deserialize)]
struct NoticeBody {
    id: String,
    kind: String,
    at: i64,
    key_id: Option<String>,
    name: String,
    kid: Option<String>,
    due_at: Option<i64>,
    count: i64,
    detail: String,
    settled: bool,
    read: bool,
}

impl NoticeBody {
    /// None for what a newer server tells of, and this version has no words for.
    fn read(self) -> Option<BoardNotice> {
        Some(BoardNotice {
            sequence: self.id.parse().ok()?,
            kind: BoardKind::parse(&self.kind)?,
            at: self.at,
            key_id: self.key_id,
            name: self.name,
            kid: self.kid,
            due_at: self.due_at,
            count: self.count,
            detail: self.detail,
            settled: self.settled,
            read: self.read,
        })
    }
}

#[derive(Deserialize)]
struct NoticePage {
    items: Vec<NoticeBody>,
    next_cursor: Option<String>,
    unread: i64,
}

#[derive(Deserialize)]
struct UnreadBody {
    unread: i64,
}

#[derive(Serialize)]
struct ReadBody {
    until: String,
}

impl<C: Credentials> RemoteRegistry<C> {
    /// One page of notices, newest first, and how many in all are unread.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn list_notices(
        &self,
        query: &BoardQuery,
    ) -> Result<Known<(Page<BoardNotice>, i64)>, AppError> {
        let mut parameters = vec![("limit", query.limit.clamp(1, 100).to_string())];
        if query.unread_only {
            parameters.push(("unread", "true".to_owned()));
        }
        parameters.extend(query.cursor.clone().map(|cursor| ("cursor", cursor)));
        let call = Call::get(&["notices"]).query(parameters);
        let known: Known<NoticePage> = self.read(call).await?;
        Ok(known.with(|page| {
            let items = page.items.into_iter();
            let items = items.filter_map(NoticeBody::read).collect();
            let next_cursor = page.next_cursor;
            (Page { items, next_cursor }, page.unread)
        }))
    }

    /// Marks one as read. Returns how many are left. Where newer news took its place, those are still unread.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn mark_notice_read(&self, sequence: i64) -> Result<i64, AppError> {
        let id = sequence.to_string();
        let path = ["notices", id.as_str(), "read"];
        let left: Result<UnreadBody, AppError> = self.write(Call::post(&path).repeatable()).await;
        match left {
            Err(AppError::Remote(RemoteError::Unknown { code, .. })) if code == NOT_FOUND => {
                let query = BoardQuery {
                    unread_only: true,
                    limit: 1,
                    ..BoardQuery::default()
                };
                Ok(self.list_notices(&query).await?.value.1)
            }
            left => Ok(left?.unread),
        }
    }

    /// Marks everything up to one as read. Returns how many are left.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn mark_notices_read_until(&self, sequence: i64) -> Result<i64, AppError> {
        let until = sequence.to_string();
        let path = ["notices", "read"];
        let call = Call::post(&path).json(&ReadBody { until }).repeatable();
        let left: UnreadBody = self.write(call).await?;
        Ok(left.unread)
    }
}
