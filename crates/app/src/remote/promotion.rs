//! Keys of this device move to a server: the same key strings verify before, during and after. What
//! leaves is the stored value of each secret, and its pepper sealed for that server; neither is a key,
//! and the text of a key is nowhere (docs/decisions/0006-promotion.md). Every step can be repeated.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywright_protocol::promotion::{
    NotPromotedView, PromotedKeyView, PromotionRequest, PromotionView,
};
use keywright_registry::{
    LocalRegistry, Peppers, PromotionBundle, RegistryError, TransferRecipient, moved_pepper_id,
};
use serde::{Deserialize, Serialize};

use super::any::AccountToken;
use super::call::{Call, Credentials};
use super::changes::is_unknown;
use super::{RemoteError, RemoteRegistry};
use crate::sign_in::tame;
use crate::{App, AppError};

/// Keys of one bundle: servers take 256 KiB at once.
const CHUNK: usize = if cfg!(test) { 2 } else { 100 };
/// More are moved in several goes.
pub(super) const MOST: usize = 10_000;

#[derive(Deserialize)]
struct Offer {
    recipient: String,
    offer: String,
}

#[derive(Serialize)]
struct AcceptBody<'a> {
    offer: &'a str,
    peppers: String,
    bundle: &'a PromotionBundle,
    dry_run: bool,
    never_expires: bool,
}

#[derive(Default, Deserialize)]
struct Accepted {
    accepted: Vec<String>,
    present: Vec<String>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    key_id: String,
    code: String,
    message: String,
}

impl<C: Credentials> RemoteRegistry<C> {
    async fn offer(&self) -> Result<Offer, AppError> {
        let call = Call::post(&["promotions", "offers"]).repeatable();
        self.write(call).await
    }

    async fn accept(&self, body: &AcceptBody<'_>) -> Result<Accepted, AppError> {
        // A second time changes nothing there.
        let call = Call::post(&["promotions"]).json(body);
        let call = if body.dry_run {
            call.repeatable()
        } else {
            call.repeatable_if_told()
        };
        self.write(call).await
    }

    /// Which keys of a bundle the server has, where its answer did not come. A key of another's with the
    /// same id is not it: the secrets are compared.
    async fn taken_of(
        &self,
        device: &LocalRegistry,
        bundle: &PromotionBundle,
    ) -> Result<Vec<String>, AppError> {
        let mut taken = Vec::new();
        for id in bundle.key_ids() {
            let there = match self.find_api_key(id).await {
                Ok(known) if known.as_of.is_none() => known.value,
                Err(error) if error.code() == "key_not_found" => continue,
                Ok(_) => return Err(RemoteError::OutcomeUnknown(self.host().to_owned()).into()),
                Err(error) => return Err(error),
            };
            let (here, _) = device.find_api_key(id).await?;
            let mut kids = here.secrets.iter().map(|secret| &secret.kid);
            if kids.any(|kid| there.secrets.iter().any(|secret| secret.kid == *kid)) {
                taken.push(id.to_owned());
            }
        }
        Ok(taken)
    }
}

impl App {
    /// Moves keys of this device to an account's server, or says what would become of each. Keys that
    /// the server has taken are left to it: changed, rotated and revoked there from now on.
    ///
    /// # Errors
    /// [`AppError::Registry`], [`AppError::Keychain`]; [`RemoteError`], among them
    /// [`RemoteError::NotSoMany`] for no keys, which are never all of them, and for too many,
    /// `registry_offline` and `commit_unknown`, where nothing is known to have moved. What stops a move
    /// later stands in the view. The same call again goes on.
    pub async fn promote_keys(&self, request: PromotionRequest) -> Result<PromotionView, AppError> {
        let _running = (!request.dry_run).then(|| self.inner.work.begin());
        let registry = self.inner.registry.get().await?;
        let account = registry.find_account(&request.account_id).await?;
        let remote = self.remote(&account)?;
        if !(1..=MOST).contains(&request.key_ids.len()) {
            return Err(RemoteError::NotSoMany(request.key_ids.len()).into());
        }
        let names = names(&registry, &request.key_ids).await?;
        let peppers = self.peppers(&registry).await?;
        let peppers = peppers.ok_or(RegistryError::KeyNotFound)?;
        let mut ids: Vec<String> = names.keys().cloned().collect();
        ids.sort();
        let mut view = PromotionView {
            dry_run: request.dry_run,
            ..PromotionView::default()
        };
        let order = Move {
            app: self,
            registry: &registry,
            remote: &remote,
            peppers: &peppers,
            names: &names,
            issuer: &account.issuer,
        };
        for chunk in ids.chunks(CHUNK) {
            let Err(error) = order.move_some(chunk, &mut view).await else {
                continue;
            };
            let nothing = view.moved.is_empty() && view.in_both_places.is_empty();
            if request.dry_run || nothing {
                return Err(error);
            }
            // What came of the keys before stands, whatever stops the rest.
            tracing::warn!(code = error.code(), "a move stopped before its end");
            view.problem = Some(error.into());
            break;
        }
        Ok(view)
    }

    async fn send_bundle(
        &self,
        registry: &LocalRegistry,
        remote: &RemoteRegistry<AccountToken>,
        bundle: &PromotionBundle,
        peppers: &Peppers,
        dry_run: bool,
    ) -> Result<Accepted, AppError> {
        let offer = remote.offer().await?;
        let recipient = TransferRecipient::parse(&offer.recipient)
            .ok_or_else(|| RemoteError::NotKeywright(remote.host().to_owned()))?;
        let id = bundle.registry_id();
        let needed: Vec<String> = bundle.needed_peppers().collect();
        let mut given = peppers
            .iter()
            .filter(|pepper| needed.contains(&moved_pepper_id(id, &pepper.id)))
            .cloned();
        let first = given.next().ok_or(RegistryError::PepperMissing)?;
        // No other pepper than those that these keys were made with.
        let given = given.fold(Peppers::new(first), Peppers::with_older);
        let sealed = registry
            .hand_over_peppers(&self.inner.actor, &given, &recipient)
            .await
            .map_err(of_escrow)?;
        let body = AcceptBody {
            offer: &offer.offer,
            peppers: STANDARD.encode(sealed),
            bundle,
            dry_run,
            never_expires: self.inner.settings.current().allow_never_expires,
        };
        remote.accept(&body).await
    }
}

