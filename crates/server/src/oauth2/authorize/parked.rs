//! A request that waits while its person signs in or decides. It waits in the browser's address,
//! sealed with the server's secrets: nothing is kept here for browsers that never come back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::people::{CLOCKS_APART_MS, Client, Sealed, TokenDigest};
use serde::{Deserialize, Serialize};

use crate::browser_session::SignedIn;
use crate::http::Params;
use crate::oauth2::authorization_request;
use crate::server::App;

const PURPOSE: &str = "authorization request";
/// How long a person may take.
const LIFE_MS: i64 = 30 * 60 * 1000;

/// A parked request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Parked {
    /// What we read of it, form-encoded.
    pub(crate) params: String,
    /// Whether the client proved itself when it sent it.
    pub(crate) pushed: bool,
    /// When it came (Unix ms).
    at: i64,
    /// The browser was sent to the sign-in page.
    sent: Option<Sent>,
    /// Whose decision the consent page asks for.
    pub(crate) asks: Option<String>,
}

/// That a browser was sent to the sign-in page.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Sent {
    at: i64,
    /// The session's token at that moment, as its digest.
    before: Option<[u8; 32]>,
}

impl Parked {
    /// Parks a request.
    pub(crate) fn new(app: &App, client: &Client, params: &Params, pushed: bool) -> Self {
        Self {
            params: authorization_request::encode(client, params),
            pushed,
            at: app.now(),
            sent: None,
            asks: None,
        }
    }

    /// The same, with a browser that goes to the sign-in page now.
    pub(crate) fn sent_to_sign_in(&self, app: &App, session: Option<&TokenDigest>) -> Self {
        let sent = Sent {
            at: app.now(),
            before: session.map(|digest| *digest.as_bytes()),
        };
        Self {
            sent: Some(sent),
            asks: None,
            ..self.clone()
        }
    }

    /// The same, with a question that only this person answers.
    pub(crate) fn asking(&self, user_id: &str) -> Self {
        Self {
            asks: Some(user_id.to_owned()),
            ..self.clone()
        }
    }

    /// Whether the person proved who they are because this request asked them to. Two nodes may have written
    /// the two moments; what makes it a new proof is the session's other token.
    pub(crate) fn was_answered_by(&self, signed_in: &SignedIn) -> bool {
        self.sent.as_ref().is_some_and(|sent| {
            signed_in
                .session
                .authenticated_at
                .saturating_add(CLOCKS_APART_MS)
                >= sent.at
                && sent.before.as_ref() != Some(signed_in.digest.as_bytes())
        })
    }

    /// As text for an address or a form.
    pub(crate) fn seal(&self, app: &App) -> String {
        // It cannot fail for texts and numbers, though its type can: what is empty opens for nobody.
        let json = serde_json::to_vec(self).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(app.secrets.seal(PURPOSE, &json).as_bytes())
    }

    /// Reads it again; none for what is too old or not ours.
    pub(crate) fn open(app: &App, text: &str) -> Option<Self> {
        let sealed = Sealed::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        let json = app.secrets.unseal(PURPOSE, &sealed).ok()?;
        let parked: Self = serde_json::from_slice(&json).ok()?;
        (parked.at + LIFE_MS > app.now()).then_some(parked)
    }

    /// The path at which it goes on, with the base path.
    pub(crate) fn resume_path(&self, app: &App) -> String {
        let sealed = self.seal(app);
        app.settings
            .path(&format!("/oauth2/authorize/resume?request={sealed}"))
    }
}
