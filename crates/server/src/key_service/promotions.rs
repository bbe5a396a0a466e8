//! Keys on their way from one registry to another: this server's offer, taking a bundle, making one,
//! and what happens to the copies. docs/decisions/0006-promotion.md says why it is so.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keywright_domain::SecretText;
use keywright_domain::api_keys::{Owner, OwnerKind};
use keywright_domain::people::Sealed;
use keywright_registry::{
    AcceptOptions, EscrowError, PepperKey, Peppers, PromotionBundle, PromotionError,
    PromotionRefused, RegistryError, TransferIdentity, TransferRecipient, moved_pepper_id,
    open_transfer,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::keys::change::{Reason, ReasonBody, key_for};
use crate::keys::issue::body;
use crate::keys::manager::{Manager, peppers};
use crate::keys::views::{OwnerBody, problem};
use crate::nodes::receipts::{self, Wait};
use crate::once::{Name, NoBody, Once};
use crate::problem::Problem;
use crate::server::App;

/// What sealed offers are for.
const PURPOSE: &str = "promotion offer";
/// How long an offer is good.
const OFFER_MS: i64 = 60 * 60 * 1000;
/// Most keys of one request.
const MOST: usize = 500;
/// To take or give any keys.
const KEYS: &str = "keys:*";
/// To let peppers out.
const OUT: &str = "registry:write";

/// An offer to take keys.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OfferView {
    /// This registry.
    registry_id: String,
    /// Whom the peppers are sealed for (age, X25519).
    recipient: String,
    /// Send it back with the bundle. It holds the recipient's other half, sealed by this server.
    offer: String,
    /// It is good until then (Unix ms).
    expires_at: i64,
}

/// Keys that come here.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptBody {
    /// `offer` of the answer to `POST /api/v1/promotions/offers`.
    offer: String,
    /// The peppers, sealed for that offer's recipient: age's file in Base64.
    peppers: String,
    /// The bundle as the other registry made it.
    #[schema(value_type = Object)]
    bundle: PromotionBundle,
    /// Judge everything, write nothing; true if it is left out.
    #[serde(default = "yes")]
    dry_run: bool,
    /// Who they belong to here; the caller, if it is a person, else whom the bundle names.
    owner: Option<OwnerBody>,
    /// Take keys without an end where no policy speaks of it.
    #[serde(default)]
    never_expires: bool,
}

fn yes() -> bool {
    true
}

/// A key that does not move.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedKeyView {
    key_id: String,
    code: &'static str,
    message: String,
}

impl From<PromotionRefused> for RefusedKeyView {
    fn from(refused: PromotionRefused) -> Self {
        Self {
            key_id: refused.key_id,
            code: refused.code,
            message: refused.message,
        }
    }
}

fn refused_views(list: Vec<PromotionRefused>) -> Vec<RefusedKeyView> {
    list.into_iter().map(RefusedKeyView::from).collect()
}

/// What came of a bundle, key by key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AcceptedView {
    /// Nothing was written.
    dry_run: bool,
    /// Ids of keys that are here now, or would be.
    accepted: Vec<String>,
    /// Ids of keys that came earlier: nothing was done.
    present: Vec<String>,
    refused: Vec<RefusedKeyView>,
}

/// Keys that go elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleBody {
    /// At most 500.
    key_ids: Vec<String>,
    /// `recipient` of the other registry's offer.
    recipient: String,
}

/// A bundle, and the peppers that its keys need, sealed for the recipient.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BundleView {
    #[schema(value_type = Object)]
    bundle: PromotionBundle,
    /// age's file in Base64; absent where no key moves.
    peppers: Option<String>,
    refused: Vec<RefusedKeyView>,
}

/// Keys that another registry has taken.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeftBody {
    /// At most 500.
    key_ids: Vec<String>,
    /// Name of the other registry, for people.
    remote: String,
}