/// One move, whatever it takes: keys of this device, and where they go.
struct Move<'a> {
    app: &'a App,
    registry: &'a LocalRegistry,
    remote: &'a RemoteRegistry<AccountToken>,
    peppers: &'a Peppers,
    names: &'a HashMap<String, String>,
    issuer: &'a str,
}

impl Move<'_> {
    fn name(&self, id: &str) -> String {
        self.names.get(id).cloned().unwrap_or_default()
    }

    /// Moves the keys of one bundle, or judges them. What is certain is in the view, also after an error.
    async fn move_some(&self, ids: &[String], view: &mut PromotionView) -> Result<(), AppError> {
        let (bundle, refused) = self.registry.promotion_bundle(ids, self.peppers).await?;
        for one in refused {
            // An earlier try moved it there.
            if one.code == "key_promoted" && self.is_left(&one.key_id).await {
                view.moved.push(PromotedKeyView {
                    name: self.name(&one.key_id),
                    key_id: one.key_id,
                });
                continue;
            }
            view.refused.push(NotPromotedView {
                name: self.name(&one.key_id),
                key_id: one.key_id,
                code: one.code.to_owned(),
                message: one.message,
            });
        }
        if bundle.key_ids().next().is_none() {
            return Ok(());
        }
        let sent = self.app.send_bundle(
            self.registry,
            self.remote,
            &bundle,
            self.peppers,
            view.dry_run,
        );
        let (answer, unknown) = match sent.await {
            Ok(answer) => (answer, None),
            Err(error) if is_unknown(&error) => {
                let Ok(present) = self.remote.taken_of(self.registry, &bundle).await else {
                    return Err(error);
                };
                // What is not there may still be on its way.
                let all = present.len() == bundle.key_ids().count();
                let answer = Accepted {
                    present,
                    ..Accepted::default()
                };
                (answer, Some(error).filter(|_| !all))
            }
            Err(error) => return Err(error),
        };
        let taken: Vec<String> = answer
            .accepted
            .into_iter()
            .chain(answer.present)
            // A server cannot take what it was not sent.
            .filter(|id| bundle.key_ids().any(|sent| sent == id))
            .collect();
        for one in answer.refused {
            view.refused.push(NotPromotedView {
                name: self.name(&one.key_id),
                key_id: tame(&one.key_id, 60),
                code: tame(&one.code, 60),
                message: tame(&one.message, 300),
            });
        }
        self.note_taken(taken, view).await?;
        unknown.map_or(Ok(()), Err)
    }

    /// Leaves to the server what it has taken, and tells it of every key. Where that cannot be written down, the
    /// rest is not tried: it lives in both places until the same move is asked for again.
    async fn note_taken(
        &self,
        taken: Vec<String>,
        view: &mut PromotionView,
    ) -> Result<(), AppError> {
        let mut stopped = None;
        for id in taken {
            let why = match (&stopped, view.dry_run) {
                (_, true) => None,
                (Some(error), false) => Some(not_left(error)),
                (None, false) => match self.leave(&id).await {
                    Ok(why) => why,
                    Err(error) => {
                        let why = not_left(&error);
                        stopped = Some(error);
                        // A commit whose answer did not come may be one.
                        (!self.is_left(&id).await).then_some(why)
                    }
                },
            };
            let name = self.name(&id);
            match why {
                None => view.moved.push(PromotedKeyView { key_id: id, name }),
                Some((code, message)) => {
                    tracing::warn!(key = id, code, "a moved key was not left");
                    view.in_both_places.push(NotPromotedView {
                        key_id: id,
                        name,
                        code: code.to_owned(),
                        message,
                    });
                }
            }
        }
        stopped.map_or(Ok(()), Err)
    }

    /// Leaves one key to the server. Returns why it is not, where a rule forbids that.
    async fn leave(&self, id: &str) -> Result<Option<(&'static str, String)>, AppError> {
        let actor = &self.app.inner.actor;
        let ids = [id.to_owned()];
        let left = self
            .registry
            .mark_promoted(actor, &ids, self.issuer)
            .await?;
        let refused = left.into_iter().next();
        Ok(refused.map(|one| (one.code, one.message)))
    }

    /// Whether a key is left to this server.
    async fn is_left(&self, id: &str) -> bool {
        let found = self.registry.find_api_key(id).await;
        found.is_ok_and(|(key, _)| key.promoted_to.as_deref() == Some(self.issuer))
    }
}

fn not_left(error: &AppError) -> (&'static str, String) {
    (error.code(), error.to_string())
}

fn of_escrow(error: keywright_registry::EscrowError) -> AppError {
    match error {
        keywright_registry::EscrowError::Registry(error) => error.into(),
        other => RegistryError::Store(other.to_string()).into(),
    }
}

/// Ids and names of the keys that were asked for.
async fn names(
    registry: &LocalRegistry,
    asked: &[String],
) -> Result<HashMap<String, String>, AppError> {
    let mut names = HashMap::new();
    for id in asked {
        let (key, _) = registry.find_api_key(id).await?;
        names.insert(key.id, key.name);
    }
    Ok(names)
}
