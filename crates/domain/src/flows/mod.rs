//! How each flow works in this product, step by step: one text for the server's pages, for programs that read
//! (`llms-full.txt`), and for the window, which also replays what really happened on these steps.
//!
//! Text between backticks is code: an endpoint (`POST /oauth2/token`), a parameter or a header, written as it
//! goes over the wire. The server's tests compare the endpoints with its router.

mod authorization_code;
pub mod choosing;
mod device;
mod key_rotation;
mod refresh_token;
mod relying_party;
mod revocation;
#[cfg(test)]
mod tests;
mod token_life;

pub use authorization_code::step as sign_in_step;
pub use refresh_token::step as refresh_step;

/// Somebody who takes part: a lane of the diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The person's browser.
    Browser,
    /// An application, such as the desktop app.
    App,
    /// The Keywright server.
    Server,
    /// An identity provider of somebody else's.
    ExternalIdp,
    /// Something without a browser of its own.
    Device,
    /// A service that is asked with a token.
    Api,
    /// Who manages keys: a person or a pipeline.
    Operator,
    /// What uses a key.
    Program,
}

impl Lane {
    /// What stands at the head of the lane.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Browser => "Browser",
            Self::App => "App",
            Self::Server => "Server",
            Self::ExternalIdp => "External IdP",
            Self::Device => "Device",
            Self::Api => "API",
            Self::Operator => "Operator",
            Self::Program => "Program",
        }
    }
}

/// One step: who tells whom what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowStep {
    /// From 1, without gaps.
    pub n: u8,
    /// Who acts.
    pub from: Lane,
    /// Who is reached; the same lane where nothing is sent.
    pub to: Lane,
    /// What happens, for people.
    pub title: &'static str,
    /// What happens, exactly. Code stands between backticks.
    pub detail: &'static str,
}

impl FlowStep {
    /// `from → to`, or the one actor.
    #[must_use]
    pub fn who(&self) -> String {
        if self.from == self.to {
            self.from.name().to_owned()
        } else {
            format!("{} → {}", self.from.name(), self.to.name())
        }
    }
}

/// Something that goes wrong at a step, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowFailure {
    /// The step that fails.
    pub step: u8,
    /// Stable code of the error.
    pub code: &'static str,
    /// What happened.
    pub title: &'static str,
    /// What follows from it.
    pub detail: &'static str,
}

/// A flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Stable, as in addresses.
    pub id: &'static str,
    /// Its name.
    pub title: &'static str,
    /// One sentence: what it is for.
    pub summary: &'static str,
    /// What a reader knows afterwards.
    pub learn: &'static [&'static str],
    /// From left to right.
    pub lanes: &'static [Lane],
    /// In order.
    pub steps: &'static [FlowStep],
    /// By step.
    pub failures: &'static [FlowFailure],
    /// What surprises people.
    pub note: &'static str,
    /// What to do, one line each.
    pub practices: &'static [&'static str],
    /// Ids of flows that belong to it.
    pub see_also: &'static [&'static str],
    /// The standards: name and address.
    pub resources: &'static [(&'static str, &'static str)],
}

impl Flow {
    /// The failure of a step by its code, where it has words of its own.
    #[must_use]
    pub fn failure(&self, step: u8, code: &str) -> Option<&'static FlowFailure> {
        let mut failures = self.failures.iter();
        failures.find(|failure| failure.step == step && failure.code == code)
    }
}

/// All flows, in the order of the pages.
pub const FLOWS: [Flow; 7] = [
    authorization_code::FLOW,
    relying_party::FLOW,
    refresh_token::FLOW,
    token_life::FLOW,
    device::FLOW,
    revocation::FLOW,
    key_rotation::FLOW,
];

/// A flow by its id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Flow> {
    FLOWS.iter().find(|flow| flow.id == id)
}

/// A text in pieces; `true` for code.
pub fn pieces(text: &str) -> impl Iterator<Item = (bool, &str)> {
    text.split('`')
        .enumerate()
        .map(|(at, piece)| (at % 2 == 1, piece))
        .filter(|(_, piece)| !piece.is_empty())
}