/// What could not be left.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftView {
    refused: Vec<RefusedKeyView>,
}

fn invalid_offer() -> Problem {
    let detail = "the offer is not this server's, or it is over: ask for another one";
    Problem::bad_request("invalid_offer", detail)
}

fn too_many() -> Problem {
    let detail = format!("1 to {MOST} keys in one request");
    Problem::bad_request("bundle_too_large", detail)
}

fn of_promotion(error: PromotionError) -> Problem {
    let (code, text) = (error.code(), error.to_string());
    match error {
        PromotionError::Registry(RegistryError::PepperMissing) => {
            let detail = "a pepper that the bundle's keys need did not come with it";
            Problem::bad_request(code, detail)
        }
        PromotionError::Registry(error) => problem(error),
        PromotionError::OwnBundle => Problem::new(StatusCode::CONFLICT, code, text),
        PromotionError::TooMany => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, code, text),
        _ => Problem::bad_request(code, text),
    }
}

fn of_escrow(error: EscrowError) -> Problem {
    let (code, text) = (error.code(), error.to_string());
    match error {
        EscrowError::Registry(error) => problem(error),
        _ => Problem::bad_request(code, text),
    }
}

/// Offers to take keys: seal the peppers for its recipient. Needs `keys:*`.
#[utoipa::path(post, path = "/api/v1/promotions/offers", tag = "promotion", params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is answered the same")), responses((status = 200, description = "The offer, good for an hour", body = OfferView)))]
pub(crate) async fn offer(
    State(app): State<App>,
    manager: Manager,
    Once { name, .. }: Once<NoBody>,
) -> Result<Response, Problem> {
    manager.require(KEYS)?;
    let work = make_offer(&app);
    name.answered(&app, &manager.actor, work, |_| true).await
}

async fn make_offer(app: &App) -> Result<OfferView, Problem> {
    let identity = TransferIdentity::generate();
    let expires_at = app.now().saturating_add(OFFER_MS);
    let text = SecretText::new(format!("{expires_at} {}", identity.to_text().expose()));
    let sealed = app.secrets.seal(PURPOSE, text.expose().as_bytes());
    Ok(OfferView {
        registry_id: app.registry.registry_id().await?,
        recipient: identity.recipient().to_string(),
        offer: URL_SAFE_NO_PAD.encode(sealed.as_bytes()),
        expires_at,
    })
}

fn open_offer(app: &App, text: &str) -> Result<TransferIdentity, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid_offer())?;
    let plain = app.secrets.unseal(PURPOSE, &Sealed::new(bytes));
    let plain = plain.map_err(|_| invalid_offer())?;
    let text = std::str::from_utf8(&plain).map_err(|_| invalid_offer())?;
    let (expires_at, identity) = text.split_once(' ').ok_or_else(invalid_offer)?;
    if expires_at.parse().is_ok_and(|at: i64| app.now() < at) {
        let identity = SecretText::new(identity.to_owned());
        return TransferIdentity::parse(&identity).ok_or_else(invalid_offer);
    }
    Err(invalid_offer())
}

/// Takes the keys of a bundle: the same key strings verify here from now on. This registry's policies
/// decide; what they forbid is told by key. The same bundle again changes nothing. It is a dry run
/// unless `dry_run` is false. Needs `keys:*`.
#[utoipa::path(
    post, path = "/api/v1/promotions", tag = "promotion", request_body = AcceptBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is answered the same. A dry run has none")),
    responses(
        (status = 200, description = "What came of each key", body = AcceptedView),
        (status = 400, description = "`bundle_altered`, `bundle_foreign`, `invalid_offer`, `wrong_recipient`, `pepper_missing`"),
        (status = 409, description = "`bundle_own`: this registry made it"),
    )
)]
pub(crate) async fn accept(
    State(app): State<App>,
    manager: Manager,
    once: Once<Result<Json<AcceptBody>, JsonRejection>>,
) -> Result<Response, Problem> {
    manager.require(KEYS)?;
    let asked = body(once.body)?;
    // A dry run does nothing that could be done twice.
    let name = if asked.dry_run {
        Name::default()
    } else {
        once.name
    };
    let work = take(&app, &manager, asked);
    name.answered(&app, &manager.actor, work, |_| true).await
}

