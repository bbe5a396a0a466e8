//! What a flush writes: counts of secrets, rollups by the hour, alerts.

use std::collections::{BTreeMap, HashMap};

use keywright_domain::api_keys::DAY_MS;
use sqlx::AnyConnection;

use super::board::{self, Post};
use super::many;
use crate::RegistryError;
use crate::board::BoardKind;
use crate::uses::{AlertKind, CallerText, OTHER_CALLERS, PendingAlert, Use};

/// Adds uses to their secrets, to the order of lists, and to the rollups.
pub(crate) async fn add(connection: &mut AnyConnection, uses: &[Use]) -> Result<(), RegistryError> {
    let mut by_kid: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for one in uses {
        let (count, last_at) = by_kid.entry(&one.kid).or_insert((0, one.last_at));
        *count += one.count;
        *last_at = (*last_at).max(one.last_at);
    }
    let by_kid: Vec<_> = by_kid.into_iter().collect();
    for part in many::parts(&by_kid) {
        add_to_secrets(connection, part).await?;
    }
    for part in many::parts(uses) {
        add_to_rollups(connection, part).await?;
    }
    Ok(())
}

async fn add_to_secrets(
    connection: &mut AnyConnection,
    part: &[(&str, (i64, i64))],
) -> Result<(), RegistryError> {
    let head = "UPDATE secrets SET use_count = use_count + v.column2, last_used_at = CASE \
                WHEN last_used_at IS NULL OR last_used_at < v.column3 THEN v.column3 ELSE last_used_at END \
                FROM (VALUES ";
    let sql = many::rows(connection, head, part.len(), 3) + ") AS v WHERE secrets.kid = v.column1";
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for (kid, (count, last_at)) in part {
        query = query.bind((*kid).to_owned()).bind(*count).bind(*last_at);
    }
    query.execute(&mut *connection).await?;
    let count = many::padded(part.len());
    let head = "UPDATE api_keys SET last_used_order = (SELECT COALESCE(MAX(s.last_used_at), 0) FROM secrets s \
                WHERE s.key_id = api_keys.id) WHERE id IN (SELECT key_id FROM secrets WHERE kid IN ";
    let sql = many::rows(connection, head, 1, count) + ")";
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for (kid, _) in many::padding(part, count) {
        query = query.bind((*kid).to_owned());
    }
    query.execute(connection).await?;
    Ok(())
}

async fn add_to_rollups(connection: &mut AnyConnection, part: &[Use]) -> Result<(), RegistryError> {
    // A secret may have been purged while its last uses waited on another node.
    let sql = many::rows(
        connection,
        "INSERT INTO use_rollups (kid, hour, client_label, network, agent, route, scope, origin, count, last_at) \
         SELECT v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8, v.column9, \
         v.column10 FROM (VALUES ",
        part.len(),
        10,
    ) + ") AS v WHERE EXISTS (SELECT 1 FROM secrets s WHERE s.kid = v.column1) \
         ON CONFLICT (kid, hour, client_label, network, agent, route, scope, origin) DO UPDATE SET \
         count = use_rollups.count + excluded.count, \
         last_at = CASE WHEN use_rollups.last_at < excluded.last_at THEN excluded.last_at ELSE use_rollups.last_at END";
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for one in part {
        query = query
            .bind(one.kid.clone())
            .bind(one.hour)
            .bind(one.caller.client_label.clone())
            .bind(one.caller.network.clone())
            .bind(one.caller.agent.clone())
            .bind(one.caller.route.clone())
            .bind(one.caller.scope.clone())
            .bind(one.caller.origin.clone())
            .bind(one.count)
            .bind(one.last_at);
    }
    query.execute(connection).await?;
    Ok(())
}

/// How many callers of a secret and hour have a row of their own. Those without any are not there.
pub(crate) async fn count_callers(
    connection: &mut AnyConnection,
    asked: &[(&str, i64)],
) -> Result<HashMap<(String, i64), usize>, RegistryError> {
    let mut counts = HashMap::with_capacity(asked.len());
    for part in many::parts(asked) {
        let head = format!(
            "SELECT r.kid, r.hour, CAST(SUM(CASE WHEN r.client_label = '{OTHER_CALLERS}' THEN 0 ELSE 1 END) \
             AS BIGINT) FROM (VALUES "
        );
        let sql = many::rows(connection, &head, part.len(), 2)
            + ") AS v JOIN use_rollups r ON r.kid = v.column1 AND r.hour = v.column2 GROUP BY r.kid, r.hour";
        let mut query = sqlx::query_as::<_, (String, i64, i64)>(sqlx::AssertSqlSafe(sql));
        for (kid, hour) in part {
            query = query.bind((*kid).to_owned()).bind(*hour);
        }
        for (kid, hour, count) in query.fetch_all(&mut *connection).await? {
            counts.insert((kid, hour), usize::try_from(count).unwrap_or(0));
        }
    }
    Ok(counts)
}

/// The callers of a secret in one hour.
pub(crate) async fn callers(
    connection: &mut AnyConnection,
    kid: &str,
    hour: i64,
) -> Result<Vec<CallerText>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT client_label, network, agent, route, scope, origin FROM use_rollups WHERE kid = $1 AND hour = $2",
    )
    .bind(kid.to_owned())
    .bind(hour)
    .fetch_all(connection)
    .await?)
}

/// Adds alerts; one that is there counts on and is unseen again. They are put on the notice board, once a day
/// each; failed deliveries are by what the trail says of them.
pub(crate) async fn add_alerts(
    connection: &mut AnyConnection,
    alerts: &[PendingAlert],
) -> Result<(), RegistryError> {
    for alert in alerts {
        let id = keywright_domain::base62::random_id(&mut rand::rng());
        sqlx::query(
            "INSERT INTO alerts (id, kind, key_id, kid, caller, count, first_at, last_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (kind, kid, caller) DO UPDATE SET \
             count = alerts.count + excluded.count, last_at = excluded.last_at, seen_at = NULL",
        )
        .bind(id)
        .bind(alert.kind.as_str())
        .bind(alert.key_id.clone())
        .bind(alert.kid.clone())
        .bind(alert.caller.clone())
        .bind(alert.count)
        .bind(alert.first_at)
        .bind(alert.last_at)
        .execute(&mut *connection)
        .await?;
        put_up(connection, alert).await?;
    }
    Ok(())
}

async fn put_up(connection: &mut AnyConnection, alert: &PendingAlert) -> Result<(), RegistryError> {
    let kind = match alert.kind {
        AlertKind::EndedSecretUsed => BoardKind::RetiredSecretUsed,
        AlertKind::CanaryUsed => BoardKind::CanaryUsed,
        AlertKind::DeliveryFailed => return Ok(()),
    };
    let (id, count): (String, i64) =
        sqlx::query_as("SELECT id, count FROM alerts WHERE kind = $1 AND kid = $2 AND caller = $3")
            .bind(alert.kind.as_str())
            .bind(alert.kid.clone())
            .bind(alert.caller.clone())
            .fetch_one(&mut *connection)
            .await?;
    let post = Post {
        matter: format!("alert {id}"),
        event_id: format!("alr_{id}_{}", alert.last_at.div_euclid(DAY_MS)),
        key_id: Some(alert.key_id.clone()),
        kid: alert.kid.clone(),
        count,
        detail: alert.caller.clone(),
        ..Post::new(kind)
    };
    board::put_up(connection, &post, alert.last_at).await
}
