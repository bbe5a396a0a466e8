//! The audit trail, as faces show it.

use keywright_protocol::activity::{
    AuditDetailView, AuditEventView, AuditListRequest, AuditPageView, AuditSubjectFilter,
};
use keywright_registry::{AuditEvent, AuditQuery, RegistryError, SubjectFilter};

use crate::{App, AppError};

impl App {
    /// One page of the audit trail, newest first.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn list_audit_events(
        &self,
        request: AuditListRequest,
    ) -> Result<AuditPageView, AppError> {
        let before = request.cursor.as_deref().map(str::parse).transpose();
        let mut query = AuditQuery {
            text: request.text,
            subject: match request.subject {
                AuditSubjectFilter::All => SubjectFilter::All,
                AuditSubjectFilter::ApiKeys => SubjectFilter::ApiKeys,
                AuditSubjectFilter::Accounts => SubjectFilter::Accounts,
                AuditSubjectFilter::Registry => SubjectFilter::Registry,
            },
            before: before.map_err(|_| RegistryError::Cursor)?,
            limit: request.limit,
            ..AuditQuery::default()
        };
        let registry = self.inner.registry.get().await?;
        let mut page = registry.list_audit_events(query.clone()).await?;
        // A search that has found nothing so far goes on: a face shows events, or that there are none.
        while page.items.is_empty() && page.next_before.is_some() {
            query.before = page.next_before;
            page = registry.list_audit_events(query.clone()).await?;
        }
        Ok(AuditPageView {
            items: page.items.into_iter().map(event_view).collect(),
            next_cursor: page.next_before.map(|before| before.to_string()),
        })
    }
}

pub(crate) fn event_view(event: AuditEvent) -> AuditEventView {
    let details = event.details.into_iter();
    AuditEventView {
        sequence: event.sequence,
        at: event.at,
        action: event.action,
        actor: event.actor,
        target_kind: event.target_kind,
        target_id: event.target_id,
        target_name: event.target_name,
        summary: event.summary,
        details: details
            .map(|(name, value)| AuditDetailView { name, value })
            .collect(),
    }
}