async fn take(app: &App, manager: &Manager, asked: AcceptBody) -> Result<AcceptedView, Problem> {
    let identity = open_offer(app, &asked.offer)?;
    let file = STANDARD.decode(asked.peppers.trim()).map_err(|_| {
        let detail = "peppers: age's file in Base64";
        Problem::bad_request("invalid_body", detail)
    })?;
    let came = open_transfer(&file, &identity).map_err(of_escrow)?;
    let needed: Vec<String> = asked.bundle.needed_peppers().collect();
    let moved: Vec<PepperKey> = came
        .peppers
        .iter()
        .filter(|pepper| needed.contains(&pepper.id))
        .cloned()
        .collect();
    let own = peppers(app)?;
    let mut all = Peppers::new(own.current().clone());
    for older in own.iter().skip(1).chain(&moved) {
        all = all.with_older(older.clone());
    }
    let owner = match (&asked.owner, &manager.person) {
        (Some(owner), _) => Some(owner.read()?),
        (None, Some(person)) => Some(Owner {
            kind: OwnerKind::Person,
            id: person.clone(),
        }),
        (None, None) => None,
    };
    let mut options = AcceptOptions {
        dry_run: true,
        owner,
        creator: manager.person.clone(),
        // Management keys do not move.
        held: Some(manager.held(false).clone()),
        allow_never_expires: asked.never_expires,
    };
    let (registry, actor) = (&app.registry, &manager.actor);
    // The bundle is proved genuine before anything is kept, peppers included.
    let judged = registry.accept_promotion(actor, &asked.bundle, &all, &options);
    let mut report = judged.await.map_err(of_promotion)?;
    if !asked.dry_run && !report.accepted.is_empty() {
        for pepper in moved {
            app.secrets.keep_pepper(&pepper).map_err(|error| {
                tracing::error!(code = error.code(), %error, "a moved pepper was not kept");
                crate::problem::store_unavailable()
            })?;
            app.add_pepper(pepper);
        }
        options.dry_run = false;
        let taken = registry.accept_promotion(actor, &asked.bundle, &all, &options);
        report = taken.await.map_err(of_promotion)?;
    }
    Ok(AcceptedView {
        dry_run: asked.dry_run,
        accepted: report.accepted,
        present: report.present,
        refused: refused_views(report.refused),
    })
}

/// Makes a bundle of keys for another registry, with the peppers that it needs. Nothing changes here:
/// `POST /api/v1/promotions/left` does, once the other registry has taken them. Needs `keys:*` and
/// `registry:write`.
#[utoipa::path(
    post, path = "/api/v1/promotions/bundles", tag = "promotion", request_body = BundleBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is answered the same")),
    responses((status = 200, description = "The bundle", body = BundleView))
)]
pub(crate) async fn bundle(
    State(app): State<App>,
    manager: Manager,
    once: Once<Result<Json<BundleBody>, JsonRejection>>,
) -> Result<Response, Problem> {
    manager.require(KEYS)?;
    manager.require(OUT)?;
    let asked = body(once.body)?;
    let work = make_bundle(&app, &manager, asked);
    let name = once.name;
    name.answered(&app, &manager.actor, work, |_| true).await
}

async fn make_bundle(
    app: &App,
    manager: &Manager,
    asked: BundleBody,
) -> Result<BundleView, Problem> {
    if !(1..=MOST).contains(&asked.key_ids.len()) {
        return Err(too_many());
    }
    let recipient = TransferRecipient::parse(&asked.recipient).ok_or_else(|| {
        let detail = "recipient: age's text of an X25519 key, age1…";
        Problem::bad_request("invalid_recipient", detail)
    })?;
    let own = peppers(app)?;
    let (bundle, refused) = app
        .registry
        .promotion_bundle(&asked.key_ids, &own)
        .await
        .map_err(of_promotion)?;
    let id = bundle.registry_id().to_owned();
    let needed: Vec<String> = bundle.needed_peppers().collect();
    let mut out = own
        .iter()
        .filter(|pepper| needed.contains(&moved_pepper_id(&id, &pepper.id)));
    let peppers = match out.next() {
        None => None,
        Some(first) => {
            let given = out.fold(Peppers::new(first.clone()), |all, one| {
                all.with_older(one.clone())
            });
            let sealed = app
                .registry
                .hand_over_peppers(&manager.actor, &given, &recipient);
            Some(STANDARD.encode(sealed.await.map_err(of_escrow)?))
        }
    };
    Ok(BundleView {
        bundle,
        peppers,
        refused: refused_views(refused),
    })
}

/// Leaves keys to the registry that has taken them: from now on they are changed, rotated and revoked
/// there. Here they verify until their copies are ended. Needs `keys:*`.
#[utoipa::path(
    post, path = "/api/v1/promotions/left", tag = "promotion", request_body = LeftBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is answered the same")),
    responses((status = 200, description = "What could not be left", body = LeftView))
)]
pub(crate) async fn left(
    State(app): State<App>,
    manager: Manager,
    once: Once<Result<Json<LeftBody>, JsonRejection>>,
) -> Result<Response, Problem> {
    manager.require(KEYS)?;
    let asked = body(once.body)?;
    if !(1..=MOST).contains(&asked.key_ids.len()) {
        return Err(too_many());
    }
    let (registry, actor) = (&app.registry, &manager.actor);
    let work = async {
        let marked = registry.mark_promoted(actor, &asked.key_ids, &asked.remote);
        let refused = refused_views(marked.await.map_err(of_promotion)?);
        Ok(LeftView { refused })
    };
    let name = once.name;
    name.answered(&app, actor, work, |_| true).await
}

/// Ends the copy of a key that was left to another registry: it does not verify here any more. A
/// leaked key is to be revoked there as well.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/end-copy", tag = "promotion", request_body = ReasonBody,
    params(("id" = String, Path, description = "The key"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    responses((status = 200, description = "It is refused from now on: here, and where the receipt says so", body = receipts::EndedView), (status = 409, description = "`key_not_promoted`: a key that is kept here is revoked"))
)]
pub(crate) async fn end_copy(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    Reason(reason): Reason,
) -> Result<Response, Problem> {
    let key = key_for(&app, &manager, &id, "keys:write").await?;
    if key.promoted_to.is_none() {
        let detail = "this key is kept here: revoke it";
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "key_not_promoted",
            detail,
        ));
    }
    let ended = app.registry.end_promoted_copy(&manager.actor, &id, &reason);
    Ok(receipts::ended(&app, &ended.await.map_err(problem)?, wait).await)
}

/// Peppers that another node took, once their file was copied here too.
pub(super) async fn find_peppers(app: &App) {
    let Some(own) = app.peppers() else { return };
    let known = match app.registry.list_peppers().await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(code = error.code(), "peppers were not looked for");
            return;
        }
    };
    let mut missing = 0;
    for one in known {
        if !one.is_needed || own.iter().any(|pepper| pepper.id == one.id) {
            continue;
        }
        match app.secrets.pepper(&one.id) {
            Ok(pepper) => app.add_pepper(pepper),
            Err(error) => {
                missing += 1;
                tracing::error!(
                    pepper = one.id,
                    code = error.code(),
                    "keys need a pepper that is not in the folder with the secrets"
                );
            }
        }
    }
    app.operations.metrics.set_peppers_missing(missing);
}
